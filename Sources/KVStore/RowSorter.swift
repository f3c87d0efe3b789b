// The rows of many commits in the order of their keys: what a tree takes with one step from page to page, where each row by
// itself would be a search from its root.
//
// Invariants
// - Nothing of the records is copied but the first bytes of the keys.
// - Of several changes of one key the last one counts.

import CPlatform
import KVLog

struct RowSorter {
  /// A change: where it lies in the records, which follow each other, and where the record of its commit does.
  private struct Entry {
    /// The first bytes of the key: most comparisons need no more.
    var prefix: UInt64
    var key: UInt32
    var value: UInt32
    var end: UInt32
    /// A multiple of two bytes; odd: a deletion.
    var commit: UInt32
  }

  private var entries: [Entry] = []
  /// What the rows take in a tree that is filled in ascending order, about.
  private(set) var treeBytes = 0

  var count: Int { entries.count }

  mutating func add(_ commit: CommitView, of record: RecordView, in records: RawSpan) throws {
    precondition(records.byteCount < Int32.max, "rows are sorted by so many bytes at a time")
    var changes = ChangeCursor(commit)
    while let change = try changes.next(in: records) {
      entries.append(
        Entry(
          prefix: RowSorter.prefix(records, change.key), key: UInt32(change.key.lowerBound),
          value: UInt32(change.value.lowerBound), end: UInt32(change.value.upperBound),
          commit: UInt32(record.payload.lowerBound) << 1 | (change.isDeletion ? 1 : 0)))
      treeBytes += RowSorter.treeBytes(change.key.count + change.value.count)
    }
  }

  mutating func sort(in records: RawSpan) {
    entries.sort { first, second in
      if first.prefix != second.prefix { return first.prefix < second.prefix }
      let order = RowSorter.compare(first, second, records)
      return order != 0 ? order < 0 : first.key < second.key
    }
  }

  /// Calls `body` with each key, in ascending order, and its newest row; after `sort`.
  func forEach(in records: RawSpan, _ body: (_ key: RawSpan, _ value: RawSpan, Row) throws -> Void) throws {
    for index in entries.indices {
      let entry = entries[index]
      if index + RowSorter.distance < entries.endIndex { RowSorter.fetch(entries[index + RowSorter.distance], records) }
      if index + 1 < entries.endIndex, entries[index + 1].prefix == entry.prefix,
        RowSorter.compare(entry, entries[index + 1], records) == 0
      {
        continue
      }
      let header = CommitHeader(ofPayloadAt: Int(entry.commit >> 1), in: records)
      try body(
        records.extracting(Int(entry.key)..<Int(entry.value)), records.extracting(Int(entry.value)..<Int(entry.end)),
        Row(header, isTombstone: entry.commit & 1 != 0))
    }
  }

  /// The rows lie anywhere: what one of them costs is the way to the memory, which those before it can pay for.
  private static let distance = 12

  private static func fetch(_ entry: Entry, _ records: RawSpan) {
    unsafe records.withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress else { return }
      for offset in stride(from: Int(entry.key), to: min(Int(entry.end), Int(entry.key) + 256), by: 64) {
        unsafe prefetch(base + offset)
      }
    }
  }

  private static func compare(_ first: Entry, _ second: Entry, _ records: RawSpan) -> Int {
    records.extracting(Int(first.key)..<Int(first.value))
      .compare(records.extracting(Int(second.key)..<Int(second.value)))
  }

  private static func prefix(_ records: RawSpan, _ key: Range<Int>) -> UInt64 {
    if key.count >= 8 { return records.load(UInt64.self, at: key.lowerBound).byteSwapped }
    return key.reduce(0) { $0 << 8 | UInt64(records.load(UInt8.self, at: $1)) } << (8 * UInt64(8 - key.count))
  }

  /// LMDB puts what is larger than a part of a page on pages of its own.
  private static func treeBytes(_ bytes: Int) -> Int {
    let row = bytes + 56
    return row < 1_024 ? row : row + 4_096
  }
}
