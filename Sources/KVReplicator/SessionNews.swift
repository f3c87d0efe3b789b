// What there is to tell the program of a session: how far it is, that it has caught up, what it has mended.
//
// Invariants:
// - The program is told by one task at a time, never on an event loop, and it may take its time: news that come meanwhile are
//   told together. So what it is told never goes backwards.
// - Each repair is told once, and before the session's end; that it has caught up, once.

import Synchronization

final class SessionNews: Sendable {
  private struct State {
    var isDue = false
    /// nil: not yet; false: to be told; true: told.
    var caughtUp: Bool?
    var repairs: [Repair] = []
    var lastProgress = ContinuousClock.now
  }

  private let surroundings: SessionRunner.Surroundings
  private let state = Mutex(State())
  /// Says that there are news.
  private let (signs, end) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))

  init(_ surroundings: SessionRunner.Surroundings) {
    self.surroundings = surroundings
  }

  /// The session has gone on.
  func went(isCaughtUp: Bool, at now: ContinuousClock.Instant) {
    state.withLock { state in
      if isCaughtUp, state.caughtUp == nil {
        state.caughtUp = false
        state.isDue = true
      } else if now - state.lastProgress >= SessionRunner.progressInterval {
        state.isDue = true
      }
      guard state.isDue else { return }
      state.lastProgress = now
      end.yield()
    }
  }

  func mended(_ repair: Repair) {
    state.withLock { state in
      state.repairs.append(repair)
      state.isDue = true
      end.yield()
    }
  }

  /// Tells the news as they come, with a report of that time, until `finish` is called or the task is cancelled.
  func run(_ report: () -> SyncReport) async {
    for await _ in signs { tell(report) }
  }

  func finish() { end.finish() }

  /// Tells what has not been told, and how far the session came; after `run`.
  func tell(last report: SyncReport) {
    state.withLock { $0.isDue = true }
    tell { report }
  }

  private func tell(_ report: () -> SyncReport) {
    let news: (repairs: [Repair], hasCaughtUp: Bool)? = state.withLock { state in
      guard state.isDue else { return nil }
      defer {
        state.isDue = false
        state.repairs = []
        if state.caughtUp == false { state.caughtUp = true }
      }
      return (state.repairs, state.caughtUp == false)
    }
    guard let news else { return }
    let report = report()
    for repair in news.repairs { surroundings.repaired(repair) }
    surroundings.progress(report)
    guard news.hasCaughtUp else { return }
    surroundings.caughtUp(report)
    surroundings.board.listeners.tell(.caughtUp(report))
  }
}
