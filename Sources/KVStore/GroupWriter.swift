// One group of commits on its way into the store: rows into the tail, commits into a block of the log, then one
// fdatasync, then everything becomes visible at once. Used by one thread at a time, which holds the store's writer lock
// from `begin` to `end`.
//
// Invariants
// - Whoever gets the writer lock first catches up: with what other processes have published, or, when the last writer died
//   at it, with what that one left in the log.
// - The tail's transaction is committed only after the log has the block; until then no reader sees the group.
// - The tail's open transaction equals the published state, and nothing more while `isDeferring`: the rows follow while the
//   log is being synchronised, or when a transaction of the group first reads. From then on it equals the published state
//   plus the records in `builder`.
// - A write that fails is taken back by starting the transaction again and applying the records that remain. The same path
//   serves a generation that runs full in the middle of a group.
// - A failed log write or commit has an unknown outcome: the store is poisoned and must be reopened. A tail that has no
//   room is none: the block is taken back from the log.

import KVLog
import LMDB

final class GroupWriter {
  let core: StoreCore
  private var generation: Generation
  private var writer: LMDBWriter?
  private var builder = BlockBuilder()
  /// The published state plus what this group has added.
  private(set) var state: StoreState
  private(set) var published: StoreState
  /// The shared count of groups at which `published` was up to date.
  private var sequence: UInt64
  private var applier: LogApplier
  /// What lies below the live generation, opened when a look-up first needs it.
  private var below: [Source]?
  /// The tail's transaction has none of the records in `builder` yet.
  private var isDeferring = false
  /// False while the group holds only relaxed writes, and records that the hub repeats on request.
  private var needsSynchronize = false
  /// Whether the group has anything but deletions and what is said by the hub: those may use the reserve.
  private var hasValues = false
  /// Whether the present request completes only when it is durable.
  private var requestIsDurable = true
  /// Why the present request, or the whole group, cannot go on. A caller's closure may have swallowed the error when
  /// it was thrown, so it is looked at again when the request ends.
  private var requestFailure: (any Error)?
  private var groupFailure: (any Error)?
  /// Through which of their versions authors are known: as published, as far as somebody asked, and by this group.
  private var knownAuthors: [Identity: Version] = [:]
  private var addedAuthors: [Identity: Version] = [:]
  private static let maximumKnownAuthors = 4_096
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
  var byteCount: Int { builder.byteCount }
  var openChangeCount: Int { builder.openChangeCount }
  /// Of the open commit; nil when none is open.
  var byteCountOfOpenCommit: Int? { builder.openHeader == nil ? nil : builder.openCommitBytes }

  // MARK: The group

