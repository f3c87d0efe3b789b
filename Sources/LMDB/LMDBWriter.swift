// A write transaction: of all processes and threads one at a time has it; its changes appear at once, on commit.
//
// Invariants:
// - A writer that is dropped without a commit is aborted, on every path, thrown errors included.
// - It ends on the thread that began it: LMDB's writer lock belongs to that thread, and another one could not
//   release it.
// - No cursor of it lives on into the commit, and no entry of a cursor is lent out while the writer changes
//   anything: a change may move or overwrite the bytes.

internal import CLMDB

package struct LMDBWriter: ~Copyable {
  package let handle: TransactionHandle
  package let session: WriteSession
  /// What `putGrowing` knows of the table that it was called for last.
  var growing: GrowingTable?

  init(_ session: WriteSession) {
    handle = session.handle
    self.session = session
  }

  deinit {
    if !session.isEnded { session.abort() }
  }

  /// The number that the state will have once this is committed.
  package var transactionID: Int { unsafe Int(clamping: mdb_txn_id(handle.pointer)) }

  // MARK: Reading what the transaction sees

  /// Whether the table has the key.
  @inlinable
  package func get(_ table: Table, key: RawSpan) throws(LMDBError) -> Bool {
    let answer = unsafe handle.find(table, key).answer
    if answer == MDB_SUCCESS { return true }
    if answer == MDB_NOTFOUND { return false }
    throw LMDBError(returned: answer, "get a value", session.environment.path)
  }

  /// Lends the value to `body`; nil when the table does not have the key. What `body` throws passes through.
  @inlinable
  package func get<R>(_ table: Table, key: RawSpan, _ body: (RawSpan) throws -> R) throws -> R? {
    let (answer, value) = unsafe handle.find(table, key)
    if answer == MDB_SUCCESS { return unsafe try body(TransactionHandle.bytes(value).bytes) }
    if answer == MDB_NOTFOUND { return nil }
    throw LMDBError(returned: answer, "get a value", session.environment.path)
  }

  package func entryCount(_ table: Table) throws(LMDBError) -> Int {
    try handle.entryCount(table, path: session.environment.path)
  }

  /// Pages that hold entries of the table; large values lie on further ones.
  package func leafPageCount(_ table: Table) throws(LMDBError) -> Int {
    try handle.leafPageCount(table, path: session.environment.path)
  }

  /// A cursor over what this transaction sees, its own changes included. Release it before the commit.
  package func cursor(_ table: Table) throws(LMDBError) -> LMDBWriterCursor {
    unsafe LMDBWriterCursor(try handle.openCursor(table, path: session.environment.path), session)
  }

  // MARK: Changing

  /// Sets the value of a key. With `append` the key must be greater than all others (`.keyExists` if not); LMDB
  /// then fills pages to the brim, which makes loading in key order faster and the file smaller.
  @inlinable
  package mutating func put(
    _ table: Table, key: RawSpan, value: RawSpan, append: Bool = false
  ) throws(LMDBError) {
    var answer = begin(changing: table, key: key)
    if answer == MDB_SUCCESS {
      answer = unsafe key.withUnsafeBytes { keyBytes in
        unsafe value.withUnsafeBytes { valueBytes in
          var key = unsafe TransactionHandle.value(keyBytes)
          var value = unsafe TransactionHandle.value(valueBytes)
          return unsafe mdb_put(handle.pointer, table.handle, &key, &value, append ? UInt32(MDB_APPEND) : 0)
        }
      }
    }
    guard answer == MDB_SUCCESS else { throw session.failure(answer, "put a value") }
  }

  /// Sets the value of a key to `n` bytes which `fill` writes in place, without a copy between. Bytes that `fill`
  /// leaves alone hold whatever was there.
  @inlinable
  package mutating func put(
    _ table: Table, key: RawSpan, reservingBytes n: Int, append: Bool = false,
    _ fill: (inout MutableRawSpan) -> Void
  ) throws(LMDBError) {
    precondition(n >= 0, "The number of bytes to reserve cannot be negative.")
    var answer = begin(changing: table, key: key)
    if answer == MDB_SUCCESS {
      answer = unsafe key.withUnsafeBytes { keyBytes in
        var key = unsafe TransactionHandle.value(keyBytes)
        var value = unsafe MDB_val(mv_size: n, mv_data: nil)
        let flags = UInt32(MDB_RESERVE) | (append ? UInt32(MDB_APPEND) : 0)
        let answer = unsafe mdb_put(handle.pointer, table.handle, &key, &value, flags)
        if answer == MDB_SUCCESS {
          let reserved = unsafe UnsafeMutableRawBufferPointer(start: value.mv_data, count: n)
          var bytes = unsafe reserved.mutableBytes
          fill(&bytes)
        }
        return answer
      }
    }
    guard answer == MDB_SUCCESS else { throw session.failure(answer, "put a value") }
  }

  /// As `put` in place, for a table whose keys often come in ascending order and are never removed: a key that is greater
  /// than all others is appended.
  @inlinable
  package mutating func putGrowing(
    _ table: Table, key: RawSpan, reservingBytes n: Int, _ fill: (inout MutableRawSpan) -> Void
  ) throws(LMDBError) {
    let append = try isBeyond(table, key: key)
    try put(table, key: key, reservingBytes: n, append: append, fill)
  }

  /// Whether the key, which is put next, is greater than all others of the table. The first time in a transaction this is
  /// not looked up, as most transactions have no second.
  @usableFromInline
  mutating func isBeyond(_ table: Table, key: RawSpan) throws(LMDBError) -> Bool {
    guard growing?.table == table else {
      growing = GrowingTable(table: table)
      return false
    }
    if growing?.greatestKey == nil {
      let greatest = try greatestKey(of: table)
      growing?.greatestKey = greatest
    }
    return growing?.pass(key) ?? false
  }

  private func greatestKey(of table: Table) throws(LMDBError) -> [UInt8]? {
    let cursor = try cursor(table)
    return try cursor.last() ? cursor.withKey { key in unsafe key.withUnsafeBytes { unsafe [UInt8]($0) } } : nil
  }

  /// Removes a key; false when the table does not have it.
  @inlinable @discardableResult
  package mutating func delete(_ table: Table, key: RawSpan) throws(LMDBError) -> Bool {
    var answer = begin(changing: table, key: key)
    if answer == MDB_SUCCESS {
      answer = unsafe key.withUnsafeBytes { bytes in
        var key = unsafe TransactionHandle.value(bytes)
        return unsafe mdb_del(handle.pointer, table.handle, &key, nil)
      }
    }
    if answer == MDB_SUCCESS { return true }
    if answer == MDB_NOTFOUND { return false }
    throw session.failure(answer, "delete a key")
  }

  /// Removes every key; the table itself stays.
  package mutating func removeAll(_ table: Table) throws(LMDBError) {
    handle.check(table)
    session.willChange()
    let answer = unsafe mdb_drop(handle.pointer, table.handle, 0)
    guard answer == MDB_SUCCESS else { throw session.failure(answer, "empty a table") }
  }

  /// A place in the table for changes in ascending order of their keys. Release it before the commit.
  package mutating func ascendingWriter(_ table: Table) throws(LMDBError) -> LMDBAscendingWriter {
    unsafe try LMDBAscendingWriter(handle.openCursor(table, path: session.environment.path), session, table)
  }

  @inlinable
  package func begin(changing table: Table, key: RawSpan) -> Int32 {
    handle.check(table)
    session.willChange()
    // LMDB checks too, but against the limit that the library at hand was built with.
    return UInt(bitPattern: key.byteCount &- 1) < UInt(LMDBLimits.maximumKeyBytes) ? MDB_SUCCESS : MDB_BAD_VALSIZE
  }

  // MARK: Ending

  /// Makes the changes visible and, unless the environment is `withoutSync`, durable. The transaction is over
  /// whether this succeeds or fails; when it fails, nothing was changed.
  ///
  /// Not `durably` it is durable, like everything before it, with the next commit, and costs one synchronisation of the
  /// file instead of two: until then a loss of power may take it, as a whole and nothing else. What the state before it
  /// consists of is not overwritten earlier either.
  package consuming func commit(durably: Bool = true) throws(LMDBError) {
    try session.commit(durably: durably)
  }

  /// Takes all changes back; the same as dropping the writer, but visible in the code.
  package consuming func abort() {
    session.abort()
  }
}
