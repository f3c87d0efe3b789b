// What a writer and its cursors share: whether the transaction still runs, and what must not happen meanwhile.
//
// Invariants:
// - `mdb_txn_commit` or `mdb_txn_abort` is called exactly once, on the thread that began the transaction.
// - Ending a write transaction frees the cursors opened in it, so they are never closed (or used) after it.

internal import CLMDB

package final class WriteSession {
  package let handle: TransactionHandle
  package let environment: LMDBEnvironment
  private let thread: UInt

  package private(set) var isEnded = false
  private var openCursors = 0

  // These two are touched by every change and every step of a cursor. They are used by one thread, never through
  // two accesses that overlap, so the run-time check of exclusive access is left out.

  /// How often something was changed; a cursor sees by it that what it remembers may have moved.
  @exclusivity(unchecked) package var changes = 0
  /// How many entries of cursors are lent to closures just now.
  @exclusivity(unchecked) package var lentEntries = 0

  init(_ handle: TransactionHandle, _ environment: LMDBEnvironment) {
    self.handle = handle
    self.environment = environment
    thread = currentThread()
  }

  @inlinable
  package func willChange() {
    precondition(
      unsafe lentEntries == 0, "A writer must not change anything while an entry of its cursor is being read.")
    unsafe changes &+= 1
  }

  func cursorOpened() { openCursors += 1 }

  /// Closes a cursor, unless the end of the transaction did.
  func close(_ cursor: OpaquePointer) {
    guard !isEnded else { return }
    openCursors -= 1
    unsafe mdb_cursor_close(cursor)
  }

  func commit(durably: Bool) throws(LMDBError) {
    precondition(openCursors == 0, "The cursors of a writer must be released before its commit.")
    environment.setDurability(ofNextCommit: durably)
    willEnd()
    let answer = unsafe mdb_txn_commit(handle.pointer)
    environment.writerDidEnd()
    guard answer == MDB_SUCCESS else {
      throw failure(environment.causeOfFailedCommit(answer), "commit a transaction")
    }
  }

  /// Of a change; a map that is full grows before the next transaction.
  @inline(never)
  package func failure(_ answer: Int32, _ operation: String) -> LMDBError {
    if answer == MDB_MAP_FULL { environment.mapIsFull() }
    return LMDBError(returned: answer, operation, environment.path)
  }

  func abort() {
    willEnd()
    unsafe mdb_txn_abort(handle.pointer)
    environment.writerDidEnd()
  }

  private func willEnd() {
    precondition(!isEnded, "A writer ends once.")
    precondition(
      thread == currentThread(),
      "A writer must end on the thread that began it, because that thread holds LMDB's writer lock.")
    isEnded = true
    environment.writerWillEnd()
  }
}
