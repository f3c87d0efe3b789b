// The reading calls that readers and writers share, over LMDB's transaction pointer.
//
// Invariants:
// - Every C call happens while the spans given to it are borrowed; no pointer into them outlives the call.
// - A table is only used in the environment it was opened in.
// - Whoever holds a handle keeps the environment alive for as long.

package import CLMDB

@safe
package struct TransactionHandle {
  package let pointer: OpaquePointer
  /// The serial number of the environment, as in `Table`.
  package let environment: UInt32

  init(_ pointer: OpaquePointer, environment: UInt32) {
    unsafe self.pointer = unsafe pointer
    self.environment = environment
  }

  @inlinable
  package func check(_ table: Table) {
    precondition(table.environment == environment, "A table can only be used in the environment it was opened in.")
  }

  /// LMDB's answer and, when that is success, where the value lies.
  @inlinable
  package func find(_ table: Table, _ key: RawSpan) -> (answer: Int32, value: MDB_val) {
    check(table)
    return unsafe key.withUnsafeBytes { bytes in
      var key = unsafe TransactionHandle.value(bytes)
      var value = unsafe MDB_val()
      let answer = unsafe mdb_get(pointer, table.handle, &key, &value)
      return unsafe (answer, value)
    }
  }

  func entryCount(_ table: Table, path: String) throws(LMDBError) -> Int {
    Int(clamping: try statistics(table, path: path).ms_entries)
  }

  func leafPageCount(_ table: Table, path: String) throws(LMDBError) -> Int {
    Int(clamping: try statistics(table, path: path).ms_leaf_pages)
  }

  private func statistics(_ table: Table, path: String) throws(LMDBError) -> MDB_stat {
    check(table)
    var found = MDB_stat()
    let answer = unsafe mdb_stat(pointer, table.handle, &found)
    guard answer == MDB_SUCCESS else { throw LMDBError(returned: answer, "look at a table", path) }
    return found
  }

  func openCursor(_ table: Table, path: String) throws(LMDBError) -> OpaquePointer {
    check(table)
    var opened: OpaquePointer?
    let answer = unsafe mdb_cursor_open(pointer, table.handle, &opened)
    guard answer == MDB_SUCCESS, let cursor = unsafe opened else {
      throw LMDBError(returned: answer, "open a cursor", path)
    }
    return unsafe cursor
  }

  /// The bytes as LMDB takes them. LMDB only reads through the pointer; it is mutable because C says so.
  @inlinable
  package static func value(_ bytes: UnsafeRawBufferPointer) -> MDB_val {
    unsafe MDB_val(mv_size: bytes.count, mv_data: UnsafeMutableRawPointer(mutating: bytes.baseAddress))
  }

  @inlinable
  package static func bytes(_ value: MDB_val) -> UnsafeRawBufferPointer {
    unsafe UnsafeRawBufferPointer(start: UnsafeRawPointer(value.mv_data), count: value.mv_size)
  }
}
