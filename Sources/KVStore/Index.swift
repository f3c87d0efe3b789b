// The index: one LMDB environment that holds what the log adds up to, up to the last fold.
//
// Invariants
// - Its "counters" are those of a position in the log; replaying the log from there gives the whole store.
// - Rows may already be newer than the counters while a fold is under way: the generation that they come from, and
//   the log, still hold them.
// - "keys" counts the rows that are no tombstones, exactly, in every committed transaction.
// - A tombstone is listed in `tombstones` under its version, so that sweeping needs no scan of the rows.

import KVLog
import LMDB

final class Index: Sendable {
  let environment: LMDBEnvironment
  let tables: Tables
  /// version u64 big-endian + key's checksum u64 → key
  let tombstones: Table

  static let name = "index.mdb"

  /// What an opening decides.
  struct Sizes {
    /// See `StoreLimits.indexMapBytes`.
    var mapBytes = StoreLimits.indexMapBytes
    /// See `StoreLimits.verifiedIndexBytes`.
    var verifiedBytes = StoreLimits.verifiedIndexBytes
  }

  /// A new index is the home of `identity`, and stays it: a copy of the store that takes another identity keeps its
  /// rows.
  init(path: String, readOnly: Bool, identity: Identity, _ sizes: Sizes = Sizes()) throws {
    var options = LMDBEnvironment.Options(mapSizeBytes: sizes.mapBytes)
    options.mapGrows = true
    options.readOnly = readOnly
    options.verifiedBytes = sizes.verifiedBytes
    environment = try LMDBEnvironment(path: path, options: options)
    let opened = try Index.openTables(environment)
    tombstones = opened[Tables.names.count]
    tables = Tables(opened, home: try Index.home(environment, state: opened[3], identity, readOnly: readOnly))
  }

  private static func openTables(_ environment: LMDBEnvironment) throws -> [Table] {
    do throws(LMDBError) {
      // Only a new index lacks one. In another its name is damaged, and an empty table must not take its place.
      return try environment.openTables(Tables.names + ["tombstones"], create: environment.isNew)
    } catch {
      guard error.code == .notFound else { throw error }
      throw StoreError(
        .corrupt, "a table of the index is missing. Run `kvsync verify`, and restore from a backup or the hub.",
        path: environment.path)
    }
  }

  private static func home(
    _ environment: LMDBEnvironment, state: Table, _ identity: Identity, readOnly: Bool
  ) throws -> Identity {
    let key = Tables.homeKey
    let reader = try environment.reader()
    let found = try reader.get(state, key: key.bytes) { entry in
      let count = try Sealed.payloadBytes(entry, key: key.bytes, path: environment.path)
      var reader = ByteReader()
      return try reader.identity(from: entry.extracting(0..<count))
    }
    if let found { return found }
    try reader.checkAbsence(of: key.bytes, in: state, .sealed)
    guard !readOnly else { return identity }
    var writer = try environment.beginWrite()
    var bytes: [UInt8] = []
    bytes.append(identity)
    try writer.putSealed(state, key: key.bytes, bytes.bytes)
    try writer.commit()
    return identity
  }

  func source() throws(LMDBError) -> Source {
    Source(reader: try environment.reader(), tables: tables)
  }

  /// The state as of the last fold; nil in an index that never had one.
  static func state(_ source: Source) throws -> StoreState? {
    let key = Tables.counters
    return try source.getSealed(source.tables.state, key: key.bytes) { try StoreState(decoding: $0) }
  }

  func foldedState() throws -> StoreState? { try Index.state(source()) }

  static func liveKeys(_ source: Source) throws -> Int {
    let key = Tables.keys
    return try source.getSealed(source.tables.state, key: key.bytes) { Int($0.load(UInt64.self, at: 0)) } ?? 0
  }

  var usedBytes: Int { environment.statistics.usedBytes }

  // MARK: Folding

