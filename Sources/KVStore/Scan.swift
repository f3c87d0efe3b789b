// Ordered scans of a snapshot: lazy sequences for convenience, closures with borrowed bytes for speed.

import KVLog
import LMDB

extension Snapshot {
  /// The live rows whose keys begin with `prefix`, in key order (or backwards), fetched as the sequence is walked.
  ///
  /// A sequence cannot throw: damaged data ends it, and the error is thrown by ``Store/read(_:)`` when its closure
  /// returns, so that a cut-off scan is never taken for a whole one. This call itself throws ``StoreError``: `corrupt`,
  /// `system`.
  public func scan(prefix: some BytesConvertible = "", reversed: Bool = false) throws -> Scan {
    try scan(KeyRange(prefix: prefix), reversed: reversed)
  }

  /// The live rows of a range of keys, in key order or backwards. As ``scan(prefix:reversed:)`` otherwise.
  ///
  /// A page goes on behind the last key of the one before: scan `range.after(key)`, or backwards `range.before(key)`.
  public func scan(_ range: KeyRange, reversed: Bool = false) throws -> Scan {
    Scan(try LiveRows(self, range, reversed: reversed))
  }

  /// The keys that begin with `prefix` and have a value, in order or backwards, fetched as the sequence is walked.
  /// Values are not read, however long; a key is checked against its row all the same. Errors are as with
  /// ``scan(prefix:reversed:)``.
  public func keys(prefix: some BytesConvertible = "", reversed: Bool = false) throws -> KeyScan {
    try keys(KeyRange(prefix: prefix), reversed: reversed)
  }

  /// The keys of a range that have a value, in order or backwards. As ``keys(prefix:reversed:)`` otherwise.
  public func keys(_ range: KeyRange, reversed: Bool = false) throws -> KeyScan {
    KeyScan(try LiveRows(self, range, reversed: reversed))
  }

  /// How many keys that begin with `prefix` have a value. Walks those keys without reading their values, some ten
  /// million a second; for an empty prefix, which means all keys, it takes the store's own count and looks at the tail
  /// only. Throws ``StoreError``: `corrupt`, `system`.
  public func count(prefix: some BytesConvertible = "") throws -> Int {
    try count(in: KeyRange(prefix: prefix))
  }

  /// How many keys of a range have a value. As ``count(prefix:)`` otherwise.
  public func count(in range: KeyRange) throws -> Int {
    if range == KeyRange() { return try liveKeys() }
    var count = 0
    try forEachKey(in: range) { _ in
      count += 1
      return true
    }
    return count
  }

  /// Calls `body` with each live row in key order, without copying; stops when it returns false. The spans are valid
  /// only until `body` returns. Throws what `body` throws, or ``StoreError``: `corrupt`, `system`.
  public func forEach(
    in range: KeyRange = KeyRange(), reversed: Bool = false,
    _ body: (_ key: RawSpan, _ value: RawSpan) throws -> Bool
  ) throws {
    var cursor = try mergeCursor(range, reversed: reversed)
    try cursor.forEach { key, bytes in
      guard let value = try Row.liveValue(bytes, key: key) else { return true }
      return try body(key, value)
    }
  }

  /// Calls `body` with each key that has a value, in order or backwards, without copying it and without reading the
  /// value; stops when it returns false. The span is valid only until `body` returns. Throws as `forEach` does.
  public func forEachKey(
    in range: KeyRange = KeyRange(), reversed: Bool = false, _ body: (_ key: RawSpan) throws -> Bool
  ) throws {
    var cursor = try mergeCursor(range, reversed: reversed)
    try cursor.forEach { key, bytes in try Row.isLive(bytes, key: key) ? try body(key) : true }
  }

  /// As `forEach`, with what the store knows of each row, tombstones included.
  package func forEachRow(
    in range: KeyRange = KeyRange(), reversed: Bool = false,
    _ body: (_ key: RawSpan, _ row: Row, _ value: RawSpan) throws -> Bool
  ) throws {
    var cursor = try mergeCursor(range, reversed: reversed)
    let home = home
    try cursor.forEach { key, bytes in
      try body(key, Row(bytes, key: key, home: home), Row.value(bytes, key: key))
    }
  }

  func mergeCursor(_ range: KeyRange, reversed: Bool) throws -> MergeCursor {
    let cursors = try sources.map { try $0.reader.cursor($0.tables.rows) }
    return try MergeCursor(cursors, range: range, isReversed: reversed)
  }
}

/// The rows of a scan. Single pass; keeps its snapshot alive; used by one thread at a time.
public struct Scan: Sequence, IteratorProtocol {
  private var rows: LiveRows

  init(_ rows: LiveRows) { self.rows = rows }

  /// The next row, copied; nil at the end, and from damaged data on (see ``Snapshot/scan(prefix:reversed:)``).
  public mutating func next() -> KeyValue? {
    rows.next { key, bytes in
      guard let value = try Row.liveValue(bytes, key: key) else { return nil }
      return KeyValue(key: key.copied(), value: value.copied())
    }
  }
}

/// The keys of a scan. Single pass; keeps its snapshot alive; used by one thread at a time.
public struct KeyScan: Sequence, IteratorProtocol {
  private var rows: LiveRows

  init(_ rows: LiveRows) { self.rows = rows }

  /// The next key, copied; nil at the end, and from damaged data on (see ``Snapshot/scan(prefix:reversed:)``).
  public mutating func next() -> [UInt8]? {
    rows.next { key, bytes in try Row.isLive(bytes, key: key) ? key.copied() : nil }
  }
}

/// A walk that somebody steps from outside, and that leaves its error with the snapshot.
struct LiveRows {
  private let snapshot: Snapshot
  private var cursor: MergeCursor
  private var isFinished = false

  init(_ snapshot: Snapshot, _ range: KeyRange, reversed: Bool) throws {
    self.snapshot = snapshot
    cursor = try snapshot.mergeCursor(range, reversed: reversed)
  }

  /// What `make` makes of the next row; rows of which it makes nothing are passed over.
  mutating func next<Element>(_ make: (_ key: RawSpan, _ row: RawSpan) throws -> Element?) -> Element? {
    while !isFinished {
      do {
        guard try cursor.advance() else { break }
        if let element = try cursor.withEntry(make) { return element }
      } catch {
        snapshot.fail(StoreError.published(error, path: snapshot.path))
        break
      }
    }
    isFinished = true
    return nil
  }
}