  /// Waits for the writer lock; `end` gives it up. When this throws it is given up already.
  func begin() throws {
    try core.locks.writing.lock()
    do {
      try catchUp()
      if generation.isNearlyFull || core.memory.logBytesInGeneration > generation.capacity { try rollAhead() }
      builder.reset(after: published.version, digest: published.position.digest, origin: published.incarnation)
      state = published
      needsSynchronize = false
      hasValues = false
      groupFailure = nil
      addedAuthors = [:]
      try beginTail()
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
      knownAuthors = [:]
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
    knownAuthors = [:]
    adopt(recovery.state, core.memory.published(watchingHere: core.watch.isWatching))
    core.memory.unfinishedWriter = nil
  }

  private func adopt(_ state: StoreState, _ sequence: UInt64) {
    published = state
    self.sequence = sequence
    core.idleSnapshots.expire()
    core.publication.publish(state, sequence)
  }

  private func enter(_ live: Generation) {
    generation = live
    applier = LogApplier(tables: live.tables)
  }

  /// Runs one request of the group; when it throws, nothing of it remains.
  func run(_ request: any PendingWrite) throws {
    let mark = builder.mark
    let wasSynchronizing = needsSynchronize
    let before = state
    let authors = addedAuthors
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
      if builder.mark != mark {
        builder.rewind(to: mark)
        if isDeferring {
          state = before
        } else {
          do { try rebuild() } catch { groupFailure = error }
        }
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
      if needsSynchronize { try synchronizeWhileApplying() }
      state.position = end
      try commitTail()
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
    core.noteLog(state)
    core.memory.appended(builder.byteCount)
    adopt(state, core.memory.published(watchingHere: core.watch.isWatching))
    core.memory.unfinishedWriter = nil
    core.folder.wakeIfPressed()
    core.preparer.prepare(core)
    if core.memory.durableVersion < state.version || !needsSynchronize { core.synchronizer.arm(core) }
  }

  /// Appends the block. Values leave the disk the room that folding the tail needs; what makes room takes all there is, the
  /// reserve too.
  private func append() throws(LogError) -> LogPosition {
    do throws(LogError) {
      return try core.log.append(&builder, LogGrowth(leaving: hasValues ? UInt64(core.tail.diskBytes) : 0))
    } catch {
      guard error.kind == .full, !hasValues else { throw error }
      _ = core.reserve.release()
      return try core.log.append(&builder, LogGrowth(isSparing: true))
    }
  }

  /// Seals the live generation, so that the folder can fold it: what a full disk needs before the log can be truncated.
  func seal() throws {
    guard !generation.isEmpty else { return }
    do {
      try rollGeneration(room: builder.byteCount)
    } catch {
      try rebuild()
      throw error
    }
    try rebuild()
  }

  /// Rows go into the tail while the disk is busy with the block, if they are so many that it is worth another thread's
  /// waking up.
  private func synchronizeWhileApplying() throws {
    guard isDeferring, builder.byteCount >= StoreLimits.overlappedBytes else { return try core.log.synchronize() }
    try core.synchronizer.synchronize(core) {
      do { try applyDeferred() } catch let error as LMDBError where error.code == .mapFull {
        // Time for that when it is known that the block is durable.
        try restartTail()
      }
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

  // MARK: The tail's transaction

  private func beginTail() throws {
    writer = try generation.environment.beginWrite()
    isDeferring = true
  }

  private func restartTail() throws {
    if let open = writer.take() { open.abort() }
    try beginTail()
  }

  /// Brings the tail's transaction up to date with the group, for as long as that lasts.
  private func applyDeferred() throws {
    guard isDeferring else { return }
    var applied = published
    try builder.withRecords { try applier.apply($0, to: &writer!, state: &applied) }
    try applyOpenChanges()
    isDeferring = false
  }

  /// Before a transaction of the group reads. Without room it goes on in the next generation.
  private func showOwnWrites() throws {
    if let requestFailure { throw requestFailure }
    guard isDeferring else { return }
    do {
      do { try applyDeferred() } catch let error as LMDBError where error.code == .mapFull {
        try rollGeneration(room: builder.byteCount)
        try rebuild()
      }
    } catch {
      // The others of the group go on, with what they have.
      do { try restartTail() } catch { groupFailure = error }
      fail(error)
      throw error
    }
  }

  /// Starts the tail's transaction again and applies what the block holds so far, an open commit included.
  private func rebuild() throws {
    try retryingInLargerGeneration {
      try restartTail()
      state = published
      try builder.withRecords { try applier.apply($0, to: &writer!, state: &state) }
      try applyOpenChanges()
      isDeferring = false
    }
  }

  private func applyOpenChanges() throws {
    guard let header = builder.openHeader else { return }
    try builder.withOpenChanges { bytes in
      var changes = ChangeCursor(openChanges: 0..<bytes.byteCount, count: builder.openChangeCount)
      while let change = try changes.next(in: bytes) {
        try applier.put(
          bytes.extracting(change.key), bytes.extracting(change.value), change.isDeletion, header, &writer!)
      }
    }
  }

  /// Repeats `body`, after `next`, in one generation after the other until one has room for it: each that took
  /// nothing is followed by one twice as large, so that only a full disk ends this.
  private func retryingInLargerGeneration(_ body: () throws -> Void, next: () throws -> Void = {}) throws {
    while true {
      do {
        return try body()
      } catch let error as LMDBError where error.code == .mapFull {
        try rollGeneration(room: builder.byteCount)
        try next()
      }
    }
  }

  /// Seals a generation before a group begins: when it is nearly full, so that running full in the middle stays rare, or
  /// when it stands for much log, so that keys written again and again do not make the log, and recovery, grow for ever.
  /// On a full disk what is left of it is used up first.
  private func rollAhead() throws {
    hasValues = true
    do {
      try rollGeneration(room: 0)
    } catch let error where StoreError.isFull(error) {
      core.makeRoom()
    }
  }

  /// Seals the live generation; waits while the folder is too far behind.
  private func rollGeneration(room bytes: Int) throws {
    if let open = writer.take() { open.abort() }
    below = nil
    try core.folder.waitForRoom(core)
    // A fold must never run ahead of the durable log.
    do { try core.log.synchronize() } catch { throw core.poison(error) }
    _ = try generation.environment.checkReaders()
    do {
      try core.tail.roll(room: bytes)
    } catch let error where StoreError.isFull(error) {
      core.makeRoom()
      guard !hasValues else { throw error }
      _ = core.reserve.release()
      try core.tail.roll(room: bytes, isPressed: true)
    }
    core.folder.wake()
    enter(try core.tail.live())
  }

  /// Runs `body` on the tail, or leaves that for later; when the generation is full, continues in the next one.
  private func withTail(_ body: (inout LMDBWriter) throws(LMDBError) -> Void) throws {
    if let requestFailure { throw requestFailure }
    if isDeferring { return }
    do {
      do throws(LMDBError) {
        try body(&writer!)
      } catch {
        guard error.code == .mapFull else { throw error }
        try rollGeneration(room: builder.byteCount)
        try rebuild()
      }
    } catch {
      fail(error)
      throw error
    }
  }

  // MARK: Local commits

  /// Opens a local commit; changes follow, then `endCommit`.
  func beginCommit(time: HybridTime? = nil, flags: CommitFlags = []) {
    let time = time ?? HybridClock.next(after: state.lastTime)
    _ = builder.beginCommit(time: time, flags: flags)
  }

  func put(key: RawSpan, value: RawSpan) throws {
    try StoreLimits.check(key: key)
    try StoreLimits.check(value: value, key: key, commitBytes: builder.openCommitBytes)
    hasValues = true
    builder.append(key: key, value: value)
    try putRow(key, value, isDeletion: false)
  }

  func delete(key: RawSpan) throws {
    try StoreLimits.check(key: key)
    try StoreLimits.check(value: RawSpan(), key: key, commitBytes: builder.openCommitBytes)
    builder.appendDeletion(key: key)
    try putRow(key, RawSpan(), isDeletion: true)
  }

  private func putRow(_ key: RawSpan, _ value: RawSpan, isDeletion: Bool) throws {
    guard let header = builder.openHeader else { preconditionFailure("a change belongs to an open commit") }
    // When the generation runs full, `withTail` applies the open commit again, this change with it.
    try withTail { writer throws(LMDBError) in try applier.put(key, value, isDeletion, header, &writer) }
  }

  /// Closes the open commit and returns its version; a commit without changes leaves no trace and returns the version
  /// of the commit before it.
  @discardableResult
  func endCommit() -> Version {
    guard let header = builder.openHeader, builder.openChangeCount > 0 else {
      builder.cancelCommit()
      return state.version
    }
    var closed = header
    closed.changeCount = builder.openChangeCount
    let bytes = builder.openPayloadBytes
    builder.endCommit()
    state.committed(closed, bytes: bytes, digest: builder.digest)
    needsSynchronize = needsSynchronize || requestIsDurable
    return closed.version
  }

  // MARK: Commits and records from elsewhere

  /// Appends a commit with the bytes that its origin wrote, without touching rows; returns it under its own version.
  func append(core bytes: RawSpan, of header: CommitHeader, serverVersion: Version, payloadBytes: Int) -> CommitHeader {
    hasValues = true
    var own = header
    own.version = builder.appendCommit(core: bytes, serverVersion: serverVersion)
    own.serverVersion = serverVersion
    state.committed(own, bytes: payloadBytes, digest: builder.digest)
    needsSynchronize = true
    return own
  }

  /// Writes a row of a commit appended just before. `key` and `value` are bytes of that commit.
  func putRow(_ key: RawSpan, _ value: RawSpan, isDeletion: Bool, of header: CommitHeader) throws {
    try withTail { writer throws(LMDBError) in try applier.put(key, value, isDeletion, header, &writer) }
  }

  /// Appends a record of the store's own; durable with the group.
  func append(_ record: some StoreRecord) throws {
    let payload = record.encoded()
    var after = state
    try record.apply(to: &after)
    builder.append(type(of: record).kind, payload: payload.bytes)
    // When the generation runs full, rebuilding applies the record; it comes to the same state.
    state = after
    needsSynchronize = true
    let tables = generation.tables
    try withTail { writer throws(LMDBError) in try record.write(payload.bytes, to: tables, &writer) }
  }

  func append(_ record: AcknowledgementRecord, durably: Bool) {
    builder.append(.acknowledgement, payload: record.encoded().bytes)
    state.acknowledged(record)
    needsSynchronize = needsSynchronize || durably
  }

  func append(_ record: SuccessionRecord) throws {
    guard !record.steps.isEmpty else { return }
    builder.append(.succession, payload: record.encoded().bytes)
    if isDeferring { state.succeeded(record) }
    let before = state
    var after = state
    try withTail { writer throws(LMDBError) in try applier.apply(record, to: &writer, state: &after) }
    if state == before { state = after }
  }

  func append(_ record: CursorRecord) {
    builder.append(.cursor, payload: record.encoded().bytes)
    state.advanced(record)
  }

  func append(_ progress: ReplicaProgress) throws {
    let payload = progress.encoded
    builder.append(.progress, payload: payload.bytes)
    let tables = generation.tables
    try withTail { writer throws(LMDBError) in
      try writer.putSealed(tables.state, key: Tables.progress(of: progress.replica).bytes, payload.bytes)
    }
    needsSynchronize = true
  }

  /// Notes that the author's commits through `version` are here. The log says so by itself.
  func putKnown(_ version: Version, of author: Identity) throws {
    addedAuthors[author] = version
    let state = state
    try withTail { writer throws(LMDBError) in try applier.put(known: version, of: author, in: state, &writer) }
  }

  /// The commits that follow have this origin.
  func append(_ record: IncarnationRecord) throws {
    builder.append(.incarnation, payload: record.encoded().bytes)
    addedAuthors[state.incarnation] = record.through
    builder.origin = record.incarnation
    var after = state
    let before = state
    if isDeferring { state.began(record) }
    try withTail { writer throws(LMDBError) in try applier.apply(record, to: &writer, state: &after) }
    if state == before { state = after }
    needsSynchronize = true
  }

  func append(_ record: RollbackRecord) {
    builder.append(.rollback, payload: record.encoded().bytes)
    state.rolledBack(record)
    needsSynchronize = true
  }

  func append(_ record: AdoptionRecord) {
    builder.append(.adoption, payload: record.encoded().bytes)
    state.adopting(record)
    knownAuthors = [:]
    addedAuthors = [:]
    needsSynchronize = true
  }

  /// What the store held when it adopted its space is offered to that.
  func appendAdopted() {
    builder.append(.adopted, payload: RawSpan())
    state.isAdopting = false
    needsSynchronize = true
  }

  func append(_ record: RestoredRecord) {
    builder.append(.restored, payload: record.encoded().bytes)
    state.restored(through: record.through)
    needsSynchronize = true
  }

  // MARK: Reading, the group's own writes included

  /// Calls `body` with the row of `key`, tombstones too; nil when there is none.
  func withRow<Result>(_ key: RawSpan, _ body: (Row, _ value: RawSpan) throws -> Result) throws -> Result? {
    let home = generation.tables.home
    return try withRowBytes(key) { try body(Row($0, key: key, home: home), Row.value($0, key: key)) }
  }

  /// The row of `key`, tombstones too, without a look at its value.
  func row(of key: RawSpan) throws -> Row? {
    let home = generation.tables.home
    return try withRowBytes(key) { try Row($0, key: key, home: home) }
  }

  private func withRowBytes<Result>(_ key: RawSpan, _ body: (RawSpan) throws -> Result) throws -> Result? {
    try StoreLimits.check(key: key)
    try showOwnWrites()
    if let own = try writer!.get(generation.tables.rows, key: key, body) { return own }
    try writer!.checkAbsence(of: key, in: generation.tables.rows, .rows)
    let hash = checksum64(key)
    for source in try sourcesBelow() where source.mayHave(hash) {
      if let found = try source.reader.get(source.tables.rows, key: key, body) { return found }
      try source.checkAbsence(ofRow: key)
    }
    return nil
  }

  /// What the hub has applied of a replica.
  func progress(of replica: Identity) throws -> ReplicaProgress? {
    try withEntry(\.state, Tables.progress(of: replica)) { try ReplicaProgress(decoding: $0) }
  }

  /// Through which of its versions the author's commits, those that the hub applied, are here.
  func known(of author: Identity) throws -> Version {
    if let version = addedAuthors[author] ?? knownAuthors[author] { return version }
    // What this group adds is in `knownAuthors`, so that the group's own writes need not be in the tail for this.
    let version =
      try withStoredEntry(\.state, Tables.author(author)) { bytes -> Version in
        var reader = ByteReader()
        let version = try reader.read(UInt64.self, from: bytes)
        return try reader.read(UInt64.self, from: bytes) == state.formerThrough ? version : 0
      } ?? 0
    if knownAuthors.count >= Self.maximumKnownAuthors { knownAuthors = [:] }
    knownAuthors[author] = version
    return version
  }

  /// Calls `body` with an entry of one of the smaller tables; nil when there is none, or it is gone.
  func withEntry<Result>(
    _ table: KeyPath<Tables, Table>, _ key: [UInt8], _ body: (RawSpan) throws -> Result
  ) throws -> Result? {
    try showOwnWrites()
    return try withStoredEntry(table, key, body)
  }

  /// As the tail's transaction has it, which may not have the group's own writes yet.
  private func withStoredEntry<Result>(
    _ table: KeyPath<Tables, Table>, _ key: [UInt8], _ body: (RawSpan) throws -> Result
  ) throws -> Result? {
    if let requestFailure { throw requestFailure }
    let read = { (entry: RawSpan) throws -> Result? in entry.byteCount > 0 ? try body(entry) : nil }
    if let found = try writer!.getSealed(generation.tables[keyPath: table], key: key.bytes, read) { return found }
    for source in try sourcesBelow() {
      if let found = try source.getSealed(source.tables[keyPath: table], key: key.bytes, read) { return found }
    }
    return nil
  }

  /// Cursors over the live generation and all below it, newest first; to be dropped before the next write.
  func withCursors<Result>(
    _ table: KeyPath<Tables, Table> = \.rows, _ body: ([RowCursor]) throws -> Result
  ) throws -> Result {
    try showOwnWrites()
    var cursors = [RowCursor.writer(try writer!.cursor(generation.tables[keyPath: table]))]
    for source in try sourcesBelow() {
      cursors.append(.reader(try source.reader.cursor(source.tables[keyPath: table])))
    }
    return try body(cursors)
  }

  private func sourcesBelow() throws -> [Source] {
    if let below { return below }
    let sources = try core.sources(live: false)
    below = sources
    return sources
  }
}
