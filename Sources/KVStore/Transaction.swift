// A user's transaction: reads the store with its own writes, and vanishes whole when its closure throws.

public import KVLog

/// Changes that become durable and visible together, here, on the hub and on every replica.
///
/// Handed to the closure of `Store.write`, which runs on a thread of the store, or on the caller's own when it blocks:
/// other writes wait meanwhile, those of other processes too; reads do not. What it reads is the store as of the
/// transaction before it, with its own changes: reading a value and writing what becomes of it loses no other's change.
///
/// Bounds: 64 MiB in all, keys of 1 to 511 bytes, values up to 16 MiB. Beyond them, and where a ``WriteCondition`` does
/// not hold, a change throws ``StoreError``, and the transaction may go on without it. Any other error of a change
/// makes the whole transaction fail, also when the closure catches it.
public struct Transaction: ~Copyable {
  let group: GroupWriter

  init(_ group: GroupWriter) {
    self.group = group
  }

  /// Sets the value of `key`, if the condition holds. Throws ``StoreError``: `keyEmpty`, `keyTooLong`, `valueTooLong`,
  /// `commitTooLarge`, `conditionFailed`; or, for the whole transaction, `full`, `corrupt`, `closed`, `poisoned`,
  /// `system`.
  public mutating func put(
    _ value: some BytesConvertible, for key: some BytesConvertible, if condition: WriteCondition? = nil
  ) throws {
    try key.withBytes { key in
      try check(condition, key)
      try value.withBytes { value in try group.put(key: key, value: value) }
    }
  }

  /// Removes `key`, if the condition holds. Recorded even when the key has no value here: it may have one elsewhere.
  /// Throws as ``put(_:for:if:)`` does.
  public mutating func delete(_ key: some BytesConvertible, if condition: WriteCondition? = nil) throws {
    try key.withBytes { key in
      try check(condition, key)
      try group.delete(key: key)
    }
  }

  private func check(_ condition: WriteCondition?, _ key: RawSpan) throws {
    guard let condition else { return }
    try StoreLimits.check(key: key)
    let row: Row?
    do { row = try group.row(of: key) } catch {
      group.fail(error)
      throw error
    }
    try condition.check(found: row.flatMap { $0.isTombstone ? nil : $0.version }, key: key)
  }

  /// The value of `key`, copied, with this transaction's own changes; nil when there is none. Throws ``StoreError``:
  /// `keyEmpty`, `keyTooLong`, `corrupt`, `system`.
  public func value(for key: some BytesConvertible) throws -> [UInt8]? {
    try withValue(for: key) { $0.copied() }
  }

  /// Calls `body` with the value without copying it; nil when there is none. The span is valid only until `body`
  /// returns. Throws what `body` throws, or as ``value(for:)`` does.
  public func withValue<Result>(for key: some BytesConvertible, _ body: (RawSpan) throws -> Result) throws -> Result? {
    try key.withBytes { key in
      try group.withRow(key) { row, value in row.isTombstone ? nil : .some(try body(value)) } ?? nil
    }
  }

  /// Whether `key` has a value, with this transaction's own changes. The value is not read. Throws as ``value(for:)``
  /// does.
  public func contains(_ key: some BytesConvertible) throws -> Bool { try version(of: key) != nil }

  /// The version of the commit that wrote the value of `key`, which for a change of this transaction is the one that
  /// its receipt will name; nil when there is no value. Throws as ``value(for:)`` does.
  public func version(of key: some BytesConvertible) throws -> Version? {
    try key.withBytes { try group.row(of: $0).flatMap { $0.isTombstone ? nil : $0.version } }
  }

  /// The value of `key`, copied, with the version, time and origin of the change it comes from; nil when there is none.
  /// Throws as ``value(for:)`` does.
  public func entry(for key: some BytesConvertible) throws -> StoreEntry? {
    try key.withBytes { try group.withRow($0) { row, value in StoreEntry(row, value) } ?? nil }
  }

  /// How many keys that begin with `prefix` have a value, this transaction's own changes included. Walks them, without
  /// reading values. Throws ``StoreError``: `corrupt`, `system`.
  public func count(prefix: some BytesConvertible = "") throws -> Int { try count(in: KeyRange(prefix: prefix)) }

  /// How many keys of a range have a value. As ``count(prefix:)`` otherwise.
  public func count(in range: KeyRange) throws -> Int {
    var count = 0
    try group.withCursors { cursors in
      var cursor = try MergeCursor(cursors, range: range, isReversed: false)
      try cursor.forEach { key, bytes in
        if try Row.isLive(bytes, key: key) { count += 1 }
        return true
      }
    }
    return count
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
    try group.withCursors { cursors in
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
