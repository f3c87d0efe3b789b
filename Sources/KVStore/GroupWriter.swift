// One group of commits on its way into the store: rows into the tail, commits into a block of the log, then one
// fdatasync, then everything becomes visible at once. Used by one thread at a time, which holds the store's writer lock
// from `begin` to `end`.
//
// Invariants
// - Whoever gets the writer lock first catches up: with what other processes have published, or, when the last writer died
//   at it, with what that one left in the log.
// - The tail's transaction is committed only after the log has the block; until then no reader sees the group.
// - The tail's open transaction equals the published state, and nothing more while `isDeferring`: the rows follow while the
//   log is being synchronised, or when a transaction of the group reads after something was written. From then on it equals the published state
//   plus the records in `builder`.
// - In a store that this process has for itself the tail is opened when it is first needed. A group that never needs it is
//   left to the inserter, after which everybody else looks into the tail (see there).
// - A write that fails is taken back by starting the transaction again and applying the records that remain. The same path
//   serves a generation that runs full in the middle of a group.
// - A failed log write or commit has an unknown outcome: the store is poisoned and must be reopened. A tail that has no
//   room is none: the block is taken back from the log.

import KVLog
import LMDB

final class GroupWriter {
  let core: StoreCore
  var generation: Generation
  var writer: LMDBWriter?
  var builder = BlockBuilder()
  /// The published state plus what this group has added.
  var state: StoreState
  var published: StoreState
  /// The shared count of groups at which `published` was up to date.
  private var sequence: UInt64
  var applier: LogApplier
  /// What lies below the live generation, opened when a look-up first needs it.
  var below: [Source]?
  /// The tail's transaction has none of the records in `builder` yet.
  var isDeferring = false
  /// False while the group holds only relaxed writes, and records that the hub repeats on request.
  var needsSynchronize = false
  /// Whether the group has anything but deletions and what is said by the hub: those may use the reserve.
  var hasValues = false
  /// Whether the group has nothing but commits and progress.
  var isPlain = true
  /// Whether the present request completes only when it is durable.
  var requestIsDurable = true
  /// Why the present request, or the whole group, cannot go on. A caller's closure may have swallowed the error when
  /// it was thrown, so it is looked at again when the request ends.
  var requestFailure: (any Error)?
  var groupFailure: (any Error)?
  /// Through which of their versions authors are known: as published, as far as somebody asked, and by this group.
  var knownAuthors: [Identity: Version] = [:]
  var addedAuthors: [Identity: Version] = [:]
  static let maximumKnownAuthors = 4_096
  /// What the space has applied of replicas, as published and as this group adds: a push that nothing is looked up for
  /// leaves the tail alone.
  var knownProgress: [Identity: ReplicaProgress] = [:]
  var addedProgress: [Identity: ReplicaProgress] = [:]
  static let maximumKnownProgress = 256
  static let maximumKnownExceptions = 64
  /// Tells a scan of a finished transaction from one of the present transaction.
  private(set) var transactionSerial = 0

  init(_ core: StoreCore, _ live: Generation) {
    self.core = core
    generation = live
    (published, sequence) = core.publication.latest
    state = published
    applier = LogApplier(tables: generation.tables)
  }

  /// Under whose name local commits are written.
  var incarnation: Identity { state.incarnation }
  /// The origin of rows that state none.
  var home: Identity { generation.tables.home }
  var byteCount: Int { builder.byteCount }
  var openChangeCount: Int { builder.openChangeCount }
  /// Of the open commit; nil when none is open.
  var byteCountOfOpenCommit: Int? { builder.openHeader == nil ? nil : builder.openCommitBytes }

  // MARK: The group

