// Says when a connection has nothing being stored, to the connection of the same replica that takes over from it.
//
// Invariants:
// - Whoever waits is woken when the last admission under way is done, at the latest when the connection ends.
// - A cancelled task does not wait.

import Synchronization

final class AdmissionGate: Sendable {
  private struct State {
    var underWay = 0
    var hasEnded = false
    var nextID: UInt64 = 0
    var waiters: [UInt64: CheckedContinuation<Void, Never>] = [:]

    var isIdle: Bool { underWay == 0 || hasEnded }

    mutating func takeWaiters() -> [CheckedContinuation<Void, Never>] {
      guard isIdle else { return [] }
      defer { waiters = [:] }
      return Array(waiters.values)
    }
  }

  private let state = Mutex(State())

  /// An admission has been asked for.
  func began() { state.withLock { $0.underWay += 1 } }

  /// It has been answered.
  func finished() { change { $0.underWay -= 1 } }

  /// The connection is over: what was asked for and not begun never will be.
  func end() { change { $0.hasEnded = true } }

  /// Waits until nothing is under way.
  func idle() async {
    let id = state.withLock { state in
      state.nextID += 1
      return state.nextID
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let goesOn = state.withLock { state in
          if state.isIdle || Task.isCancelled { return true }
          state.waiters[id] = continuation
          return false
        }
        if goesOn { continuation.resume() }
      }
    } onCancel: {
      state.withLock { $0.waiters.removeValue(forKey: id) }?.resume()
    }
  }

  private func change(_ body: (inout State) -> Void) {
    let woken = state.withLock { state in
      body(&state)
      return state.takeWaiters()
    }
    for waiter in woken { waiter.resume() }
  }
}
