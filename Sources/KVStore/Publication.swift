// What the store has made visible: the published state, and everybody who waits for it to move on.
//
// Invariants
// - The published state never goes back, and is published only after it is durable, or after a record that need not
//   be (an acknowledgement or a cursor that the hub repeats on request).
// - A waiter is resumed exactly once: by progress, by failure, by closing, or by cancellation.

import KVLog
import Synchronization

final class Publication: Sendable {
  enum Condition: Sendable {
    case versionBeyond(Version)
    case acknowledged(Version)

    func isMet(by state: StoreState) -> Bool {
      switch self {
      case .versionBeyond(let version): state.version > version
      case .acknowledged(let version): state.acknowledged >= version
      }
    }
  }

  private struct Waiter {
    var condition: Condition
    var continuation: CheckedContinuation<StoreState, any Error>
  }

  private struct Contents {
    var state: StoreState
    /// The shared count of groups at which `state` was the newest.
    var sequence: UInt64
    var failure: StoreError?
    var waiters: [UInt64: Waiter] = [:]
    var nextWaiter: UInt64 = 0
  }

  private let contents: Mutex<Contents>

  private let memory: SharedMemory
  private let watch: Watch

  init(_ state: StoreState, _ sequence: UInt64, _ memory: SharedMemory, _ watch: Watch) {
    contents = Mutex(Contents(state: state, sequence: sequence))
    self.memory = memory
    self.watch = watch
  }

  var state: StoreState { contents.withLock { $0.state } }
  var failure: StoreError? { contents.withLock { $0.failure } }

  var latest: (state: StoreState, sequence: UInt64) { contents.withLock { ($0.state, $0.sequence) } }
  var hasWaiters: Bool { contents.withLock { !$0.waiters.isEmpty } }

  /// An older state than is known changes nothing.
  func publish(_ state: StoreState, _ sequence: UInt64) {
    let met = contents.withLock { contents -> [UInt64: Waiter] in
      guard sequence >= contents.sequence else { return [:] }
      contents.state = state
      contents.sequence = sequence
      let met = contents.waiters.filter { $0.value.condition.isMet(by: state) }
      for id in met.keys { contents.waiters[id] = nil }
      return met
    }
    for waiter in met.values { waiter.continuation.resume(returning: state) }
  }

  /// Ends every wait, now and from now on; the first failure stays.
  func fail(_ error: StoreError) {
    let waiters = contents.withLock { contents in
      if contents.failure == nil { contents.failure = error }
      defer { contents.waiters = [:] }
      return contents.waiters
    }
    for waiter in waiters.values { waiter.continuation.resume(throwing: error) }
  }

  /// Has the watching thread follow the other processes, from what is known here on.
  private func follow() {
    if memory.sequence == latest.sequence { watch.need(memory) } else { memory.wake() }
  }

  /// Suspends until the condition is met, by whichever process; no thread waits meanwhile.
  func wait(for condition: Condition) async throws -> StoreState {
    let id = contents.withLock { contents in
      contents.nextWaiter += 1
      return contents.nextWaiter
    }
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let outcome: Result<StoreState, any Error>? = contents.withLock { contents in
          if condition.isMet(by: contents.state) { return .success(contents.state) }
          if let failure = contents.failure { return .failure(failure) }
          if Task.isCancelled { return .failure(CancellationError()) }
          contents.waiters[id] = Waiter(condition: condition, continuation: continuation)
          return nil
        }
        if let outcome { continuation.resume(with: outcome) } else { follow() }
      }
    } onCancel: {
      let waiter = contents.withLock { $0.waiters.removeValue(forKey: id) }
      waiter?.continuation.resume(throwing: CancellationError())
    }
  }
}