  /// Waits for the writer lock, and a little for a fold that is behind; `end` gives it up. When this throws it is given up already.
  func begin() throws {
    try core.folder.keepPace(core)
    try core.locks.writing.lock()
    do {
      try catchUp()
      builder.reset(after: published.version, digest: published.position.digest, origin: published.incarnation)
      state = published
      needsSynchronize = false
      hasValues = false
      isPlain = true
      isDeferring = true
      groupFailure = nil
      addedAuthors = [:]
      addedProgress = [:]
      if core.insertsLater { try core.inserter.waitForRoom() } else { try openTail() }
    } catch {
      abandon()
      end()
      throw error
    }
  }

  /// Lets other processes write.
  func end() { core.locks.writing.unlock() }

  private func catchUp() throws {
    if core.memory.isPoisoned { throw core.poisonedElsewhere() }
    if core.memory.unfinishedWriter != nil {
      do { try finishForTheDead() } catch { throw core.poison(error) }
    } else if core.memory.sequence != sequence {
      let sequence = core.memory.sequence
      forget()
      adopt(try core.resumeLog(), sequence)
    }
    let live = try core.tail.live()
    if live !== generation { enter(live) }
  }

  /// A process died after it had begun to append. What it had appended whole counts; the rest never was.
  private func finishForTheDead() throws {
    var recovery = Recovery(tail: core.tail, state: try core.visibleState())
    try core.log.recover(after: recovery.state.position) { try recovery.apply($0) }
    try recovery.finish()
    core.noteLog(recovery.state)
    forget()
    adopt(recovery.state, core.memory.published(watchingHere: core.watch.isWatching))
    core.memory.unfinishedWriter = nil
  }

  /// Another process has written.
  func forget() {
    knownAuthors = [:]
    knownProgress = [:]
  }

  private func adopt(_ state: StoreState, _ sequence: UInt64) {
    published = state
    self.sequence = sequence
    core.idleSnapshots.expire()
    core.publication.publish(state, sequence)
  }

  func enter(_ live: Generation) {
    generation = live
    applier = LogApplier(tables: live.tables)
  }

  /// Runs one request of the group; when it throws, nothing of it remains.
  func run(_ request: any PendingWrite) throws {
    let mark = builder.mark
    let wasSynchronizing = needsSynchronize
    let before = state
    let authors = addedAuthors
    let progress = addedProgress
    if let groupFailure { throw groupFailure }
    do {
      transactionSerial += 1
      requestFailure = nil
      requestIsDurable = request.isDurable
      try request.run(self)
      if let requestFailure { throw requestFailure }
      guard builder.byteCount < StoreLimits.largestGroupBytes else {
        throw StoreError(.commitTooLarge, "more than fits into one block of the log.", path: core.path)
      }
    } catch {
      transactionSerial += 1
      needsSynchronize = wasSynchronizing
      addedAuthors = authors
      addedProgress = progress
      let hasWritten = builder.mark != mark
      if hasWritten { builder.rewind(to: mark) }
      if isDeferring {
        state = before
      } else if hasWritten {
        do { try rebuild() } catch { groupFailure = error }
      }
      throw error
    }
    transactionSerial += 1
  }

  /// Makes the request fail when it ends, whatever its closure does with the error.
  func fail(_ error: any Error) {
    if requestFailure == nil { requestFailure = error }
  }

