// Deleting many keys: all at once in a transaction, or in one commit after the other.

import KVLog

extension Transaction {
  /// Removes every key that begins with `prefix` and has a value; says how many that were. The deletions count towards
  /// the bounds of the transaction, seven bytes and the key each: about 2.9 million keys of 16 bytes. For more, or
  /// where other writes must not wait for so long, there is ``Store/deleteRange(prefix:durability:)``.
  ///
  /// Throws ``StoreError``: `commitTooLarge`, `full`, `corrupt`, `closed`, `poisoned`, `system`, for the whole
  /// transaction.
  @discardableResult
  public mutating func deleteRange(prefix: some BytesConvertible) throws -> Int {
    try deleteRange(in: KeyRange(prefix: prefix))
  }

  /// Removes every key of a range that has a value. As ``deleteRange(prefix:)`` otherwise.
  @discardableResult
  public mutating func deleteRange(in range: KeyRange) throws -> Int {
    var rest: KeyRange? = range
    var removed = 0
    do {
      while let next = rest { removed += try deletePage(of: next, rest: &rest) }
    } catch {
      // Half a range would be neither what was nor what was asked for.
      group.fail(error)
      throw error
    }
    return removed
  }

  /// Removes the first keys of a range; `rest` is what is left of it then.
  fileprivate mutating func deletePage(of range: KeyRange, rest: inout KeyRange?) throws -> Int {
    var keys: [[UInt8]] = []
    var last: [UInt8]?
    var rows = 0
    try group.withCursors { cursors in
      var cursor = try MergeCursor(cursors, range: range, isReversed: false)
      try cursor.forEach { key, bytes in
        if try Row.isLive(bytes, key: key) { keys.append(key.copied()) }
        rows += 1
        guard keys.count < StoreLimits.deletedKeysPerPage, rows < StoreLimits.lookedAtPerPage else {
          last = key.copied()
          return false
        }
        return true
      }
    }
    for key in keys { try group.delete(key: key.bytes) }
    rest = last.map { range.after($0) }
    return keys.count
  }
}

extension Store {
  /// Removes every key that begins with `prefix` and has a value, however many there are, in bounded memory; says how
  /// many that were.
  ///
  /// It is not one transaction but one commit after the other, of up to 1,024 keys each, in key order: others see some
  /// keys gone and some still there, other writes go on between the commits, and a key that is written meanwhile may
  /// stay or go. Where it stops early, because its task is cancelled or it throws, what it has removed stays removed;
  /// calling it again goes on. What must vanish at once is removed in a transaction:
  /// ``Transaction/deleteRange(prefix:)``.
  ///
  /// Throws `CancellationError`, or ``StoreError``: `full`, `corrupt`, `closed`, `readOnly`, `poisoned`, `system`.
  @discardableResult
  public func deleteRange(prefix: some BytesConvertible, durability: Durability? = nil) async throws -> Int {
    try await deleteRange(in: KeyRange(prefix: prefix), durability: durability)
  }

  /// Removes every key of a range that has a value. As ``deleteRange(prefix:durability:)`` otherwise.
  @discardableResult
  public func deleteRange(in range: KeyRange, durability: Durability? = nil) async throws -> Int {
    var rest: KeyRange? = range
    var removed = 0
    while let next = rest {
      try Task.checkCancellation()
      let step = try await write(durability: durability) { transaction in
        var rest: KeyRange?
        return (removed: try transaction.deletePage(of: next, rest: &rest), rest: rest)
      }
      removed += step.result.removed
      rest = step.result.rest
    }
    return removed
  }

  /// As ``deleteRange(prefix:durability:)``, blocking the calling thread; not to be called from a transaction.
  @discardableResult
  public func deleteRangeBlocking(prefix: some BytesConvertible, durability: Durability? = nil) throws -> Int {
    try deleteRangeBlocking(in: KeyRange(prefix: prefix), durability: durability)
  }

  /// As ``deleteRange(in:durability:)``, blocking the calling thread; not to be called from a transaction.
  @discardableResult
  public func deleteRangeBlocking(in range: KeyRange, durability: Durability? = nil) throws -> Int {
    var rest: KeyRange? = range
    var removed = 0
    while let next = rest {
      let step = try writeBlocking(durability: durability) { transaction in
        var rest: KeyRange?
        return (removed: try transaction.deletePage(of: next, rest: &rest), rest: rest)
      }
      removed += step.result.removed
      rest = step.result.rest
    }
    return removed
  }
}
