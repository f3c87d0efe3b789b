// Those who wait until everything that the hub had at some moment after they asked is here.
//
// Invariants
// - Callers are numbered; a session serves them in order, and a number is served once for all callers up to it.
// - A session that breaks leaves the unserved to the next one.

import Synchronization

final class CatchUps: Sendable {
  private struct Contents {
    var asked: UInt64 = 0
    var served: UInt64 = 0
    var waiting: [(number: UInt64, continuation: CheckedContinuation<Void, any Error>)] = []
    var session: (@Sendable (UInt64) -> Void)?
  }

  private let contents = Mutex(Contents())

  /// The session that serves from now on; nil: there is none. It is told what has been asked for so far.
  func serve(_ session: (@Sendable (UInt64) -> Void)?) {
    let asked = contents.withLock { contents in
      contents.session = session
      return contents.asked
    }
    if asked > 0 { session?(asked) }
  }

  /// Suspends until served. Throws `CancellationError`, or what `fail` is told.
  func wait() async throws {
    let number = contents.withLock { contents in
      contents.asked += 1
      return contents.asked
    }
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
        let session = contents.withLock { contents -> (@Sendable (UInt64) -> Void)? in
          if Task.isCancelled {
            continuation.resume(throwing: CancellationError())
            return nil
          }
          if number <= contents.served {
            continuation.resume()
            return nil
          }
          // Numbers and places are taken one after the other, by several callers in any order.
          let place = contents.waiting.lastIndex { $0.number < number }.map { $0 + 1 } ?? 0
          contents.waiting.insert((number, continuation), at: place)
          return contents.session
        }
        session?(number)
      }
    } onCancel: {
      contents.withLock { contents in
        guard let place = contents.waiting.firstIndex(where: { $0.number == number }) else { return }
        contents.waiting.remove(at: place).continuation.resume(throwing: CancellationError())
      }
    }
  }

  func reached(_ number: UInt64) {
    let served = contents.withLock { contents in
      contents.served = max(contents.served, number)
      let served = contents.waiting.prefix { $0.number <= number }
      contents.waiting.removeFirst(served.count)
      return served
    }
    for waiter in served { waiter.continuation.resume() }
  }

  /// Nobody will be served: this is why.
  func fail(_ error: any Error) {
    let waiting = contents.withLock { contents in
      defer { contents.waiting = [] }
      return contents.waiting
    }
    for waiter in waiting { waiter.continuation.resume(throwing: error) }
  }
}
