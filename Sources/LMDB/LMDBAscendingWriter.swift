// Changes of a table in ascending order of their keys: a place that goes along with them, so that most find their page
// without a search from the root.
//
// Invariants:
// - The LMDB cursor is closed once, and never after its transaction ended.
// - What is appended is greater than every key that the table had at the beginning, and than every key put since, as
//   those ascend. LMDB fills pages of appended entries to the brim.

internal import CLMDB

@safe
package struct LMDBAscendingWriter: ~Copyable {
  private let cursor: OpaquePointer
  private let session: WriteSession
  private let table: Table
  /// The greatest key that the table had at the beginning; empty when it had none.
  private let greatestKey: [UInt8]
  private var appends: Bool

  init(_ cursor: OpaquePointer, _ session: WriteSession, _ table: Table) throws(LMDBError) {
    unsafe self.cursor = unsafe cursor
    self.session = session
    self.table = table
    var key = unsafe MDB_val()
    var value = unsafe MDB_val()
    let answer = unsafe mdb_cursor_get(cursor, &key, &value, MDB_LAST)
    appends = answer == MDB_NOTFOUND
    greatestKey = answer == MDB_SUCCESS ? unsafe [UInt8](TransactionHandle.bytes(key)) : []
    session.cursorOpened()
    guard answer == MDB_SUCCESS || appends else {
      throw LMDBError(returned: answer, "move a cursor", session.environment.path)
    }
  }

  deinit { unsafe session.close(cursor) }

  /// Sets the value of a key, which must be greater than the one before it. The value that it replaces, if there is
  /// one, is lent to `body` first, whose answer this returns.
  package mutating func put<R>(key: RawSpan, value: RawSpan, replacing body: (RawSpan) -> R) throws(LMDBError) -> R? {
    precondition(!session.isEnded, "A writer must not be used after it has ended.")
    var replaced: R?
    session.willChange()
    let answer = unsafe key.withUnsafeBytes { keyBytes in
      unsafe value.withUnsafeBytes { valueBytes in
        var key = unsafe TransactionHandle.value(keyBytes)
        if !appends { appends = unsafe isBeyond(&key) }
        var value = unsafe TransactionHandle.value(valueBytes)
        let flags = UInt32(appends ? MDB_APPEND : MDB_NOOVERWRITE)
        let answer = unsafe mdb_cursor_put(cursor, &key, &value, flags)
        guard answer == MDB_KEYEXIST, !appends else { return answer }
        // The cursor stands on the entry now, and `value` is what it has.
        unsafe replaced = body(TransactionHandle.bytes(value).bytes)
        unsafe value = unsafe TransactionHandle.value(valueBytes)
        return unsafe mdb_cursor_put(cursor, &key, &value, UInt32(MDB_CURRENT))
      }
    }
    guard answer == MDB_SUCCESS else { throw session.failure(answer, "put a value") }
    return replaced
  }

  /// Sets the value of a key, which must be greater than the one before it, to `n` bytes which `fill` writes in place.
  package mutating func put(
    key: RawSpan, reservingBytes n: Int, _ fill: (inout MutableRawSpan) -> Void
  ) throws(LMDBError) {
    precondition(!session.isEnded, "A writer must not be used after it has ended.")
    session.willChange()
    let answer = unsafe key.withUnsafeBytes { keyBytes in
      var key = unsafe TransactionHandle.value(keyBytes)
      if !appends { appends = unsafe isBeyond(&key) }
      var value = unsafe MDB_val(mv_size: n, mv_data: nil)
      let flags = UInt32(MDB_RESERVE) | (appends ? UInt32(MDB_APPEND) : 0)
      let answer = unsafe mdb_cursor_put(cursor, &key, &value, flags)
      if answer == MDB_SUCCESS {
        var bytes = unsafe UnsafeMutableRawBufferPointer(start: value.mv_data, count: n).mutableBytes
        fill(&bytes)
      }
      return answer
    }
    guard answer == MDB_SUCCESS else { throw session.failure(answer, "put a value") }
  }

  private func isBeyond(_ key: inout MDB_val) -> Bool {
    unsafe greatestKey.withUnsafeBytes { bytes in
      var greatest = unsafe TransactionHandle.value(bytes)
      return unsafe mdb_cmp(session.handle.pointer, table.handle, &key, &greatest) > 0
    }
  }
}
