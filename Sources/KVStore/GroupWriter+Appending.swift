// What a group appends: local commits, commits from elsewhere, and records of the store's own. Each goes into the block, into
// the counters, and into the tail's transaction unless that is deferred.
//
// Invariant: applied again from the block, by `rebuild` or at recovery, a record comes to the same rows and counters.

import KVLog
import LMDB

extension GroupWriter {
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
    if header.flags.contains(.rows) { isPlain = false }
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
    isPlain = false
    // When the generation runs full, rebuilding applies the record; it comes to the same state.
    state = after
    needsSynchronize = true
    let tables = generation.tables
    try withTail { writer throws(LMDBError) in try record.write(payload.bytes, to: tables, &writer) }
  }

  func append(_ record: AcknowledgementRecord, durably: Bool) {
    isPlain = false
    builder.append(.acknowledgement, payload: record.encoded().bytes)
    state.acknowledged(record)
    needsSynchronize = needsSynchronize || durably
  }

  func append(_ record: SuccessionRecord) throws {
    guard !record.steps.isEmpty else { return }
    isPlain = false
    builder.append(.succession, payload: record.encoded().bytes)
    if isDeferring { state.succeeded(record) }
    let before = state
    var after = state
    try withTail { writer throws(LMDBError) in try applier.apply(record, to: &writer, state: &after) }
    if state == before { state = after }
  }

  func append(_ record: CursorRecord) {
    isPlain = false
    builder.append(.cursor, payload: record.encoded().bytes)
    state.advanced(record)
  }

  func append(_ progress: ReplicaProgress) throws {
    let payload = progress.encoded
    builder.append(.progress, payload: payload.bytes)
    addedProgress[progress.replica] = progress
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
    isPlain = false
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
    append(.rollback, record.encoded()) { $0.rolledBack(record) }
  }

  func append(_ record: AdoptionRecord) {
    append(.adoption, record.encoded()) { $0.adopting(record) }
    knownAuthors = [:]
    addedAuthors = [:]
  }

  /// What the store held when it adopted its space is offered to that.
  func appendAdopted() {
    append(.adopted, []) { $0.isAdopting = false }
  }

  func append(_ record: SubscriptionRecord) {
    append(.subscription, record.encoded()) { $0.subscribed(record) }
  }

  /// Nobody waits for it: a loss of power takes the store back to what it knew before.
  func append(_ contact: HubContact) {
    isPlain = false
    builder.append(.contact, payload: contact.encoded().bytes)
    state.noted(contact)
  }

  func append(_ record: RestoredRecord) {
    append(.restored, record.encoded()) { $0.restored(record) }
  }

  /// A record that changes the counters alone; durable with the group.
  private func append(_ kind: RecordKind, _ payload: [UInt8], _ change: (inout StoreState) -> Void) {
    isPlain = false
    builder.append(kind, payload: payload.bytes)
    change(&state)
    needsSynchronize = true
  }
}
