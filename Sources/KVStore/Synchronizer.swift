// The thread that makes relaxed writes durable soon after they returned.
//
// Invariants
// - It runs while the log has blocks that are not durable, and blocks nobody: groups are appended while it synchronises.
// - A failed synchronisation poisons the store; it is never tried again.

import Foundation
import KVLog
import Synchronization

final class Synchronizer: Sendable {
  private struct State {
    /// When the oldest block that is not durable was written.
    var since: Date?
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
    guard starts else { return }
    Handoff(core).start(threadNamed: "kvsync.sync") { [self] core in
      while let _ = next() { synchronize(core) }
    } ended: { [state] in
      state.update { $0.hasThread = false }
    }
  }

  func stop() {
    state.update { $0.isStopping = true }
    state.wait { state, _ in state.hasThread ? nil : () }
  }

  /// Sleeps until it is time; nil at the end.
  private func next() -> Date? {
    while true {
      let since: Date? = state.wait { state, _ in state.isStopping ? .some(nil) : state.since.map { .some($0) } }
      guard let since else { return nil }
      let due = since.addingTimeInterval(StoreLimits.relaxedSeconds / 2)
      state.wait(until: due) { state, timedOut in state.isStopping || timedOut || Date() >= due ? () : nil }
      state.withLock { $0.since = nil }
      return due
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
