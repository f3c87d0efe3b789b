// A user's transaction: reads the store with its own writes, and vanishes whole when its closure throws.

import KVLog

/// Changes that become durable and visible together, here, on the hub and on every replica.
///
/// Handed to the closure of `Store.write`, which runs on a thread of the store, or on the caller's own when it blocks: other
/// writes wait meanwhile, those of other processes too; reads do not. Bounds: 64 MiB in all, keys of 1 to 511 bytes, values up to 16 MiB; beyond them ``put(_:for:)`` and
/// ``delete(_:)`` throw ``StoreError`` and the transaction may go on without that change. Any other error of
/// theirs makes the whole transaction fail, also when the closure catches it.
public struct Transaction: ~Copyable {
  let group: GroupWriter

  init(_ group: GroupWriter) {
    self.group = group
  }

  /// Sets the value of `key`. Throws ``StoreError``: `keyEmpty`, `keyTooLong`, `valueTooLong`, `commitTooLarge`; or, for
  /// the whole transaction, `full`, `corrupt`, `closed`, `poisoned`, `system`.
  public mutating func put(_ value: some BytesConvertible, for key: some BytesConvertible) throws {
    try key.withBytes { key in try value.withBytes { value in try group.put(key: key, value: value) } }
  }

  /// Removes `key`. Recorded even when the key has no value here: it may have one elsewhere. Throws as ``put(_:for:)``
  /// does.
  public mutating func delete(_ key: some BytesConvertible) throws {
    try key.withBytes { try group.delete(key: $0) }
  }

  /// The value of `key`, copied, with this transaction's own changes; nil when there is none. Throws ``StoreError``:
  /// `keyEmpty`, `keyTooLong`, `corrupt`, `system`.
  public func value(for key: some BytesConvertible) throws -> [UInt8]? {
    try withValue(for: key) { $0.copied() }
  }

  /// Calls `body` with the value without copying it; nil when there is none. The span is valid only until `body` returns.
  /// Throws what `body` throws, or as ``value(for:)`` does.
  public func withValue<Result>(for key: some BytesConvertible, _ body: (RawSpan) throws -> Result) throws -> Result? {
    try key.withBytes { key in
      try group.withRow(key) { row, value in row.isTombstone ? nil : .some(try body(value)) } ?? nil
    }
  }

  /// Whether `key` has a value, with this transaction's own changes. Throws as ``value(for:)`` does.
  public func contains(_ key: some BytesConvertible) throws -> Bool {
    try withValue(for: key) { _ in true } ?? false
  }

  /// The live rows with `prefix`, this transaction's own changes included; changes made while the scan is walked
  /// appear when they lie ahead of it. An error ends the scan and fails the transaction.
  public func scan(prefix: some BytesConvertible = "", reversed: Bool = false) -> TransactionScan {
    scan(KeyRange(prefix: prefix), reversed: reversed)
  }

  /// The live rows of a range of keys, in key order or backwards. As ``scan(prefix:reversed:)`` otherwise.
  public func scan(_ range: KeyRange, reversed: Bool = false) -> TransactionScan {
    TransactionScan(group: group, range: range, isReversed: reversed)
  }
}

/// The rows of a transaction's scan, fetched a page at a time so that the transaction may write in between. To be used
/// inside its transaction only: stepping it afterwards ends the program.
public struct TransactionScan: Sequence, IteratorProtocol {
  private let group: GroupWriter
  private let serial: Int
  private var range: KeyRange
  private let isReversed: Bool
  /// The next rows, in reverse order, so that taking one is `popLast`.
  private var page: [KeyValue] = []
  private var isLastPage = false

  /// Few enough to be cheap for a scan that stops early, many enough to spread the cost of opening cursors.
  private static let pageRows = 64

  init(group: GroupWriter, range: KeyRange, isReversed: Bool) {
    self.group = group
    serial = group.transactionSerial
    self.range = range
    self.isReversed = isReversed
  }

  /// The next row, copied; nil at the end, and after an error, which the transaction then fails with.
  public mutating func next() -> KeyValue? {
    precondition(serial == group.transactionSerial, "a transaction's scan must not be used outside its transaction")
    if page.isEmpty, !isLastPage {
      do { try fetch() } catch {
        group.fail(error)
        isLastPage = true
      }
    }
    return page.popLast()
  }

  private mutating func fetch() throws {
    var rows: [KeyValue] = []
    var lastKey: [UInt8] = []
    isLastPage = true
    try group.withRowCursors { cursors in
      var cursor = try MergeCursor(cursors, range: range, isReversed: isReversed)
      while try cursor.advance() {
        try cursor.withEntry { key, bytes in
          lastKey = key.copied()
          if let value = try Row.liveValue(bytes, key: key) {
            rows.append(KeyValue(key: lastKey, value: value.copied()))
          }
        }
        if rows.count == TransactionScan.pageRows {
          isLastPage = false
          break
        }
      }
    }
    // The next page begins behind the last key: just after it, or just before it going backwards.
    if isReversed { range.upper = lastKey } else { range.lower = lastKey + [0] }
    page = rows.reversed()
  }
}
