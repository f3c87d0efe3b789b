// A place in the key order of a table, in the state that a reader holds. (The writer's are `LMDBWriterCursor`s.)
//
// Invariants:
// - It stands before the first entry, on an entry, or past the last one, and says by its answer which it is.
// - It holds its reader: the bytes it lends lie in the map and cannot change.

package final class LMDBCursor {
  private enum Place: UInt8 { case beforeFirst, onEntry, afterLast }

  private let reader: LMDBReader

  // One thread, no overlapping accesses: the run-time check is left out.
  @exclusivity(unchecked) private var place = Place.beforeFirst
  @exclusivity(unchecked) private var path: TreePath

  init(_ reader: LMDBReader, _ tree: TreeRecord) {
    self.reader = reader
    unsafe path = TreePath(tree)
  }

  // MARK: Moving

  /// Moves to the first entry; false when the table is empty.
  package func first() throws(LMDBError) -> Bool { try outermost(backwards: false) }

  /// Moves to the last entry; false when the table is empty.
  package func last() throws(LMDBError) -> Bool { try outermost(backwards: true) }

  /// Moves to the next entry, from before the first to the first; false, and past the last, when there is none.
  package func next() throws(LMDBError) -> Bool { try step(backwards: false) }

  /// Moves to the entry before, from past the last to the last; false, and before the first, when there is none.
  package func previous() throws(LMDBError) -> Bool { try step(backwards: true) }

  /// Moves to the entry with this key or, if there is none, with the next greater one; false, and past the last,
  /// when there is none either. An empty key comes before all others.
  package func seek(atOrAfter key: RawSpan) throws(LMDBError) -> Bool {
    unsafe place = .afterLast
    let found = try reader.located { trees throws(LMDBError) in
      unsafe try key.withUnsafeBytes { key throws(LMDBError) in unsafe try path.seek(key, &trees) }
    }
    if found { unsafe place = .onEntry }
    return found
  }

  private func outermost(backwards: Bool) throws(LMDBError) -> Bool {
    unsafe place = backwards ? .beforeFirst : .afterLast
    let found = try reader.located { trees throws(LMDBError) in
      unsafe try path.outermost(backwards: backwards, &trees)
    }
    if found { unsafe place = .onEntry }
    return found
  }

  @inline(__always)
  private func step(backwards: Bool) throws(LMDBError) -> Bool {
    let (behind, ahead) = backwards ? (Place.afterLast, Place.beforeFirst) : (.beforeFirst, .afterLast)
    if unsafe place == behind { return try outermost(backwards: backwards) }
    if unsafe place == ahead { return false }
    unsafe place = ahead
    let found = try reader.located { trees throws(LMDBError) in unsafe try path.next(backwards: backwards, &trees) }
    if found { unsafe place = .onEntry }
    return found
  }

  // MARK: Reading

  /// Lends the entry the cursor stands on.
  @inlinable
  package func withEntry<R>(_ body: (_ key: RawSpan, _ value: RawSpan) throws -> R) throws -> R {
    defer { withExtendedLifetime(self) {} }
    return unsafe try body(try keyBytes().bytes, try valueBytes().bytes)
  }

  /// Lends the key the cursor stands on.
  @inlinable
  package func withKey<R>(_ body: (RawSpan) throws -> R) throws -> R {
    defer { withExtendedLifetime(self) {} }
    return unsafe try body(try keyBytes().bytes)
  }

  /// Valid for as long as the reader.
  package func keyBytes() throws(LMDBError) -> UnsafeRawBufferPointer { unsafe try entry().key }

  /// Valid for as long as the reader.
  package func valueBytes() throws(LMDBError) -> UnsafeRawBufferPointer {
    let entry = try entry()
    return unsafe try reader.located { trees throws(LMDBError) in unsafe try trees.value(of: entry) }
  }

  @inline(__always)
  private func entry() throws(LMDBError) -> TreeNode {
    precondition(unsafe place == .onEntry, "A cursor can only be read while it stands on an entry.")
    return try reader.located { _ throws(LMDBError) in unsafe try path.entry }
  }

  /// Lends the entry the cursor stands on, then each further one in key order or backwards, until `body` returns false
  /// or throws, or there is none left. Afterwards it stands on the entry lent last, or past the end.
  package func walk(backwards: Bool, _ body: (_ key: RawSpan, _ value: RawSpan) throws -> Bool) throws {
    precondition(unsafe place == .onEntry, "A walk begins on an entry.")
    while try walkLeaf(backwards: backwards, body) {
      let more = try reader.located { trees throws(LMDBError) in
        unsafe try path.nextLeaf(backwards: backwards, &trees)
      }
      if !more {
        unsafe place = backwards ? .beforeFirst : .afterLast
        return
      }
    }
  }

  /// Lends the rest of the leaf; false when `body` has had enough.
  private func walkLeaf(
    backwards: Bool, _ body: (_ key: RawSpan, _ value: RawSpan) throws -> Bool
  ) throws -> Bool {
    let (leaf, start) = unsafe path.leaf
    let end = backwards ? -1 : leaf.count
    var index = start
    defer { unsafe path.stand(at: index) }
    while true {
      let (key, value) = unsafe try reader.located { trees throws(LMDBError) in
        let entry = try leaf.entry(index)
        return unsafe (entry.key, try trees.value(of: entry))
      }
      guard unsafe try body(key.bytes, value.bytes) else { return false }
      let next = backwards ? index - 1 : index + 1
      guard next != end else { return true }
      index = next
    }
  }
}
