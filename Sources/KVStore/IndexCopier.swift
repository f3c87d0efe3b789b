// Copies what a snapshot shows into an empty index, in key order, so that every page is filled to the brim.
//
// Invariants
// - A transaction copies a bounded number of bytes, and dirties pages for those only.
// - Source and index have the same home: rows are copied as they are.
// - Every row and entry is checked before it is copied: damage does not travel.
// - The state comes last: an index that has it has everything.

import KVLog
import LMDB

struct IndexCopier {
  let index: Index
  let snapshot: Snapshot
  /// Those that have a value.
  private(set) var keys = 0
  /// Tombstones included.
  private(set) var rows = 0

  init(_ index: Index, _ snapshot: Snapshot) {
    self.index = index
    self.snapshot = snapshot
  }

  /// Durable when it returns. What `progress` throws ends it.
  mutating func run(_ state: StoreState?, _ progress: (Int) throws -> Void) throws {
    var cursor = try snapshot.mergeCursor(KeyRange(), reversed: false)
    var more = true
    while more {
      var writer = try index.environment.beginWrite()
      more = try copyRows(&cursor, &writer)
      try index.put(liveKeys: keys, in: &writer)
      try writer.commit()
      try progress(rows)
    }
    try copy(\.voids, KeyRange(), progress)
    try copy(\.conflicts, KeyRange(), progress)
    try copy(\.parked, KeyRange(), progress)
    try copy(\.unresolved, KeyRange(), progress)
    try copy(\.state, KeyRange(prefix: Tables.progress), progress)
    try copy(\.state, KeyRange(prefix: Tables.authors), progress)
    try copy(\.state, KeyRange(prefix: SuccessionRecord.Step.prefix), areEmpty: true, progress)
    guard let state else { return }
    var writer = try index.environment.beginWrite()
    try writer.put(state: state, in: index.tables)
    try writer.commit()
  }

  /// Returns false when there are no more.
  private mutating func copyRows(_ cursor: inout MergeCursor, _ writer: inout LMDBWriter) throws -> Bool {
    var bytes = 0
    var tombstones = 0
    while bytes < StoreLimits.foldBytes, tombstones < StoreLimits.sweepRows {
      guard try cursor.advance() else { return false }
      try cursor.withEntry { key, value in
        let row = try Row(value, key: key, home: snapshot.home)
        _ = try Row.value(value, key: key)
        try writer.put(index.tables.rows, key: key, value: value, append: true)
        if row.isTombstone {
          try writer.put(index.tombstones, key: Index.tombstone(row.version, key).bytes, value: key)
          tombstones += 1
        } else {
          keys += 1
        }
        rows += 1
        bytes += key.byteCount + value.byteCount
      }
    }
    return true
  }

  /// One of the other tables. Entries without a payload are gone, unless they all say what they say by their keys.
  private func copy(
    _ table: KeyPath<Tables, Table>, _ range: KeyRange, areEmpty: Bool = false, _ progress: (Int) throws -> Void
  ) throws {
    let cursors = try snapshot.sources.map { try $0.reader.cursor($0.tables[keyPath: table]) }
    var cursor = try MergeCursor(cursors, .sealed, range: range, isReversed: false)
    var more = true
    while more {
      var writer = try index.environment.beginWrite()
      more = try copyEntries(&cursor, areEmpty, to: index.tables[keyPath: table], &writer)
      try writer.commit()
      try progress(rows)
    }
  }

  private func copyEntries(
    _ cursor: inout MergeCursor, _ areEmpty: Bool, to table: Table, _ writer: inout LMDBWriter
  ) throws -> Bool {
    var bytes = 0
    while bytes < StoreLimits.foldBytes {
      guard try cursor.advance() else { return false }
      try cursor.withEntry { key, value in
        guard try Sealed.payloadBytes(value, key: key, path: snapshot.path) > 0 || areEmpty else { return }
        try writer.put(table, key: key, value: value)
        bytes += key.byteCount + value.byteCount
      }
    }
    return true
  }
}
