// The background thread that folds sealed generations into the index, and afterwards gives log segments back that
// nobody needs any more.
//
// Invariants
// - Of all processes one folds at a time: whoever holds the folding lock. When it dies the next one folds the same
//   generations again, from their start, which comes to the same.
// - The oldest sealed generations are folded together, wholly, before any newer one; while such a fold would be thin they
//   wait for more, certified.
// - A log segment goes only when all its commits are folded and acknowledged and the retention lets it go.
// - A full disk is waited out: the folder tries again, writers get `.full` meanwhile, nothing is lost. Any other
//   failure poisons the store.

import Foundation
import KVLog
import LMDB
import Synchronization

final class Folder: Sendable {
  private struct State {
    var isStopping = false
    var hasEnded = false
    /// The reason why the folder cannot go on at present.
    var full: (any Error)?
  }

  private let state = Monitor(State())
  /// A write has found the disk full, and nothing has come free since.
  private let pressed = Atomic(false)
  /// Log may have become superfluous by what the hub has said.
  private let isAskedToGiveBack = Atomic(false)

  func start(_ core: StoreCore) {
    Handoff(core).start(threadNamed: "kvsync.folder") { [self] core in
      run(core)
    } ended: { [state] in
      state.update { $0.hasEnded = true }
    }
  }

  /// There may be something to fold.
  func wake() { state.update { _ in } }

  /// The disk is full: as soon as there is log that nobody waits for, folds what holds it back and gives it back.
  func makeRoom() {
    pressed.store(true, ordering: .relaxed)
    wake()
  }

  /// A backup of the hub covers more than before: gives back what nobody needs any more of what is folded.
  func giveBack() {
    isAskedToGiveBack.store(true, ordering: .relaxed)
    wake()
  }

  /// What was written may have made log superfluous.
  func wakeIfPressed() {
    if pressed.load(ordering: .relaxed) { wake() }
  }

  /// Ends the thread after the fold under way.
  func stop() {
    state.update { $0.isStopping = true }
    state.wait { state, _ in state.hasEnded ? () : nil }
  }

  /// Waits until another generation may be sealed.
  func waitForRoom(_ core: StoreCore) throws {
    try state.wait { state, _ in
      if core.tail.maySeal { return () }
      if let full = state.full { throw full }
      if let failure = core.publication.failure { throw failure }
      if state.hasEnded { throw StoreError.closed }
      return nil
    }
  }

  /// Waits a little while writers are ahead of the fold under way.
  func keepPace(_ core: StoreCore) throws {
    guard try core.tail.isAheadOfFold(core.inserter.waitingBytes) else { return }
    try state.wait(until: Deadline(secondsFromNow: StoreLimits.longestPauseSeconds)) { state, timedOut in
      if timedOut || state.full != nil || state.hasEnded { return () }
      return try core.tail.isAheadOfFold(core.inserter.waitingBytes) ? nil : ()
    }
  }

  /// Folds what is left, the live generation too: the thread has ended, and no process writes any more. A full disk, or as
  /// many reads as there can be, leaves the rest to the next opening, which replays it.
  func finish(_ core: StoreCore) throws {
    if let failure = core.publication.failure { throw failure }
    do {
      try fold(core.tail.oldestFirst(live: true), core)
      try giveBackLog(core)
    } catch let error where StoreError.isFull(error) || StoreError.isOutOfReaders(error) {}
  }

  private func run(_ core: StoreCore) {
    while true {
      let goesOn = state.wait { state, _ -> Bool? in
        if state.isStopping { return false }
        let hasWork =
          core.memory.generations.sealedCount > 0 || pressed.load(ordering: .relaxed)
          || isAskedToGiveBack.load(ordering: .relaxed)
        return hasWork ? true : nil
      }
      guard goesOn else { return }
      let isPressed = pressed.load(ordering: .relaxed)
      do {
        if isPressed, core.memory.generations.sealedCount == 0 {
          guard try canGiveBack(core) else {
            if core.reserve.restore() { pressed.store(false, ordering: .relaxed) } else { rest() }
            continue
          }
          try seal(core)
        }
        try core.tail.makeFilters()
        guard try core.locks.folding.tryLock() else {
          // Another process is at it; should it die, nobody says so.
          sleep(seconds: 0.1)
          continue
        }
        defer { core.locks.folding.unlock() }
        // Should a process have died at it, nobody waits for that fold any more.
        core.memory.fold = .none
        if isAskedToGiveBack.exchange(false, ordering: .relaxed) { try giveBackLog(core) }
        let sealed = try core.tail.oldestFirst(live: false)
        guard isPressed || !sealed.isEmpty else { continue }
        if try !isPressed && waitsForMore(sealed, core) { continue }
        if !sealed.isEmpty {
          let folding = core.tail.folding(sealed)
          try fold(folding, core)
          try core.tail.retire(folding)
          core.idleSnapshots.expire()
          state.update { $0.full = nil }
        }
        // Nobody waits for this: on a full disk the next fold tries again.
        do { try giveBackLog(core, isPressed: isPressed) } catch let error where StoreError.isFull(error) {}
        if core.reserve.restore() { pressed.store(false, ordering: .relaxed) }
      } catch let error where StoreError.isFull(error) {
        pause(StoreError.published(error, path: core.path), core)
      } catch let error where StoreError.isOutOfReaders(error) {
        // Until some of the reads end, writers wait at worst.
        sleep(seconds: 0.1)
      } catch {
        _ = core.poison(error)
        state.update { $0.isStopping = true }
      }
    }
  }

