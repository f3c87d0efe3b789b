// A read transaction: one unchanging state of the environment, from the moment it is made until it is released.
//
// Invariants:
// - The reader holds its environment, so the map cannot go away under the bytes it lends out.
// - Its LMDB transaction goes back to the environment's pool, reset, when the reader is released.
// - It pins the pages of its state: while it lives they are not reused and the file grows. Keep it short.
// - It may move between threads, but is used by one at a time (hence not `Sendable`).

internal import CLMDB

package final class LMDBReader {
  package let handle: TransactionHandle
  package let environment: LMDBEnvironment

  init(_ handle: TransactionHandle, _ environment: LMDBEnvironment) {
    self.handle = handle
    self.environment = environment
  }

  deinit { environment.release(handle) }

  /// The number of the last transaction whose effects this reader sees.
  package var transactionID: Int {
    defer { withExtendedLifetime(self) {} }
    return unsafe Int(clamping: mdb_txn_id(handle.pointer))
  }

  /// Whether the table has the key.
  @inlinable
  package func get(_ table: Table, key: RawSpan) throws(LMDBError) -> Bool {
    defer { withExtendedLifetime(self) {} }
    let answer = unsafe handle.find(table, key).answer
    if answer == MDB_SUCCESS { return true }
    if answer == MDB_NOTFOUND { return false }
    throw LMDBError(returned: answer, "get a value", environment.path)
  }

  /// Lends the value to `body`, where it lies in the map; nil when the table does not have the key.
  /// What `body` throws passes through as it is.
  @inlinable
  package func get<R>(_ table: Table, key: RawSpan, _ body: (RawSpan) throws -> R) throws -> R? {
    defer { withExtendedLifetime(self) {} }
    let (answer, value) = unsafe handle.find(table, key)
    if answer == MDB_SUCCESS { return unsafe try body(TransactionHandle.bytes(value).bytes) }
    if answer == MDB_NOTFOUND { return nil }
    throw LMDBError(returned: answer, "get a value", environment.path)
  }

  package func entryCount(_ table: Table) throws(LMDBError) -> Int {
    defer { withExtendedLifetime(self) {} }
    return try handle.entryCount(table, path: environment.path)
  }

  package func cursor(_ table: Table) throws(LMDBError) -> LMDBCursor {
    unsafe LMDBCursor(try handle.openCursor(table, path: environment.path), self)
  }
}
