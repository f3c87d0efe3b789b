// What may change a replicator's mind from outside while it works or waits: pausing, resuming, and word that the network
// is back.
//
// Invariants
// - Whoever waits notices a change that was made before he began to wait.
// - A hint that the network is back leads to one try, and to one a second at most.

import Synchronization

final class RunControl: Sendable {
  /// What has happened so far, counted: who has seen so much knows what is new.
  struct Signs: Sendable, Equatable {
    var hints: UInt64 = 0
    var resumptions: UInt64 = 0
  }

  private struct Contents {
    var isPaused = false
    var signs = Signs()
    var waiters: [UInt64: Waiter] = [:]
    var next: UInt64 = 0
    /// When a hint was last followed.
    var lastFollowed: ContinuousClock.Instant?
  }

  private struct Waiter {
    var isMet: @Sendable (Bool, Signs) -> Bool
    var continuation: CheckedContinuation<Void, Never>
  }

  /// Tries because of hints are at least so far apart: a network that comes and goes must not become a load on the hub.
  static let hintInterval = Duration.seconds(1)

  private let contents = Mutex(Contents())

  var isPaused: Bool { contents.withLock { $0.isPaused } }
  var signs: Signs { contents.withLock { $0.signs } }

  /// Returns whether that is a change.
  func setPaused(_ isPaused: Bool) -> Bool {
    change { contents in
      guard contents.isPaused != isPaused else { return false }
      contents.isPaused = isPaused
      if !isPaused { contents.signs.resumptions += 1 }
      return true
    }
  }

  func networkIsBack() { change { $0.signs.hints += 1 } }

  /// Returns when paused, or cancelled.
  func untilPaused() async { await wait { isPaused, _ in isPaused } }

  /// Returns when not paused any more, or cancelled.
  func untilResumed() async { await wait { isPaused, _ in !isPaused } }

  /// Waits until `deadline`, or until something beyond `seen` makes it worth trying before. Returns whether that was a
  /// hint, and nothing else.
  func wait(until deadline: ContinuousClock.Instant, seen: Signs) async -> Bool {
    let isEarly = await Self.before(deadline) { await self.wait { $0 || $1 != seen } }
    guard isEarly, !isPaused, signs.resumptions == seen.resumptions, !Task.isCancelled else { return false }
    // A hint. Several in a row are one.
    let earliest = contents.withLock { $0.lastFollowed.map { $0 + Self.hintInterval } }
    if let earliest, earliest > .now {
      guard earliest < deadline else {
        _ = await Self.before(deadline) { await self.untilPaused() }
        return false
      }
      if await Self.before(earliest, { await self.untilPaused() }) { return false }
    }
    contents.withLock { $0.lastFollowed = .now }
    return !Task.isCancelled
  }

  /// Runs `work` until `deadline` at the latest, then cancels it. Returns whether it had ended by itself before.
  private static func before(
    _ deadline: ContinuousClock.Instant, _ work: @escaping @Sendable () async -> Void
  ) async -> Bool {
    await withTaskGroup(of: Bool.self) { group in
      group.addTask {
        await work()
        return !Task.isCancelled
      }
      group.addTask {
        try? await Task.sleep(until: deadline, clock: .continuous)
        return false
      }
      let isEarly = await group.next() ?? false
      group.cancelAll()
      return isEarly
    }
  }

  @discardableResult
  private func change<Result: Sendable>(_ body: (inout Contents) -> Result) -> Result {
    let (result, met) = contents.withLock { contents in
      let result = body(&contents)
      let met = contents.waiters.filter { $0.value.isMet(contents.isPaused, contents.signs) }
      for number in met.keys { contents.waiters[number] = nil }
      return (result, met)
    }
    for waiter in met.values { waiter.continuation.resume() }
    return result
  }

  private func wait(_ isMet: @escaping @Sendable (_ isPaused: Bool, _ signs: Signs) -> Bool) async {
    let number = contents.withLock { contents in
      contents.next += 1
      return contents.next
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let isOver = contents.withLock { contents in
          if Task.isCancelled || isMet(contents.isPaused, contents.signs) { return true }
          contents.waiters[number] = Waiter(isMet: isMet, continuation: continuation)
          return false
        }
        if isOver { continuation.resume() }
      }
    } onCancel: {
      let waiter = contents.withLock { $0.waiters.removeValue(forKey: number) }
      waiter?.continuation.resume()
    }
  }
}
