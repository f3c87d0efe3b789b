// Applies records of the log to rows, the other tables and the counters: the same way for a live write that must be
// repeated, for recovery at open, and for a reader's private tail. There is no other way from log to rows.

import KVLog
import LMDB

struct LogApplier {
  let tables: Tables

  /// Applies all of `records` in order and moves `state` along. A failure leaves `writer` to be aborted.
  func apply(_ records: RawSpan, to writer: inout LMDBWriter, state: inout StoreState) throws {
    var cursor = RecordCursor(0..<records.byteCount)
    var authors: [Identity: Version] = [:]
    while let record = try cursor.next(in: records) {
      let payload = records.extracting(record.payload)
      switch record.kind {
      case .commit:
        let commit = try CommitView(payload: record.payload, in: records)
        try apply(commit, in: records, to: &writer, state: &state)
        if commit.header.completesForeign { authors[commit.header.origin] = commit.header.originVersion }
      case .acknowledgement:
        state.acknowledged(try AcknowledgementRecord(decoding: payload))
        guard state.isConsistent else { throw LogFormatError(.badValue, at: record.payload.lowerBound) }
      case .cursor: state.advanced(try CursorRecord(decoding: payload))
      case .progress: try apply(progress: payload, to: &writer)
      case .incarnation: try apply(IncarnationRecord(decoding: payload), to: &writer, state: &state)
      case .rollback:
        state.rolledBack(try RollbackRecord(decoding: payload))
        guard state.isConsistent else { throw LogFormatError(.badValue, at: record.payload.lowerBound) }
      case .subscription: state.subscribed(try SubscriptionRecord(decoding: payload))
      case .restored: state.restored(try RestoredRecord(decoding: payload))
      case .adoption:
        state.adopting(try AdoptionRecord(decoding: payload))
        authors = [:]
      case .adopted: state.isAdopting = false
      case .contact: state.noted(try HubContact(decoding: payload))
      case .succession: try apply(SuccessionRecord(decoding: payload), to: &writer, state: &state)
      case .conflict: try apply(ConflictRecord(decoding: payload), payload, to: &writer, state: &state)
      case .parked: try apply(ParkedRecord(decoding: payload), payload, to: &writer, state: &state)
      case .unparked: try apply(UnparkedRecord(decoding: payload), payload, to: &writer, state: &state)
      case .decision: try apply(DecisionRecord(decoding: payload), payload, to: &writer, state: &state)
      case .pruning: try apply(PruningRecord(decoding: payload), payload, to: &writer, state: &state)
      }
    }
    for (author, version) in authors { try put(known: version, of: author, in: state, &writer) }
  }

  /// What the rows and progress of many groups come to.
  struct Collected {
    var rows = RowSorter()
    fileprivate var authors: [Identity: Version] = [:]
    fileprivate var progress: [Identity: Range<Int>] = [:]
  }

  /// Takes the records of a group in, which lie in `range` of `records` and are nothing but commits and progress.
  func collect(_ records: RawSpan, _ range: Range<Int>, into collected: inout Collected) throws {
    var cursor = RecordCursor(range)
    while let record = try cursor.next(in: records) {
      switch record.kind {
      case .commit:
        let commit = try CommitView(payload: record.payload, in: records)
        try collected.rows.add(commit, of: record, in: records)
        let header = commit.header
        if header.completesForeign { collected.authors[header.origin] = header.originVersion }
      case .progress: collected.progress[records.loadIdentity(at: record.payload.lowerBound)] = record.payload
      default: throw LogFormatError(.unknownKind, at: record.record.lowerBound)
      }
    }
  }

  /// Applies what was collected, rows by key.
  func apply(
    _ collected: borrowing Collected, of records: RawSpan, in state: StoreState, to writer: inout LMDBWriter
  ) throws {
    do {
      var place = try writer.ascendingWriter(tables.rows)
      let home = tables.home
      try collected.rows.forEach(in: records) { key, value, row throws in
        try place.put(key: key, reservingBytes: row.byteCount(valueBytes: value.byteCount, home: home)) { target in
          row.write(value: value, key: key, home: home, into: &target)
        }
      }
    }
    for payload in collected.progress.values { try apply(progress: records.extracting(payload), to: &writer) }
    for (author, version) in collected.authors { try put(known: version, of: author, in: state, &writer) }
  }

