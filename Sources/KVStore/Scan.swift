// Ordered scans of a snapshot: a lazy sequence for convenience, a closure with borrowed bytes for speed.

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
  public func scan(_ range: KeyRange, reversed: Bool = false) throws -> Scan {
    Scan(snapshot: self, cursor: try mergeCursor(range, reversed: reversed))
  }

  /// Calls `body` with each live row in key order, without copying; stops when it returns false. The spans are valid only
  /// until `body` returns. Throws what `body` throws, or ``StoreError``: `corrupt`, `system`.
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
  private let snapshot: Snapshot
  private var cursor: MergeCursor
  private var isFinished = false

  init(snapshot: Snapshot, cursor: MergeCursor) {
    self.snapshot = snapshot
    self.cursor = cursor
  }

  /// The next row, copied; nil at the end, and from damaged data on (see ``Snapshot/scan(prefix:reversed:)``).
  public mutating func next() -> KeyValue? {
    while !isFinished {
      do {
        guard try cursor.advance() else { break }
        let entry: KeyValue? = try cursor.withEntry { key, bytes in
          guard let value = try Row.liveValue(bytes, key: key) else { return nil }
          return KeyValue(key: key.copied(), value: value.copied())
        }
        if let entry { return entry }
      } catch {
        snapshot.fail(StoreError.published(error, path: snapshot.path))
        break
      }
    }
    isFinished = true
    return nil
  }
}
