// What a group reads while it writes: the published rows and its own, newest first.
//
// Invariant: a look-up that may be answered by the group's own writes shows them first (`showOwnWrites`).

import KVLog
import LMDB

extension GroupWriter {
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
    if let progress = addedProgress[replica] ?? knownProgress[replica] { return progress }
    // What this group adds is in `addedProgress`, so that the group's own writes need not be in the tail for this.
    let progress = try withStoredEntry(\.state, Tables.progress(of: replica)) { try ReplicaProgress(decoding: $0) }
    if let progress { know(progress) }
    return progress
  }

  /// Remembers what is published of a replica, unless that takes much room.
  func know(_ progress: ReplicaProgress) {
    guard progress.unconfirmed.count <= Self.maximumKnownExceptions else {
      knownProgress[progress.replica] = nil
      return
    }
    if knownProgress.count >= Self.maximumKnownProgress { knownProgress = [:] }
    knownProgress[progress.replica] = progress
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
    try openTail()
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
