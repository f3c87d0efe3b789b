// A read transaction: one unchanging state of the environment, from the moment it is made until it is released.
//
// Invariants:
// - The reader holds its environment, so the map cannot go away under the bytes it lends out.
// - Its LMDB transaction goes back to the environment's pool, reset, when the reader is released.
// - It pins the pages of its state: while it lives they are not reused and the file grows. Keep it short.
// - It may move between threads, but is used by one at a time (hence not `Sendable`).

internal import CLMDB

package final class LMDBReader {
  let handle: TransactionHandle
  package let environment: LMDBEnvironment

  // One thread, no overlapping accesses: the run-time check is left out.
  @exclusivity(unchecked) private var trees: TreeReader
  /// What was looked up of the tables so far, by handle.
  @exclusivity(unchecked) private var records: [TreeRecord?] = []

  init(_ handle: TransactionHandle, _ environment: LMDBEnvironment) {
    self.handle = handle
    self.environment = environment
    unsafe trees = TreeReader(environment.pages)
  }

  deinit { environment.release(handle) }

  /// The number of the last transaction whose effects this reader sees.
  package var transactionID: Int {
    defer { withExtendedLifetime(self) {} }
    return unsafe Int(clamping: mdb_txn_id(handle.pointer))
  }

  /// Whether the table has the key. Does not look at the value.
  package func get(_ table: Table, key: RawSpan) throws(LMDBError) -> Bool { try entry(table, key) != nil }

  /// Lends the value to `body`, where it lies in the map; nil when the table does not have the key.
  /// What `body` throws passes through as it is.
  @inlinable
  package func get<R>(_ table: Table, key: RawSpan, _ body: (RawSpan) throws -> R) throws -> R? {
    defer { withExtendedLifetime(self) {} }
    guard let value = unsafe try value(table, key) else { return nil }
    return unsafe try body(value.bytes)
  }

  /// Lends the entries on both sides of the place where a key would be that the table does not have: none on a side
  /// where the table ends. What could hide the key there was checked, but for the two keys themselves: that those are
  /// what was written the caller has to see, and then the key was not.
  package func forEachNeighbour(
    of key: RawSpan, in table: Table, _ body: (_ key: RawSpan, _ value: RawSpan) throws -> Void
  ) throws {
    defer { withExtendedLifetime(self) {} }
    let record = try record(table)
    let pair = unsafe try key.withUnsafeBytes { key throws(LMDBError) in
      try located { trees throws(LMDBError) in unsafe try trees.neighbours(of: key, in: record) }
    }
    if let entry = pair.before { try lend(entry, body) }
    if let entry = pair.after { try lend(entry, body) }
  }

  @inline(__always)
  private func lend(_ entry: TreeNode, _ body: (_ key: RawSpan, _ value: RawSpan) throws -> Void) throws {
    let value = unsafe try located { trees throws(LMDBError) in unsafe try trees.value(of: entry) }
    unsafe try body(entry.key.bytes, value.bytes)
  }

  package func entryCount(_ table: Table) throws(LMDBError) -> Int { Int(clamping: try record(table).entries) }

  /// Pages that hold entries of the table; large values lie on further ones.
  package func leafPageCount(_ table: Table) throws(LMDBError) -> Int { Int(clamping: try record(table).leafPages) }

  package func cursor(_ table: Table) throws(LMDBError) -> LMDBCursor { LMDBCursor(self, try record(table)) }

  // MARK: In the map

  /// Valid for as long as the reader.
  package func value(_ table: Table, _ key: RawSpan) throws(LMDBError) -> UnsafeRawBufferPointer? {
    guard let entry = try entry(table, key) else { return nil }
    return unsafe try located { trees throws(LMDBError) in unsafe try trees.value(of: entry) }
  }

  @inline(__always)
  private func entry(_ table: Table, _ key: RawSpan) throws(LMDBError) -> TreeNode? {
    guard !key.isEmpty else {
      throw LMDBError(.badValueSize, operation: "get a value", path: environment.path)
    }
    let record = try record(table)
    return unsafe try key.withUnsafeBytes { key throws(LMDBError) in
      try located { trees throws(LMDBError) in unsafe try trees.find(key, in: record) }
    }
  }

  /// Runs a look-up; an error of it gets the path.
  @inline(__always)
  func located<R>(_ body: (inout TreeReader) throws(LMDBError) -> R) throws(LMDBError) -> R {
    do {
      return unsafe try body(&trees)
    } catch {
      throw error.located(environment.path)
    }
  }

  @inline(__always)
  private func record(_ table: Table) throws(LMDBError) -> TreeRecord {
    handle.check(table)
    let index = Int(table.handle)
    if unsafe index < records.count, let record = unsafe records[index] { return record }
    return try lookUpRecord(table)
  }

  @inline(never)
  private func lookUpRecord(_ table: Table) throws(LMDBError) -> TreeRecord {
    let record = try environment.record(of: table, in: handle)
    while unsafe records.count <= Int(table.handle) { unsafe records.append(nil) }
    unsafe records[Int(table.handle)] = record
    return record
  }
}
