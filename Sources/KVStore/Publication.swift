// What the store has made visible: the published state, and everybody who waits for it to move on.
//
// Invariants
// - The published state never goes back, and is published only after it is durable, or after a record that need not
//   be (an acknowledgement or a cursor that the hub repeats on request).
// - A waiter is resumed exactly once: by progress, by failure, by closing, or by cancellation.
// - Publishing costs what is met by it, not what waits.

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

  private typealias Waiter = CheckedContinuation<StoreState, any Error>

  private struct Contents {
    var state: StoreState
    /// The shared count of groups at which `state` was the newest.
    var sequence: UInt64
    var failure: StoreError?
    /// Of the condition's kind, by the first version that meets it.
    var forVersion = WaitList<Waiter>()
    var forAcknowledgement = WaitList<Waiter>()
    var nextWaiter: UInt64 = 0
    /// Asked what has become of a commit.
    weak var core: StoreCore?

    var hasWaiters: Bool { !forVersion.isEmpty || !forAcknowledgement.isEmpty }

    mutating func add(_ waiter: Waiter, _ condition: Condition, _ number: UInt64) {
      switch condition {
      case .versionBeyond(let version): forVersion.add(waiter, for: version + 1, number: number)
      case .acknowledged(let version): forAcknowledgement.add(waiter, for: version, number: number)
      }
    }

    mutating func remove(_ condition: Condition, _ number: UInt64) -> Waiter? {
      switch condition {
      case .versionBeyond(let version): forVersion.remove(number, for: version + 1)
      case .acknowledged(let version): forAcknowledgement.remove(number, for: version)
      }
    }

    mutating func takeMet() -> [Waiter] {
      forVersion.take(through: state.version) + forAcknowledgement.take(through: state.acknowledged)
    }

    mutating func takeAll() -> [Waiter] { forVersion.take(through: .max) + forAcknowledgement.take(through: .max) }
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
  var hasWaiters: Bool { contents.withLock { $0.hasWaiters } }

  /// Those who look a commit's fate up find the store by this.
  func attach(_ core: StoreCore) { contents.withLock { $0.core = core } }
  var core: StoreCore? { contents.withLock { $0.core } }

  /// An older state than is known changes nothing.
  func publish(_ state: StoreState, _ sequence: UInt64) {
    let met = contents.withLock { contents -> [Waiter] in
      guard sequence >= contents.sequence else { return [] }
      contents.state = state
      contents.sequence = sequence
      return contents.takeMet()
    }
    for waiter in met { waiter.resume(returning: state) }
  }

  /// Ends every wait, now and from now on; the first failure stays.
  func fail(_ error: StoreError) {
    let waiters = contents.withLock { contents in
      if contents.failure == nil { contents.failure = error }
      return contents.takeAll()
    }
    for waiter in waiters { waiter.resume(throwing: error) }
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
          contents.add(continuation, condition, id)
          return nil
        }
        if let outcome { continuation.resume(with: outcome) } else { follow() }
      }
    } onCancel: {
      let waiter = contents.withLock { $0.remove(condition, id) }
      waiter?.resume(throwing: CancellationError())
    }
  }
}