  private func apply(_ commit: CommitView, in bytes: RawSpan, to writer: inout LMDBWriter, state: inout StoreState)
    throws
  {
    var byteCount = 0
    if commit.header.flags.contains(.rows) {
      byteCount = commit.payloadBytes
      try put(rowsOf: commit, in: bytes, &writer)
    } else {
      var changes = ChangeCursor(commit)
      while let change = try changes.next(in: bytes) {
        try put(bytes.extracting(change.key), bytes.extracting(change.value), change.isDeletion, commit.header, &writer)
        byteCount += change.key.count + change.value.count
      }
    }
    let digest = state.position.digest.chained(version: commit.header.version, core: bytes.extracting(commit.core))
    state.committed(commit.header, bytes: byteCount, digest: digest)
  }

  /// Writes the rows of a commit of rows.
  private func put(rowsOf commit: CommitView, in bytes: RawSpan, _ writer: inout LMDBWriter) throws {
    let header = commit.header
    var changes = ChangeCursor(commit)
    var origins = RowOriginCursor(commit, in: bytes)
    while let change = try changes.next(in: bytes) {
      let own = header.ofRow(try origins.next(in: bytes))
      try put(bytes.extracting(change.key), bytes.extracting(change.value), change.isDeletion, own, &writer)
    }
  }

  /// Writes one row.
  @inline(__always)
  func put(
    _ key: RawSpan, _ value: RawSpan, _ isDeletion: Bool, _ header: CommitHeader, _ writer: inout LMDBWriter
  ) throws(LMDBError) {
    let row = Row(header, isTombstone: isDeletion)
    let home = tables.home
    let byteCount = row.byteCount(valueBytes: value.byteCount, home: home)
    try writer.putGrowing(tables.rows, key: key, reservingBytes: byteCount) { target in
      row.write(value: value, key: key, home: home, into: &target)
    }
  }

  private func apply(
    _ record: some StoreRecord, _ payload: RawSpan, to writer: inout LMDBWriter, state: inout StoreState
  ) throws {
    try record.apply(to: &state)
    try record.write(payload, to: tables, &writer)
  }

  /// Every commit of the author through `version` that the hub has applied is here. Of the hub that the store is bound to:
  /// what is known of an author ends when another space is adopted.
  func put(
    known version: Version, of author: Identity, in state: StoreState, _ writer: inout LMDBWriter
  ) throws(LMDBError) {
    var bytes: [UInt8] = []
    bytes.append(littleEndian: version)
    bytes.append(littleEndian: state.formerThrough)
    try writer.putSealed(tables.state, key: Tables.author(author).bytes, bytes.bytes)
  }

  func apply(
    _ record: IncarnationRecord, to writer: inout LMDBWriter, state: inout StoreState
  ) throws(LMDBError) {
    // What the hub has of the former incarnation, and feeds like the commits of others from now on, is here.
    try put(known: record.through, of: state.incarnation, in: state, &writer)
    state.began(record)
  }

  /// The backup in these tables becomes the store `identity`; its source is known through the backup's version.
  func adopt(_ identity: Identity, _ writer: inout LMDBWriter, _ state: inout StoreState) throws(LMDBError) {
    try put(known: state.version, of: state.incarnation, in: state, &writer)
    state.adopted(by: identity)
    try writer.put(state: state, in: tables)
  }

  private func apply(progress payload: RawSpan, to writer: inout LMDBWriter) throws {
    let progress = try ReplicaProgress(decoding: payload)
    try writer.putSealed(tables.state, key: Tables.progress(of: progress.replica).bytes, payload)
  }
}

extension CommitHeader {
  /// Whether a commit of somebody else is recorded here to its end with this one.
  var completesForeign: Bool { serverVersion > 0 && flags.isDisjoint(with: [.partial, .rows]) }
}