  /// Makes the group visible, and durable if anybody in it asked for that.
  func finish() throws {
    below = nil
    if let groupFailure {
      abandon()
      throw groupFailure
    }
    guard !builder.isEmpty else {
      abandon()
      if needsSynchronize { try makeDurable() }
      return
    }
    let isLate = try prepare()
    core.memory.unfinishedWriter = core.process
    let end: LogPosition
    do throws(LogError) {
      end = try append()
    } catch {
      abandon()
      // A log that could not grow has appended nothing and goes on; any other failure poisoned it.
      guard error.kind == .full else { throw core.poison(error) }
      core.memory.unfinishedWriter = nil
      core.makeRoom()
      throw error
    }
    do {
      if isLate {
        try core.log.synchronize()
      } else if needsSynchronize {
        try synchronizeWhileApplying()
      }
      state.position = end
      if isLate {
        core.inserter.take(BlockRecords(of: builder, appendedTo: end), after: state, core)
      } else {
        try commitTail()
      }
    } catch let error where StoreError.isFull(error) {
      // The tail has no room, and nobody has seen the block.
      abandon()
      do { try core.log.retract() } catch { throw core.poison(error) }
      core.noteLog(published)
      core.memory.unfinishedWriter = nil
      core.makeRoom()
      throw error
    } catch {
      abandon()
      throw core.poison(error)
    }
    knownAuthors.merge(addedAuthors) { max($0, $1) }
    for progress in addedProgress.values { know(progress) }
    core.noteLog(state)
    if !isLate { core.memory.appended(builder.byteCount) }
    adopt(state, core.memory.published(watchingHere: core.watch.isWatching))
    core.memory.unfinishedWriter = nil
    core.folder.wakeIfPressed()
    core.preparer.prepare(core)
    if core.memory.durableVersion < state.version || !needsSynchronize { core.synchronizer.arm(core) }
  }

  /// Whether the rows are left to the inserter; otherwise the tail is open.
  private func prepare() throws -> Bool {
    do {
      let mayBeLate = core.insertsLater && isPlain && needsSynchronize && isDeferring && writer == nil
      if mayBeLate, core.inserter.wants(builder.byteCount, core) { return true }
      try openTail()
      return false
    } catch {
      abandon()
      throw error
    }
  }

  /// Appends the block. Values leave the disk the room that folding the tail needs; what makes room takes all there is, the
  /// reserve too.
  private func append() throws(LogError) -> LogPosition {
    do throws(LogError) {
      return try core.log.append(
        &builder, LogGrowth(leaving: hasValues ? UInt64(core.tail.diskBytes + 2 * core.inserter.waitingBytes) : 0))
    } catch {
      guard error.kind == .full, !hasValues else { throw error }
      _ = core.reserve.release(.log)
      return try core.log.append(&builder, LogGrowth(ahead: UInt64(StoreLimits.reservedLogBytes)))
    }
  }

  /// Seals the live generation, so that the folder can fold it: what a full disk needs before the log can be truncated.
  func seal() throws {
    try openTail()
    guard !generation.isEmpty else { return }
    do {
      try rollGeneration(room: builder.byteCount)
    } catch {
      try rebuild()
      throw error
    }
    try rebuild()
  }

  /// Rows go into the tail while the disk is busy with the block: with all of its work, if they are so many that this is
  /// worth another thread's waking up, otherwise with the first of it.
  private func synchronizeWhileApplying() throws {
    guard isDeferring else { return try core.log.synchronize() }
    if builder.byteCount >= StoreLimits.overlappedBytes {
      try core.synchronizer.synchronize(core) { try applyAhead() }
    } else {
      core.log.willSynchronize()
      let applied = Result { try applyAhead() }
      try core.log.synchronize()
      try applied.get()
    }
  }

  /// Applies what is deferred, unless the generation has no room: there is time for that when the block is known to be
  /// durable.
  private func applyAhead() throws {
    do { try applyDeferred() } catch let error as LMDBError where error.code == .mapFull {
      try restartTail()
    }
  }

  /// Everything appended so far is durable when this returns.
  private func makeDurable() throws {
    do { try core.log.synchronize() } catch { throw core.poison(error) }
    core.noteLog(published)
  }

  /// The present request completes only when everything before it is durable.
  func requireDurability() { needsSynchronize = true }

  func abandon() {
    below = nil
    if let open = writer.take() { open.abort() }
    state = published
  }

  private func commitTail() throws {
    let end = state.position
    try retryingInLargerGeneration {
      try applyDeferred()
      try writer!.put(state: state, in: generation.tables)
      try commitOpenTransaction()
    } next: {
      try rebuild()
      state.position = end
    }
    generation.markFilled()
  }

  private func commitOpenTransaction() throws(LMDBError) {
    guard let open = writer.take() else { preconditionFailure("a group commits an open transaction") }
    try open.commit()
  }
}
