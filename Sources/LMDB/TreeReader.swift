// Look-ups in the trees of the state that a reader holds: in the map, without liblmdb.
//
// liblmdb's transaction says which state it is and keeps its pages from being reused; what is in them is read here, for
// two reasons. liblmdb believes its pages, so that a damaged one ends the program; here it is an error. And a look-up
// waits for memory most of the time: who walks the pages himself can ask for the whole of one before he needs it.
//
// Invariants:
// - The pages of a state never change: LMDB copies a page before it changes it, and reuses none that a reader can see.
// - A walk from the root takes as many steps as the tree is deep, whatever the pages say.

internal import CLMDB

struct TreeReader {
  private let maps: PageMaps
  private(set) var map: PageMap

  /// The longest path from a root to a leaf that LMDB's own cursors can follow.
  static let maximumDepth = 32

  init(_ maps: PageMaps) {
    self.maps = maps
    map = maps.current
  }

  /// The entry with this key; nil when there is none.
  @inline(__always)
  mutating func find(_ key: UnsafeRawBufferPointer, in tree: TreeRecord) throws(LMDBError) -> TreeNode? {
    guard let place = unsafe try place(of: key, in: tree) else { return nil }
    return place.isKey ? try place.leaf.entry(place.index) : nil
  }

  /// Where the key is or would be: before the entry at `index`. Nil when the tree is empty.
  @inline(__always)
  mutating func place(
    of key: UnsafeRawBufferPointer, in tree: TreeRecord
  ) throws(LMDBError) -> (leaf: TreePage, index: Int, isKey: Bool)? {
    guard tree.root != FileFormat.noPage else { return nil }
    var number = tree.root
    var level = tree.depth
    while level > 1 {
      let branch = try page(number, isLeaf: false)
      number = unsafe try branch.child(branch.childIndex(of: key))
      level -= 1
    }
    let leaf = try page(number, isLeaf: true)
    let (index, isKey) = unsafe try leaf.firstEntry(atOrAfter: key)
    return (leaf, index, isKey)
  }

  /// The entries on both sides of a key that is not in the tree.
  mutating func neighbours(
    of key: UnsafeRawBufferPointer, in tree: TreeRecord
  ) throws(LMDBError) -> (before: TreeNode?, after: TreeNode?) {
    guard let (leaf, index, isKey) = unsafe try place(of: key, in: tree) else { return (nil, nil) }
    // Between two entries of one leaf there is no room for a mistake further up: no other leaf can have the key.
    if index > 0, index < leaf.count, !isKey {
      try leaf.checkNodes(isLeaf: true)
      return (try leaf.entry(index - 1), try leaf.entry(index))
    }
    return unsafe try neighboursAcross(key, tree)
  }

  /// At the edge of a leaf the pages above may have led astray, so all of them are looked at, and the leaf beside it.
  @inline(never)
  private mutating func neighboursAcross(
    _ key: UnsafeRawBufferPointer, _ tree: TreeRecord
  ) throws(LMDBError) -> (before: TreeNode?, after: TreeNode?) {
    var path = TreePath(tree)
    guard unsafe try path.seek(key, &self) else {
      return try path.outermost(backwards: true, &self) ? (try path.entry, nil) : (nil, nil)
    }
    let after = try path.entry
    return try path.next(backwards: true, &self) ? (try path.entry, after) : (nil, after)
  }

  /// A page of a tree; a leaf is fetched as a whole.
  @inline(__always)
  mutating func page(_ number: UInt64, isLeaf: Bool) throws(LMDBError) -> TreePage {
    let start = unsafe try start(of: number)
    if isLeaf { unsafe TreePage.prefetch(start) }
    return unsafe try TreePage(start, number, size: map.pageSize, isLeaf: isLeaf)
  }

  /// Asks for a leaf that is likely to be wanted soon.
  @inline(__always)
  func prefetch(_ number: UInt64) {
    if let start = unsafe map.start(of: number) { unsafe TreePage.prefetch(start) }
  }

  /// The bytes of an entry's value, wherever they lie.
  @inline(__always)
  mutating func value(of entry: TreeNode) throws(LMDBError) -> UnsafeRawBufferPointer {
    if entry.isValueElsewhere { return unsafe try valueElsewhere(entry) }
    return unsafe UnsafeRawBufferPointer(start: entry.value, count: entry.valueBytes)
  }

  @inline(never)
  private mutating func valueElsewhere(_ entry: TreeNode) throws(LMDBError) -> UnsafeRawBufferPointer {
    let number = unsafe entry.value.little(UInt64.self, at: 0)
    var start = unsafe try start(of: number)
    let byteCount = entry.valueBytes
    let needed = (byteCount + FileFormat.pageHeaderBytes + map.pageSize - 1) >> Int(map.pageShift)
    if UInt64(needed) > map.pageCount - number {
      // Looked at while a transaction was writing the value, the file ended within it.
      map = try maps.refreshed()
      unsafe start = try self.start(of: number)
    }
    // The last page of the value lies in the file too, and in the same map: the file may have grown, not shrunk.
    guard unsafe start.little(UInt64.self, at: 0) == number,
      unsafe start.little(UInt16.self, at: 10) == FileFormat.valuePages,
      unsafe Int(start.little(UInt32.self, at: 12)) >= needed, UInt64(needed) <= map.pageCount - number
    else { throw .damaged(number, "not the value that should be there") }
    return unsafe UnsafeRawBufferPointer(start: start + FileFormat.pageHeaderBytes, count: byteCount)
  }

  @inline(__always)
  private mutating func start(of number: UInt64) throws(LMDBError) -> UnsafeRawPointer {
    if let start = unsafe map.start(of: number) { return unsafe start }
    return unsafe try startInGrownFile(number)
  }

  @inline(never)
  private mutating func startInGrownFile(_ number: UInt64) throws(LMDBError) -> UnsafeRawPointer {
    map = try maps.refreshed()
    guard let start = unsafe map.start(of: number) else { throw .damaged(number, "beyond the end of the file") }
    return unsafe start
  }
}

extension TreePage {
  /// Asks the processor for the first 4 KiB of a page, all lines of them at once. The entries of a page lie in the
  /// order in which they were written, so that its own guesses about what is read next are wrong.
  @inline(__always)
  static func prefetch(_ start: UnsafeRawPointer) { unsafe lmdb_prefetch(start) }
}
