// The background thread that folds sealed generations into the index, and afterwards gives log segments back that
// nobody needs any more.
//
// Invariants
// - Of all processes one folds at a time: whoever holds the folding lock. When it dies the next one folds the same
//   generation again, from its start, which comes to the same.
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
      if core.memory.generations.sealedCount < StoreLimits.sealedGenerations { return () }
      if let full = state.full { throw full }
      if let failure = core.publication.failure { throw failure }
      if state.hasEnded { throw StoreError.closed }
      return nil
    }
  }

  /// Folds what is left, the live generation too: the thread has ended, and no process writes any more. A full disk
  /// leaves the rest to the next opening, which replays it.
  func finish(_ core: StoreCore) throws {
    if let failure = core.publication.failure { throw failure }
    do {
      for generation in try core.tail.oldestFirst() { try fold(generation, core) }
      try giveBackLog(core)
    } catch let error where StoreError.isFull(error) {}
  }

  private func run(_ core: StoreCore) {
    while true {
      let goesOn = state.wait { state, _ -> Bool? in
        if state.isStopping { return false }
        return core.memory.generations.sealedCount > 0 ? true : nil
      }
      guard goesOn else { return }
      do {
        guard try core.locks.folding.tryLock() else {
          // Another process is at it; should it die, nobody says so.
          sleep(seconds: 0.1)
          continue
        }
        defer { core.locks.folding.unlock() }
        guard let generation = try core.tail.oldestSealed() else { continue }
        try fold(generation, core)
        try core.tail.retire(generation)
        core.idleSnapshots.expire()
        state.update { $0.full = nil }
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

  private func fold(_ generation: Generation, _ core: StoreCore) throws {
    // Readers of processes that died would keep pages from being used again.
    _ = try core.index.environment.checkReaders()
    try core.index.fold(generation) { transaction in
      core.memory.folded(transaction, at: monotonicMilliseconds())
      core.memory.aged()
      core.idleSnapshots.expire()
    }
  }

  private func pause(_ error: any Error) {
    state.update { $0.full = error }
    sleep(seconds: 1)
  }

  private func sleep(seconds: Double) {
    let deadline = Date(timeIntervalSinceNow: seconds)
    state.wait(until: deadline) { state, timedOut in state.isStopping || timedOut ? () : nil }
  }

  private func giveBackLog(_ core: StoreCore) throws {
    let retained = core.memory.retainedLogBytes
    guard retained < .max else { return }
    guard let folded = try Index.state(try core.index.source()) else { return }
    // Newest segments first: those within the retention stay, whatever is older may go.
    var bytes: UInt64 = 0
    var keepFrom: Version = 0
    for segment in try core.log.segments.reversed() {
      bytes += segment.bytes
      keepFrom = segment.firstVersion
      if bytes > retained { break }
    }
    let limit = min(keepFrom, folded.version, folded.acknowledged + 1)
    guard try core.log.truncate(before: limit) > 0 else { return }
    while try core.index.sweepTombstones(before: core.log.firstVersion) {
      core.memory.aged()
      core.idleSnapshots.expire()
    }
  }
}
