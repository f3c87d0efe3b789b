// A page of a tree, as a reader meets it in the map, and what stands in it.
//
// Invariants:
// - Nothing of a page is believed. Its number, its kind and each offset and length are compared with what they must
//   lie in before they are followed: a damaged page is an error, where LMDB's own look-ups would end the program.
// - An entry that a page does not show proves nothing by itself: a flipped bit in its header or its list of offsets hides
//   entries that are there. Whoever concludes anything from what is missing asks `checkNodes` first.

internal import CLMDB

#if canImport(Darwin)
  internal import Darwin
#elseif canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#endif

extension LMDBError {
  /// Whoever knows the path adds it (see `located`).
  @inline(never)
  static func damaged(_ page: UInt64, _ what: StaticString) -> LMDBError {
    LMDBError(.corrupted, operation: "read page \(page) (\(what))", path: "")
  }

  func located(_ path: String) -> LMDBError {
    LMDBError(code, operation: operation, path: self.path.isEmpty ? path : self.path)
  }
}

/// A branch or leaf page whose header was checked.
@safe
struct TreePage {
  let start: UnsafeRawPointer
  let size: Int
  /// Where the first node lies; they reach to the end of the page.
  let upper: Int
  /// At least one.
  let count: Int

  @inline(__always)
  init(_ start: UnsafeRawPointer, _ number: UInt64, size: Int, isLeaf: Bool) throws(LMDBError) {
    let lower = unsafe Int(start.little(UInt16.self, at: 12))
    guard unsafe start.little(UInt64.self, at: 0) == number,
      unsafe start.little(UInt16.self, at: 10) == (isLeaf ? FileFormat.leafPage : FileFormat.branchPage),
      lower > FileFormat.pageHeaderBytes, lower <= size
    else { throw .damaged(number, isLeaf ? "not the leaf of the tree" : "not the branch of the tree") }
    unsafe self.start = unsafe start
    self.size = size
    upper = unsafe Int(start.little(UInt16.self, at: 14))
    count = (lower - FileFormat.pageHeaderBytes) / 2
  }

  /// For what is wrong further on.
  var number: UInt64 { unsafe start.little(UInt64.self, at: 0) }

  /// An entry of a leaf, or a child of a branch. `index` is less than `count`.
  @inline(__always)
  func node(_ index: Int) throws(LMDBError) -> TreeNode {
    let offset = unsafe Int(start.little(UInt16.self, at: FileFormat.pageHeaderBytes + index * 2))
    guard offset <= size - FileFormat.nodeHeaderBytes else { throw .damaged(number, "an entry outside its page") }
    let node = unsafe TreeNode(start: start + offset)
    guard offset + FileFormat.nodeHeaderBytes + node.keyBytes <= size else {
      throw .damaged(number, "a key outside its page")
    }
    return node
  }

  /// An entry of a leaf whose value was checked to lie in the page, or to be a reference to where it lies.
  @inline(__always)
  func entry(_ index: Int) throws(LMDBError) -> TreeNode {
    let node = try node(index)
    let bytesInPage = node.isValueElsewhere ? MemoryLayout<UInt64>.size : node.valueBytes
    // Before the first node lies what is left of former entries, which may look whole.
    guard unsafe node.value - start + bytesInPage <= size, node.flags & ~FileFormat.valueElsewhere == 0,
      unsafe node.start - start >= upper
    else {
      throw .damaged(number, "a value outside its page")
    }
    return node
  }