  /// Copies sealed generations, oldest first, into the index in key order, in transactions of bounded size: of each key
  /// the newest row. Durable when it returns, as its last transaction is. `didCommit` is told the number of each transaction, and how much of the fold is
  /// done.
  func fold(_ generations: [Generation], didCommit: (_ transaction: Int, _ done: Double) throws -> Void) throws {
    let newestFirst = try generations.reversed().map { try $0.source() }
    guard let newest = newestFirst.first, let state = try Index.state(newest) else { return }
    let folding = try newestFirst.reduce(0) { try $0 + $1.reader.entryCount($1.tables.rows) }
    var rows = try Index.rows(newestFirst, from: nil)
    var more = try rows.advance()
    var folded = 0
    var pages = StoreLimits.foldPages
    while more {
      let start = try rows.withEntry { key, _ in key.copied() }
      do {
        var writer = try environment.beginWrite()
        let count = try foldRows(&rows, &more, atMost: rowsPerTransaction(folding, pages, writer), into: &writer)
        let transaction = writer.transactionID
        try writer.commit(durably: false)
        folded += count
        try didCommit(transaction, Double(folded) / Double(folding))
      } catch let error where StoreError.isFull(error) && pages > StoreLimits.smallestFoldPages {
        // A smaller transaction needs less room, and gives back as much for the one after the next.
        pages = max(pages / 4, StoreLimits.smallestFoldPages)
        rows = try Index.rows(newestFirst, from: start)
        more = try rows.advance()
      }
    }
    let voidsCount = state.voidThrough > state.acknowledged
    if voidsCount { try foldEntries(\.voids, newestFirst, didCommit) }
    try foldEntries(\.conflicts, newestFirst, didCommit)
    try foldEntries(\.parked, newestFirst, didCommit)
    try foldEntries(\.unresolved, newestFirst, didCommit)
    var writer = try environment.beginWrite()
    // Void entries at or below the acknowledged version have done their work.
    if try !voidsCount && writer.entryCount(tables.voids) > 0 { try writer.removeAll(tables.voids) }
    for source in newestFirst.reversed() {
      try copyAll(source.reader.cursor(source.tables.state), to: tables.state, in: &writer)
    }
    let transaction = writer.transactionID
    try writer.commit()
    try didCommit(transaction, 1)
  }

  private static func rows(_ sources: [Source], from key: [UInt8]?) throws -> MergeCursor {
    try MergeCursor(
      sources.map { try $0.reader.cursor($0.tables.rows) }, range: KeyRange(from: key), isReversed: false)
  }

  /// Whether folding the generations would touch about as many pages as they have rows.
  func isThin(_ generations: [Generation]) throws -> Bool {
    let rows = try generations.reduce(0) { try $0 + $1.environment.reader().entryCount($1.tables.rows) }
    let pages = try environment.reader().leafPageCount(tables.rows)
    return rows < pages * StoreLimits.foldRowsPerPage
  }

  /// How many of `folding` rows, in key order, dirty so many leaf pages of the index. The fewer rows a fold has for
  /// each page, the more pages it touches for each row, up to one.
  private func rowsPerTransaction(_ folding: Int, _ dirty: Int, _ writer: borrowing LMDBWriter) throws -> Int {
    let pages = max(1, try writer.leafPageCount(tables.rows))
    return dirty * max(1, min(folding / pages, Index.rowsPerPage))
  }

  /// Rows of some 150 bytes on a page of 4 KiB; small enough that the bound in bytes is the one for larger ones.
  private static let rowsPerPage = 24

  /// Gives the number of rows copied; `more` is false when that were all.
  private func foldRows(
    _ source: inout MergeCursor, _ more: inout Bool, atMost rows: Int, into writer: inout LMDBWriter
  ) throws -> Int {
    var keys = try liveKeys(in: writer)
    var count = 0
    var bytes = 0
    do {
      var place = try writer.ascendingWriter(tables.rows)
      while more, count < rows, bytes < StoreLimits.foldBytes {
        try source.withEntry { key, value in
          // Damage must not outlive the log that could repair it.
          let row = try Row(value, key: key, home: tables.home)
          _ = try Row.value(value, key: key)
          let wasLive = try place.put(key: key, value: value) { Row.isLive(unchecked: $0) } ?? false
          keys += (row.isTombstone ? 0 : 1) - (wasLive ? 1 : 0)
          if row.isTombstone {
            try writer.put(tombstones, key: Index.tombstone(row.version, key).bytes, value: key)
          }
          count += 1
          bytes += key.byteCount + value.byteCount
        }
        more = try source.advance()
      }
    }
    try put(liveKeys: keys, in: &writer)
    return count
  }

