// The thread that makes relaxed writes durable soon after they returned, and large groups while the writer is busy with
// their rows.
//
// Invariants
// - It synchronises while the log has blocks that are not durable, and blocks nobody: groups are appended meanwhile.
// - A group that waits for it comes first.
// - A failed synchronisation poisons the store; it is never tried again.

import Foundation
import KVLog
import Synchronization

final class Synchronizer: Sendable {
  private struct State {
    /// When the oldest block that is not durable was written.
    var since: Date?
    /// The writer waits for everything appended so far.
    var isAwaited = false
    var outcome: Result<Void, any Error>?
    var isStopping = false
    var hasThread = false
  }

  private let state = Monitor(State())

  /// The log has blocks that are not durable.
  func arm(_ core: StoreCore) {
    // Every relaxed write comes by here: only the first one after a synchronisation has anybody to wake.
    guard state.withLock({ $0.since == nil }) else { return }
    let starts = state.update { state in
      state.since = Date()
      defer { state.hasThread = true }
      return !state.hasThread && !state.isStopping
    }
    if starts { start(core) }
  }

  /// Runs `body` while the thread synchronises the log: both are done when this returns, or have failed when it throws.
  func synchronize(_ core: StoreCore, during body: () throws -> Void) throws {
    let starts = state.update { state in
      precondition(!state.isStopping, "the writer ends before the synchroniser")
      state.isAwaited = true
      state.outcome = nil
      defer { state.hasThread = true }
      return !state.hasThread
    }
    if starts { start(core) }
    let applied = Result { try body() }
    let synchronized = state.wait { state, _ in state.outcome }
    try synchronized.get()
    try applied.get()
  }

  func stop() {
    state.update { $0.isStopping = true }
    state.wait { state, _ in state.hasThread ? nil : () }
  }

  private func start(_ core: StoreCore) {
    Handoff(core).start(threadNamed: "kvsync.sync") { [self] core in
      while true {
        switch next() {
        case .awaited:
          let outcome = Result { _ = try core.log.synchronizeAside() }
          state.update { $0.outcome = outcome }
        case .due: synchronize(core)
        case .end: return
        }
      }
    } ended: { [state] in
      state.update { $0.hasThread = false }
    }
  }

  private enum Turn { case awaited, due, end }

  /// Sleeps until there is something to do.
  private func next() -> Turn {
    let due: Date = state.wait { state, _ in
      if state.isAwaited || state.isStopping { return .distantPast }
      return state.since.map { $0.addingTimeInterval(StoreLimits.relaxedSeconds / 2) }
    }
    return state.wait(until: due) { state, timedOut in
      if state.isAwaited {
        state.isAwaited = false
        state.since = nil
        return .awaited
      }
      if state.isStopping { return .end }
      guard timedOut || Date() >= due else { return nil }
      state.since = nil
      return .due
    }
  }

  private func synchronize(_ core: StoreCore) {
    guard core.publication.failure == nil else { return }
    do {
      _ = try core.log.synchronizeAside()
    } catch {
      _ = core.poison(error)
    }
  }
}