  /// Has the writer seal the live generation. A writer that waits for this thread has sealed one itself.
  private func seal(_ core: StoreCore) throws {
    let outcome = Monitor<Result<Void, any Error>?>(nil)
    core.writer.submit(
      Request(isDurable: true, { try $0.seal() }) { [state] result in
        outcome.withLock { $0 = result }
        state.update { _ in }
      })
    let result = state.wait { _, _ -> Result<Void, any Error>? in
      core.memory.generations.sealedCount > 0 ? .success(()) : outcome.withLock { $0 }
    }
    // Anything but a full disk has been dealt with where it happened.
    if case .failure(let error) = result, StoreError.isFull(error) { throw error }
  }

  /// Whether to wait for more rows that go to the same pages of the index; takes its time to find out. A fold costs what
  /// the pages cost that it touches: with random keys all of them, be there one row for each or ten.
  private func waitsForMore(_ sealed: [Generation], _ core: StoreCore) throws -> Bool {
    guard core.tail.mayWaitForMore, try core.index.isThin(sealed) else { return false }
    try certify(sealed, after: core.index.foldedState() ?? StoreState(start: core.identity), core)
    let before = core.memory.sequence
    let deadline = Deadline(secondsFromNow: StoreLimits.foldIdleSeconds)
    return state.wait(until: deadline) { state, timedOut in
      if state.isStopping || core.memory.generations.sealedCount > sealed.count { return true }
      return timedOut ? core.memory.sequence != before : nil
    }
  }

  private func fold(_ generations: [Generation], _ core: StoreCore) throws {
    // Readers of processes that died would keep pages from being used again.
    _ = try core.index.environment.checkReaders()
    let start = try core.index.foldedState() ?? StoreState(start: core.identity)
    core.memory.fold = .init(generations: generations.count, done: 0)
    defer { core.memory.fold = .none }
    do {
      try core.index.fold(generations.filter { !$0.isEmpty }) { transaction, done in
        core.memory.folded(transaction, at: monotonicMilliseconds())
        core.memory.fold.done = done
        wake()
        core.memory.aged()
        core.idleSnapshots.expire()
        // What is sealed meanwhile waits for long.
        if core.memory.generations.sealedCount > generations.count {
          try core.tail.makeFilters()
          try certify(core.tail.oldestFirst(live: false), after: start, core)
        }
      }
    } catch let error where !StoreError.isFull(error) && !StoreError.isOutOfReaders(error) {
      // Should it be the generations that are damaged, the log can repair them.
      core.tail.revokeCertificates()
      throw error
    }
  }

  /// Makes the generations durable, if the disk has room for saying so: nobody needs it but the next recovery.
  private func certify(_ sealed: [Generation], after state: StoreState, _ core: StoreCore) throws {
    do { try core.tail.certify(sealed, after: state) } catch let error where StoreError.isFull(error) {}
  }

  private func pause(_ error: any Error, _ core: StoreCore) {
    state.update { $0.full = error }
    pressed.store(true, ordering: .relaxed)
    if (try? canGiveBack(core)) == true { _ = core.reserve.release(.all) }
    sleep(seconds: 1)
  }

  /// Until somebody has written, or has freed space some other way.
  private func rest() {
    let deadline = Deadline(secondsFromNow: 1)
    var isFirst = true
    state.wait(until: deadline) { state, timedOut in
      defer { isFirst = false }
      return state.isStopping || timedOut || !isFirst ? () : nil
    }
  }

  /// Whether folding would set segments of the log free.
  private func canGiveBack(_ core: StoreCore) throws -> Bool {
    let segments = try core.log.segments
    guard core.memory.retainedLogBytes < .max, segments.count > 1 else { return false }
    return segments[1].firstVersion <= core.state.neededFrom
  }

  private func sleep(seconds: Double) {
    let deadline = Deadline(secondsFromNow: seconds)
    state.wait(until: deadline) { state, timedOut in state.isStopping || timedOut ? () : nil }
  }

  /// Whether something was written to the segment within the time that the retention states.
  private func isYoung(_ segment: LogSegment, _ core: StoreCore) throws -> Bool {
    let seconds = core.memory.retainedLogSeconds
    guard seconds > 0 else { return false }
    var status = stat()
    let path = core.log.configuration.path(ofSegment: segment.firstVersion)
    // What is gone already is not young.
    guard unsafe stat(path, &status) == 0 else { return false }
    #if canImport(Darwin)
      let written = status.st_mtimespec.tv_sec
    #else
      let written = status.st_mtim.tv_sec
    #endif
    return Double(time(nil) - written) < Double(seconds)
  }

  private func giveBackLog(_ core: StoreCore, isPressed: Bool = false) throws {
    var retained = core.memory.retainedLogBytes
    guard retained < .max else { return }
    // On a full disk what nobody is waiting for goes.
    if isPressed { retained = 0 }
    guard let folded = try Index.state(try core.index.source()) else { return }
    // Newest segments first: those within the retention stay, whatever is older may go.
    var bytes: UInt64 = 0
    var keepFrom: Version = 0
    for segment in try core.log.segments.reversed() {
      bytes += segment.bytes
      keepFrom = segment.firstVersion
      if bytes > retained, try !isYoung(segment, core) { break }
    }
    if !core.memory.keepsBackedUpLog { keepFrom = max(keepFrom, core.state.backedUpThrough + 1) }
    // A store that has gone back to an older state of its hub needs more than what was folded says.
    let limit = min(keepFrom, folded.version, folded.neededFrom, core.state.neededFrom)
    guard try core.log.truncate(before: limit) > 0 else { return }
    let first = try core.log.firstVersion
    while try core.index.sweepTombstones(before: first) || core.index.sweepSuccessions(before: first) {
      core.memory.aged()
      core.idleSnapshots.expire()
    }
  }
}
