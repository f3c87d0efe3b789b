// Who may write next, and when: one sender at a time, and only while little is waiting for the kernel.
//
// Invariants:
// - Senders have their turns in the order they asked for them; a message's fragments go out within one turn.
// - At most `outboundHighBytes`, and one frame, are handed to the channel and not yet taken by the kernel.
// - After `fail` nobody waits and nobody is let in. A cancelled task does not wait either.

import KVProtocol
import NIOCore
import Synchronization

final class SendGate: Sendable {
  private enum Wish {
    case turn
    /// At most so many bytes unsent.
    case room(Int)
  }

  private struct Waiter {
    let id: UInt64
    let wish: Wish
    let continuation: CheckedContinuation<TransportError?, Never>
  }

  private struct State {
    var failure: TransportError?
    var isTaken = false
    var unsentBytes = 0
    /// When the kernel last took a frame, or the first of those that wait came.
    var lastTaken = NIODeadline.now()
    var nextID: UInt64 = 0
    var waiters: [Waiter] = []

    /// Grants the wish if it can be granted now.
    mutating func grant(_ wish: Wish) -> Bool {
      switch wish {
      case .turn:
        guard !isTaken else { return false }
        isTaken = true
        return true
      case .room(let limit):
        return unsentBytes <= limit
      }
    }

    mutating func add(_ bytes: Int) {
      if unsentBytes == 0 { lastTaken = .now() }
      unsentBytes += bytes
    }

    mutating func grantWaiting() {
      guard !waiters.isEmpty else { return }
      var left: [Waiter] = []
      for waiter in waiters {
        if grant(waiter.wish) { waiter.continuation.resume(returning: nil) } else { left.append(waiter) }
      }
      waiters = left
    }
  }

  private let state = Mutex(State())

  /// Waits for the turn; whoever gets it calls `leave`.
  func enter() async throws(TransportError) {
    try await wait(for: .turn)
  }

  /// The turn and the room for `bytes`, if nobody waits and everything before is with the kernel. Who gets them calls `leave`
  /// and `sent` all the same.
  func enterAtOnce(_ bytes: Int) -> Bool {
    state.withLock { state in
      guard state.failure == nil, state.waiters.isEmpty, state.unsentBytes == 0, state.grant(.turn)
      else { return false }
      state.add(bytes)
      return true
    }
  }

  func leave() {
    state.withLock { state in
      state.isTaken = false
      state.grantWaiting()
    }
  }

  /// Waits for room; the caller then hands `bytes` to the channel and calls `sent` when the kernel has them.
  func reserve(_ bytes: Int) async throws(TransportError) {
    if state.withLock({ $0.unsentBytes }) >= ProtocolLimits.outboundHighBytes {
      try await wait(for: .room(ProtocolLimits.outboundLowBytes))
    }
    state.withLock { $0.add(bytes) }
  }

  func sent(_ bytes: Int) {
    state.withLock { state in
      state.unsentBytes -= bytes
      state.lastTaken = .now()
      state.grantWaiting()
    }
  }

  /// Whether nobody waits, nobody has the turn, and the kernel has everything.
  var isIdle: Bool { state.withLock { $0.unsentBytes == 0 && !$0.isTaken && $0.waiters.isEmpty && $0.failure == nil } }

  /// For how long the kernel has taken none of the frames that wait.
  var unsentTime: Duration {
    state.withLock { $0.unsentBytes > 0 ? .nanoseconds((.now() - $0.lastTaken).nanoseconds) : .zero }
  }

  /// Waits until the kernel has everything.
  func drain() async throws(TransportError) {
    try await wait(for: .room(0))
  }

  /// Ends all waiting, for good.
  func fail(_ error: TransportError) {
    let waiters = state.withLock { state in
      if state.failure == nil { state.failure = error }
      defer { state.waiters = [] }
      return state.waiters
    }
    for waiter in waiters { waiter.continuation.resume(returning: error) }
  }

  private func wait(for wish: Wish) async throws(TransportError) {
    let id: UInt64? = try state.withLock { state throws(TransportError) -> UInt64? in
      if let failure = state.failure { throw failure }
      if state.grant(wish) { return nil }
      state.nextID += 1
      return state.nextID
    }
    guard let id else { return }
    let failure = await withTaskCancellationHandler {
      await withCheckedContinuation { (continuation: CheckedContinuation<TransportError?, Never>) in
        state.withLock { state in
          let cancelled: TransportError? = Task.isCancelled ? .cancelled : nil
          if let failure = state.failure ?? cancelled {
            continuation.resume(returning: failure)
          } else if state.grant(wish) {
            continuation.resume(returning: nil)
          } else {
            state.waiters.append(Waiter(id: id, wish: wish, continuation: continuation))
          }
        }
      }
    } onCancel: {
      state.withLock { state in
        guard let index = state.waiters.firstIndex(where: { $0.id == id }) else { return }
        state.waiters.remove(at: index).continuation.resume(returning: .cancelled)
      }
    }
    if let failure { throw failure }
  }
}
