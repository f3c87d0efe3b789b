// A place in the key order of a table, in what a writer sees: liblmdb's cursor, because only that knows the pages
// that are being changed.
//
// Invariants:
// - It stands before the first entry, on an entry, or past the last one, and says by its answer which it is. (LMDB's
//   own cursor, having found no next entry, still stands on the last one: `previous` would skip it.)
// - It remembers its key. Once the writer has changed anything it looks the key up again before it moves or lends, so
//   it goes on from where it stood in what the transaction sees by then, whatever was changed.
// - The LMDB cursor is closed once, and never after its transaction ended.

internal import CLMDB

@safe
package final class LMDBWriterCursor {
  private enum Place: UInt8 { case beforeFirst, onEntry, afterLast }

  private let cursor: OpaquePointer
  private let session: WriteSession

  // One thread, no overlapping accesses: see `WriteSession`.
  @exclusivity(unchecked) private var place = Place.beforeFirst
  @exclusivity(unchecked) private var value = unsafe MDB_val()

  /// The key it stands on, and the state of the session in which it was found there.
  private var rememberedKey: [UInt8] = []
  private var seenChanges = 0

  init(_ cursor: OpaquePointer, _ session: WriteSession) {
    unsafe self.cursor = unsafe cursor
    self.session = session
    rememberedKey.reserveCapacity(LMDBLimits.maximumKeyBytes)
    session.cursorOpened()
  }

  deinit { unsafe session.close(cursor) }

  // MARK: Moving

  /// Moves to the first entry; false when the table is empty.
  package func first() throws(LMDBError) -> Bool { unsafe try move(MDB_FIRST, orStand: .afterLast) }

  /// Moves to the last entry; false when the table is empty.
  package func last() throws(LMDBError) -> Bool { unsafe try move(MDB_LAST, orStand: .beforeFirst) }

  /// Moves to the next entry, from before the first to the first; false, and past the last, when there is none.
  package func next() throws(LMDBError) -> Bool {
    switch unsafe place {
    case .beforeFirst: return try first()
    case .onEntry:
      if let found = try moveAgain(forward: true) { return found }
      return unsafe try move(MDB_NEXT, orStand: .afterLast)
    case .afterLast: return false
    }
  }

  /// Moves to the entry before, from past the last to the last; false, and before the first, when there is none.
  package func previous() throws(LMDBError) -> Bool {
    switch unsafe place {
    case .afterLast: return try last()
    case .onEntry:
      if let found = try moveAgain(forward: false) { return found }
      return unsafe try move(MDB_PREV, orStand: .beforeFirst)
    case .beforeFirst: return false
    }
  }

  /// Moves to the entry with this key or, if there is none, with the next greater one; false, and past the last,
  /// when there is none either. An empty key comes before all others.
  package func seek(atOrAfter key: RawSpan) throws(LMDBError) -> Bool {
    if key.isEmpty { return try first() }
    return unsafe try key.withUnsafeBytes { bytes throws(LMDBError) in
      unsafe try move(MDB_SET_RANGE, TransactionHandle.value(bytes), orStand: .afterLast)
    }
  }

  private func move(
    _ step: MDB_cursor_op, _ wanted: MDB_val = unsafe MDB_val(), orStand end: Place
  ) throws(LMDBError) -> Bool {
    precondition(!session.isEnded, "A cursor must not be used after its writer has ended.")
    var key = unsafe wanted
    let answer = unsafe mdb_cursor_get(cursor, &key, &value, step)
    guard answer == MDB_SUCCESS else {
      unsafe place = end
      if answer == MDB_NOTFOUND { return false }
      throw LMDBError(returned: answer, "move a cursor", session.environment.path)
    }
    unsafe place = .onEntry
    seenChanges = unsafe session.changes
    rememberedKey.removeAll(keepingCapacity: true)
    unsafe rememberedKey.append(contentsOf: TransactionHandle.bytes(key))
    return true
  }

  // MARK: Reading

  /// Lends the entry the cursor stands on. One that was deleted meanwhile cannot be lent.
  package func withEntry<R>(_ body: (_ key: RawSpan, _ value: RawSpan) throws -> R) throws -> R {
    precondition(unsafe place == .onEntry, "A cursor can only be read while it stands on an entry.")
    try findAgain()
    unsafe session.lentEntries += 1
    defer {
      unsafe session.lentEntries -= 1
      withExtendedLifetime(self) {}
    }
    let key = rememberedKey
    return unsafe try body(key.span.bytes, TransactionHandle.bytes(value).bytes)
  }

  /// Lends the key the cursor stands on.
  package func withKey<R>(_ body: (RawSpan) throws -> R) rethrows -> R {
    precondition(unsafe place == .onEntry, "A cursor can only be read while it stands on an entry.")
    let key = rememberedKey
    return unsafe try body(key.span.bytes)
  }

  // MARK: After a change

  /// When the writer has changed anything since: moves from the remembered key, and says what `next` or `previous`
  /// then answers. Nil when nothing was changed, or when the cursor stands on its key again and can simply step.
  private func moveAgain(forward: Bool) throws(LMDBError) -> Bool? {
    guard unsafe seenChanges != session.changes else { return nil }
    let wanted = rememberedKey
    let found = unsafe try seek(atOrAfter: wanted.span.bytes)
    if !found { return forward ? false : try last() }
    // On the key itself again: step from it. On a greater one: that is the next, and the step back is from it.
    if rememberedKey == wanted || !forward { return nil }
    return true
  }

  /// Makes the remembered entry current in what the transaction sees now.
  private func findAgain() throws(LMDBError) {
    guard unsafe seenChanges != session.changes else { return }
    let wanted = rememberedKey
    let found = unsafe try seek(atOrAfter: wanted.span.bytes)
    precondition(found && rememberedKey == wanted, "The entry a cursor stands on was deleted: move before reading.")
  }
}
