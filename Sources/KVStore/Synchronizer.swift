// The thread that makes relaxed writes durable soon after they returned, those of this process and those of another one that
// died before it had done so, and large groups while the writer is busy with their rows.
//
// Invariants
// - It synchronises while the log has blocks that are not durable, and blocks nobody: groups are appended meanwhile.
// - A group that waits for it comes first.
// - A relaxed group is synchronised by its own process after `ownSeconds`. Should that process be killed, then by any other
//   `othersMilliseconds` after the last relaxed group: the sum is what `Durability.relaxed` promises.
// - A process sleeps for ever only when no relaxed group is younger than that, and the process that writes one after such
//   a pause wakes all: so that whatever returned has somebody to synchronise it as long as one process lives.
// - A failed synchronisation poisons the store; it is never tried again.

import KVLog
import Synchronization

final class Synchronizer: Sendable {
  private struct State {
    /// When to synchronise; nil: nothing here is known not to be durable.
    var due: Deadline?
    /// The writer waits for everything appended so far.
    var isAwaited = false
    var outcome: Result<Void, any Error>?
    var isStopping = false
    var hasThread = false
  }

  private static let ownSeconds = StoreLimits.relaxedSeconds * 0.4
  private static let othersMilliseconds = UInt64(StoreLimits.relaxedSeconds * 0.6 * 1_000)

  private let state = Monitor(State())

  /// The log has blocks that are not durable; under the writer's lock, before the write returns.
  func arm(_ core: StoreCore) {
    let last = core.memory.lastRelaxed
    core.memory.lastRelaxed = monotonicMilliseconds()
    // A process that has gone to sleep for ever read the clock, then saw the last group, and found it old. So does this one,
    // whose clock is later.
    if monotonicMilliseconds() >= last + Synchronizer.othersMilliseconds { core.memory.wake() }
    begin(core, in: Synchronizer.ownSeconds)
  }

  /// Takes over what another process may have left. Gives the milliseconds after which to look again; nil: not before a
  /// relaxed group is written.
  func lookAfterOthers(_ core: StoreCore) -> UInt64? {
    let now = monotonicMilliseconds()
    let end = core.memory.lastRelaxed + Synchronizer.othersMilliseconds
    guard now >= end else { return end - now }
    if core.memory.durableVersion < core.publication.state.version { begin(core, in: 0) }
    return nil
  }

  private func begin(_ core: StoreCore, in seconds: Double) {
    // Every relaxed write comes by here: only the first one after a synchronisation has anybody to wake.
    guard state.withLock({ $0.due == nil }) else { return }
    let starts = state.update { state in
      if state.isStopping { return false }
      state.due = Deadline(secondsFromNow: seconds)
      defer { state.hasThread = true }
      return !state.hasThread
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
    let due: Deadline? = state.wait { state, _ in
      if state.isAwaited || state.isStopping { return .some(nil) }
      return state.due.map { .some($0) }
    }
    return state.wait(until: due) { state, _ in
      if state.isAwaited {
        state.isAwaited = false
        state.due = nil
        return .awaited
      }
      if state.isStopping { return .end }
      guard let due, due.isOver else { return nil }
      state.due = nil
      return .due
    }
  }

  private func synchronize(_ core: StoreCore) {
    guard core.publication.failure == nil else { return }
    // What is published now has been appended; what is appended meanwhile may be taken back.
    let published = core.publication.state
    do {
      var durable = try core.log.synchronizeAside()?.version ?? 0
      if durable < published.version, core.memory.durableVersion < published.version {
        try core.log.synchronize(through: published.position)
        durable = published.version
      }
      core.memory.raiseDurableVersion(to: min(durable, published.version))
    } catch {
      _ = core.poison(error)
    }
  }
}