  func liveKeys(in writer: borrowing LMDBWriter) throws -> Int {
    let key = Tables.keys
    return try writer.getSealed(tables.state, key: key.bytes) { Int($0.load(UInt64.self, at: 0)) } ?? 0
  }

  func put(liveKeys: Int, in writer: inout LMDBWriter) throws {
    var bytes: [UInt8] = []
    bytes.append(littleEndian: UInt64(liveKeys))
    let key = Tables.keys
    try writer.putSealed(tables.state, key: key.bytes, bytes.bytes)
  }

  /// Copies the entries of one of the smaller tables in the order of their keys, in transactions of bounded size. Those
  /// that are gone are taken out of the index.
  private func foldEntries(
    _ table: KeyPath<Tables, Table>, _ newestFirst: [Source], _ didCommit: (Int, Double) throws -> Void
  ) throws {
    let cursors = try newestFirst.map { try $0.reader.cursor($0.tables[keyPath: table]) }
    var entries = try MergeCursor(cursors, .sealed, range: KeyRange(), isReversed: false)
    var more = try entries.advance()
    while more {
      var writer = try environment.beginWrite()
      var count = 0
      var bytes = 0
      while more, count < StoreLimits.foldEntries, bytes < StoreLimits.foldBytes {
        try entries.withEntry { key, value in
          // Damage must not outlive the log that could repair it.
          if try Sealed.payloadBytes(value, key: key, path: environment.path) == 0 {
            try writer.delete(tables[keyPath: table], key: key)
          } else {
            try writer.put(tables[keyPath: table], key: key, value: value)
          }
          count += 1
          bytes += key.byteCount + value.byteCount
        }
        more = try entries.advance()
      }
      let transaction = writer.transactionID
      try writer.commit(durably: false)
      try didCommit(transaction, 1)
    }
  }

  private func copyAll(_ cursor: LMDBCursor, to table: Table, in writer: inout LMDBWriter) throws {
    var more = try cursor.first()
    while more {
      try cursor.withEntry { key, value in try writer.put(table, key: key, value: value) }
      more = try cursor.next()
    }
  }

  // MARK: Tombstones

  static func tombstone(_ version: Version, _ key: RawSpan) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(16)
    for word in [version, checksum64(key)] {
      for shift in stride(from: 56, through: 0, by: -8) {
        bytes.append(UInt8(truncatingIfNeeded: word >> UInt64(shift)))
      }
    }
    return bytes
  }

  /// Removes up to `StoreLimits.sweepRows` tombstones older than `version`; returns false when none are left.
  func sweepTombstones(before version: Version) throws -> Bool {
    var writer = try environment.beginWrite()
    let limit = Index.tombstone(version, RawSpan()).prefix(8)
    var entries: [(entry: [UInt8], key: [UInt8])] = []
    do {
      let cursor = try writer.cursor(tombstones)
      var more = try cursor.first()
      while more, entries.count < StoreLimits.sweepRows {
        try cursor.withEntry { entry, key in
          if entry.copied().prefix(8).lexicographicallyPrecedes(limit) {
            entries.append((entry.copied(), key.copied()))
          } else {
            more = false
          }
        }
        if more { more = try cursor.next() }
      }
    }
    guard !entries.isEmpty else {
      writer.abort()
      return false
    }
    for (entry, key) in entries {
      // The key may have been written again since: only the tombstone of that version goes.
      let swept = try writer.get(tables.rows, key: key.bytes) { value in
        guard let row = try? Row(value, key: key.bytes, home: tables.home) else { return false }
        return row.isTombstone && Index.tombstone(row.version, key.bytes) == entry
      }
      if swept == true { try writer.delete(tables.rows, key: key.bytes) }
      try writer.delete(tombstones, key: entry.bytes)
    }
    try writer.commit()
    return entries.count == StoreLimits.sweepRows
  }
}
