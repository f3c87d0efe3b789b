// The background thread that folds sealed generations into the index, and afterwards gives log segments back that
// nobody needs any more.
//
// Invariants
// - Generations are folded oldest first, each wholly, before the next.
// - A log segment goes only when all its commits are folded and acknowledged and the retention lets it go.
// - A full disk is waited out: the folder tries again, writers get `.full` meanwhile, nothing is lost. Any other
//   failure poisons the store.

import Foundation
import KVLog
import LMDB

final class Folder: Sendable {
  private struct State {
    var isStopping = false
    var hasEnded = false
    /// The reason why the folder cannot go on at present.
    var full: (any Error)?
  }

  private let state = Monitor(State())

  func start(_ core: StoreCore) {
    Handoff(core).start(threadNamed: "kvsync.folder") { [self] core in
      run(core)
    } ended: { [state] in
      state.update { $0.hasEnded = true }
    }
  }

  /// There may be something to fold.
  func wake() { state.update { _ in } }

  /// Ends the thread after the fold under way.
  func stop() {
    state.update { $0.isStopping = true }
    state.wait { state, _ in state.hasEnded ? () : nil }
  }

  /// Waits until another generation may be sealed.
  func waitForRoom(_ core: StoreCore) throws {
    try state.wait { state, _ in
      if core.tail.sealedCount < StoreLimits.sealedGenerations { return () }
      if let full = state.full { throw full }
      if let failure = core.publication.failure { throw failure }
      if state.hasEnded { throw StoreError.closed }
      return nil
    }
  }

  /// Ends the thread and folds what is left, the live generation too: nobody writes any more. A full disk leaves the
  /// rest to the next opening, which replays it.
  func finish(_ core: StoreCore) throws {
    stop()
    if let failure = core.publication.failure { throw failure }
    do {
      for generation in core.tail.oldestFirst {
        try core.index.fold(generation, didCommit: { core.idleSnapshots.expire() })
      }
      try giveBackLog(core)
    } catch let error where StoreError.isFull(error) {}
  }

  private func run(_ core: StoreCore) {
    while true {
      let next: Generation? = state.wait { state, _ in
        if state.isStopping { return .some(nil) }
        return core.tail.oldestSealed.map { .some($0) }
      }
      guard let generation = next else { return }
      do {
        try core.index.fold(generation, didCommit: { core.idleSnapshots.expire() })
        state.update { state in
          core.tail.retire(generation)
          state.full = nil
        }
        core.idleSnapshots.expire()
        // Nobody waits for this: on a full disk the next fold tries again.
        do { try giveBackLog(core) } catch let error where StoreError.isFull(error) {}
      } catch let error where StoreError.isFull(error) {
        pause(StoreError.published(error, path: core.path))
      } catch {
        _ = core.poison(error)
        state.update { $0.isStopping = true }
      }
    }
  }

  private func pause(_ error: any Error) {
    state.update { $0.full = error }
    let deadline = Date(timeIntervalSinceNow: 1)
    state.wait(until: deadline) { state, timedOut in state.isStopping || timedOut ? () : nil }
  }

  private func giveBackLog(_ core: StoreCore) throws {
    guard case .acknowledged(let retained) = core.retention else { return }
    guard let folded = try Index.state(try core.index.source()) else { return }
    // Newest segments first: those within the retention stay, whatever is older may go.
    var bytes = 0
    var keepFrom: Version = 0
    for segment in core.log.segments.reversed() {
      bytes += Int(segment.bytes)
      keepFrom = segment.firstVersion
      if bytes > retained { break }
    }
    let limit = min(keepFrom, folded.version, folded.acknowledged + 1)
    guard try core.log.truncate(before: limit) > 0 else { return }
    while try core.index.sweepTombstones(before: core.log.firstVersion) { core.idleSnapshots.expire() }
  }
}
