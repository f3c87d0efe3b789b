// The thread that prepares the log's next segment while the present one is being filled.
//
// Invariants
// - It lives while it prepares one, and ends early when the store is closed.

import KVLog

final class LogPreparer: Sendable {
  private struct State {
    var isRunning = false
    var isStopping = false
    var count: UInt64 = 0
  }

  private let state = Monitor(State())

  /// After a block was appended; under the writer's lock.
  func prepare(_ core: StoreCore) {
    guard core.log.beginPreparingSegment() else { return }
    let number: UInt64? = state.update { state in
      if state.isStopping { return nil }
      state.isRunning = true
      state.count += 1
      return state.count
    }
    guard let number else { return core.log.prepareSegment(core.process, 0, leaving: .max) { false } }
    Handoff(core).start(threadNamed: "kvsync.log") { [state] core in
      core.log.prepareSegment(core.process, number, leaving: UInt64(2 * core.tail.diskBytes)) {
        state.withLock { !$0.isStopping }
      }
    } ended: { [state] in
      state.update { $0.isRunning = false }
    }
  }

  func stop(_ core: StoreCore) {
    state.update { $0.isStopping = true }
    state.wait { state, _ in state.isRunning ? nil : () }
    core.log.discardPreparedSegment()
  }
}