  /// Whether the page shows every node that lies in it, and each once.
  ///
  /// LMDB keeps nodes one behind the other, without a gap, from `upper` to the end of the page. So their sizes add up to
  /// that, and (as one of the same size may be named twice in another's place) so do the sizes weighted by where they lie:
  /// a sum over every byte of its place, of which the result is known.
  @inline(never)
  func checkNodes(isLeaf: Bool) throws(LMDBError) {
    var bytes = 0
    var places = 0
    var list = unsafe start + FileFormat.pageHeaderBytes
    let end = unsafe list + 2 * count
    let last = size - FileFormat.nodeHeaderBytes
    while unsafe list < end {
      let offset = unsafe Int(list.little(UInt16.self, at: 0))
      guard offset <= last else { throw .damaged(number, "an entry outside its page") }
      // The whole header of the node: low u16 | high u16 | flags u16 | keyBytes u16.
      let header = unsafe start.little(UInt64.self, at: offset)
      var length = FileFormat.nodeHeaderBytes &+ Int(truncatingIfNeeded: header &>> 48)
      if isLeaf {
        let isElsewhere = header &>> 32 & UInt64(FileFormat.valueElsewhere) != 0
        length &+= isElsewhere ? MemoryLayout<UInt64>.size : Int(truncatingIfNeeded: header & 0xFFFF_FFFF)
      }
      length &+= length & 1
      bytes &+= length
      places &+= length &* (2 &* offset &+ length)
      unsafe list += 2
    }
    guard bytes == size - upper, places == size * size - upper * upper else {
      throw .damaged(number, "entries hidden, or shown twice")
    }
  }

  /// The page below a branch at `index`.
  @inline(__always)
  func child(_ index: Int) throws(LMDBError) -> UInt64 { try node(index).child }

  /// The first entry of a leaf whose key is not less than `key`: `count` when there is none.
  @inline(__always)
  func firstEntry(atOrAfter key: UnsafeRawBufferPointer) throws(LMDBError) -> (index: Int, isKey: Bool) {
    var low = 0
    var high = count
    while low < high {
      let middle = (low + high) >> 1
      let order = unsafe try node(middle).compare(key)
      if order == 0 { return (middle, true) }
      if order < 0 { low = middle + 1 } else { high = middle }
    }
    return (low, false)
  }

  /// The child of a branch in which `key` is, if it is in the tree.
  @inline(__always)
  func childIndex(of key: UnsafeRawBufferPointer) throws(LMDBError) -> Int {
    // The first child has no key: everything before the second one's is in it.
    var low = 1
    var high = count
    while low < high {
      let middle = (low + high) >> 1
      if unsafe try node(middle).compare(key) <= 0 { low = middle + 1 } else { high = middle }
    }
    return low - 1
  }
}

/// A node of a page. Its key lies in the page.
@safe
struct TreeNode {
  let start: UnsafeRawPointer

  var flags: UInt16 { unsafe start.little(UInt16.self, at: 4) }
  var keyBytes: Int { unsafe Int(start.little(UInt16.self, at: 6)) }
  var key: UnsafeRawBufferPointer {
    unsafe UnsafeRawBufferPointer(start: start + FileFormat.nodeHeaderBytes, count: keyBytes)
  }

  /// Of a branch.
  var child: UInt64 {
    unsafe UInt64(start.little(UInt32.self, at: 0)) | UInt64(start.little(UInt16.self, at: 4)) << 32
  }

  /// Of a leaf: the value, or the number of the page where it begins.
  var value: UnsafeRawPointer { unsafe start + FileFormat.nodeHeaderBytes + keyBytes }
  var valueBytes: Int { unsafe Int(start.little(UInt32.self, at: 0)) }
  var isValueElsewhere: Bool { flags & FileFormat.valueElsewhere != 0 }

  /// The order of the node's key and `key`: negative when the node's comes first.
  @inline(__always)
  func compare(_ key: UnsafeRawBufferPointer) -> Int {
    let own = unsafe self.key
    let common = min(own.count, key.count)
    guard common > 0, let left = own.baseAddress, let right = key.baseAddress else {
      return own.count - key.count
    }
    if common >= 8 {
      // Most keys differ in their first eight bytes: no call for those.
      let leftWord = unsafe UInt64(bigEndian: left.loadUnaligned(as: UInt64.self))
      let rightWord = unsafe UInt64(bigEndian: right.loadUnaligned(as: UInt64.self))
      if leftWord != rightWord { return leftWord < rightWord ? -1 : 1 }
    }
    let order = unsafe memcmp(left, right, common)
    return order != 0 ? Int(order) : own.count - key.count
  }
}

extension UnsafeRawPointer {
  /// The caller has checked that it lies inside.
  @inline(__always)
  func little<T: FixedWidthInteger & BitwiseCopyable>(_ type: T.Type, at offset: Int) -> T {
    unsafe T(littleEndian: loadUnaligned(fromByteOffset: offset, as: type))
  }
}
