// A place in the key order of a table, of a reader or of a writer.
//
// Invariants:
// - It stands before the first entry, on an entry, or past the last one, and says by its answer which it is. (LMDB's
//   own cursor, having found no next entry, still stands on the last one: `previous` would skip it.)
// - A reader's cursor holds the reader: the bytes it lends lie in the map and cannot change.
// - A writer's cursor remembers its key. Once the writer has changed anything it looks the key up again before it
//   moves or lends, so it goes on from where it stood in what the transaction sees by then, whatever was changed.
// - The LMDB cursor is closed once, and never after its transaction ended.

package import CLMDB

@safe
package final class LMDBCursor {
  package enum Place: UInt8 { case beforeFirst, onEntry, afterLast }

  package let cursor: OpaquePointer
  /// One of these two owns the transaction.
  package let reader: LMDBReader?
  package let session: WriteSession?

  // One thread, no overlapping accesses: see `WriteSession`.
  @exclusivity(unchecked) package var place = Place.beforeFirst
  @exclusivity(unchecked) package var key = unsafe MDB_val()
  @exclusivity(unchecked) package var value = unsafe MDB_val()

  /// Of a writer's cursor: the key it stands on, and the state of the session in which it was found there.
  private var rememberedKey: [UInt8] = []
  private var seenChanges = 0

  init(_ cursor: OpaquePointer, _ reader: LMDBReader) {
    unsafe self.cursor = unsafe cursor
    self.reader = reader
    session = nil
  }

  init(_ cursor: OpaquePointer, _ session: WriteSession) {
    unsafe self.cursor = unsafe cursor
    reader = nil
    self.session = session
    rememberedKey.reserveCapacity(LMDBLimits.maximumKeyBytes)
    session.cursorOpened()
  }

  deinit {
    if let session {
      unsafe session.close(cursor)
    } else {
      unsafe mdb_cursor_close(cursor)
    }
  }

  // MARK: Moving

  /// Moves to the first entry; false when the table is empty.
  @inlinable
  package func first() throws(LMDBError) -> Bool { try move(MDB_FIRST, orStand: .afterLast) }

  /// Moves to the last entry; false when the table is empty.
  @inlinable
  package func last() throws(LMDBError) -> Bool { try move(MDB_LAST, orStand: .beforeFirst) }

  /// Moves to the next entry, from before the first to the first; false, and past the last, when there is none.
  @inlinable
  package func next() throws(LMDBError) -> Bool {
    switch unsafe place {
    case .beforeFirst: return try first()
    case .onEntry:
      if session != nil, let found = try moveAgain(forward: true) { return found }
      return try move(MDB_NEXT, orStand: .afterLast)
    case .afterLast: return false
    }
  }

  /// Moves to the entry before, from past the last to the last; false, and before the first, when there is none.
  @inlinable
  package func previous() throws(LMDBError) -> Bool {
    switch unsafe place {
    case .afterLast: return try last()
    case .onEntry:
      if session != nil, let found = try moveAgain(forward: false) { return found }
      return try move(MDB_PREV, orStand: .beforeFirst)
    case .beforeFirst: return false
    }
  }

  /// Moves to the entry with this key or, if there is none, with the next greater one; false, and past the last,
  /// when there is none either. An empty key comes before all others.
  @inlinable
  package func seek(atOrAfter key: RawSpan) throws(LMDBError) -> Bool {
    if key.isEmpty { return try first() }
    precondition(session?.isEnded != true, "A cursor must not be used after its writer has ended.")
    defer { withExtendedLifetime(self) {} }
    let (answer, found, value) = unsafe key.withUnsafeBytes { bytes in
      var key = unsafe TransactionHandle.value(bytes)
      var value = unsafe MDB_val()
      let answer = unsafe mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE)
      return unsafe (answer, key, value)
    }
    return unsafe try arrive(answer, found, value, orStand: .afterLast)
  }

  // MARK: Reading

  /// Lends the entry the cursor stands on. Of a writer's cursor: an entry that was deleted meanwhile cannot be lent.
  @inlinable
  package func withEntry<R>(_ body: (_ key: RawSpan, _ value: RawSpan) throws -> R) throws -> R {
    precondition(unsafe place == .onEntry, "A cursor can only be read while it stands on an entry.")
    defer { withExtendedLifetime(self) {} }
    if let session {
      try findAgain()
      unsafe session.lentEntries += 1
      defer { unsafe session.lentEntries -= 1 }
      return unsafe try body(TransactionHandle.bytes(key).bytes, TransactionHandle.bytes(value).bytes)
    }
    return unsafe try body(TransactionHandle.bytes(key).bytes, TransactionHandle.bytes(value).bytes)
  }

  /// Lends the key the cursor stands on.
  @inlinable
  package func withKey<R>(_ body: (RawSpan) throws -> R) rethrows -> R {
    precondition(unsafe place == .onEntry, "A cursor can only be read while it stands on an entry.")
    defer { withExtendedLifetime(self) {} }
    if session != nil { return try withRememberedKey(body) }
    return unsafe try body(TransactionHandle.bytes(key).bytes)
  }

  // MARK: Steps

  @inlinable
  package func move(_ step: MDB_cursor_op, orStand end: Place) throws(LMDBError) -> Bool {
    precondition(session?.isEnded != true, "A cursor must not be used after its writer has ended.")
    defer { withExtendedLifetime(self) {} }
    var key = unsafe MDB_val()
    var value = unsafe MDB_val()
    let answer = unsafe mdb_cursor_get(cursor, &key, &value, step)
    return unsafe try arrive(answer, key, value, orStand: end)
  }

  @inlinable
  package func arrive(_ answer: Int32, _ key: MDB_val, _ value: MDB_val, orStand end: Place) throws(LMDBError) -> Bool {
    if answer == MDB_SUCCESS {
      unsafe self.key = unsafe key
      unsafe self.value = unsafe value
      unsafe place = .onEntry
      if session != nil { remember() }
      return true
    }
    unsafe place = end
    if answer == MDB_NOTFOUND { return false }
    throw failure(answer)
  }

  @inline(never)
  package func failure(_ answer: Int32) -> LMDBError {
    let path = reader?.environment.path ?? session?.environment.path ?? ""
    return LMDBError(returned: answer, "move a cursor", path)
  }

  // MARK: A writer's cursor

  package func remember() {
    guard let session else { return }
    seenChanges = unsafe session.changes
    rememberedKey.removeAll(keepingCapacity: true)
    unsafe rememberedKey.append(contentsOf: TransactionHandle.bytes(key))
  }

  package func withRememberedKey<R>(_ body: (RawSpan) throws -> R) rethrows -> R {
    let key = rememberedKey
    return unsafe try body(key.span.bytes)
  }

  /// When the writer has changed anything since: moves from the remembered key, and says what `next` or `previous`
  /// then answers. Nil when nothing was changed, or when the cursor stands on its key again and can simply step.
  package func moveAgain(forward: Bool) throws(LMDBError) -> Bool? {
    guard let session, unsafe seenChanges != session.changes else { return nil }
    let wanted = rememberedKey
    let found = unsafe try seek(atOrAfter: wanted.span.bytes)
    if !found { return forward ? false : try last() }
    // On the key itself again: step from it. On a greater one: that is the next, and the step back is from it.
    if rememberedKey == wanted || !forward { return nil }
    return true
  }

  /// Makes the remembered entry current in what the transaction sees now.
  package func findAgain() throws(LMDBError) {
    guard let session, unsafe seenChanges != session.changes else { return }
    let wanted = rememberedKey
    let found = unsafe try seek(atOrAfter: wanted.span.bytes)
    precondition(found && rememberedKey == wanted, "The entry a cursor stands on was deleted: move before reading.")
  }
}
