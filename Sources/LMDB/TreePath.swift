// A place in a tree, as the pages from the root down to a leaf: what a reader's cursor stands on.
//
// Invariants
// - `levels` is empty until the first move found an entry; then it has as many as the tree is deep.
// - Moving past an end says so and changes nothing.
// - Each page on the path shows all it has (`TreePage.checkNodes`), and its keys lie between those that the pages above
//   it have beside it. So of two entries that it moves over, one after the other, there is none between in the tree.

struct TreePath {
  private struct Level {
    var page: TreePage
    var index: Int
  }

  private let tree: TreeRecord
  private var levels: [Level] = []

  init(_ tree: TreeRecord) { self.tree = tree }

  /// The leaf that it stands in, and where.
  @inline(__always)
  var leaf: (page: TreePage, index: Int) {
    let level = levels[levels.count - 1]
    return (level.page, level.index)
  }

  var entry: TreeNode {
    get throws(LMDBError) {
      let (page, index) = leaf
      return try page.entry(index)
    }
  }

  /// Moves within the leaf.
  @inline(__always)
  mutating func stand(at index: Int) { levels[levels.count - 1].index = index }

  // MARK: Moving; each says whether there is such an entry

  /// The first entry of the tree, or the last.
  mutating func outermost(backwards: Bool, _ reader: inout TreeReader) throws(LMDBError) -> Bool {
    guard tree.root != FileFormat.noPage else { return false }
    levels.removeAll(keepingCapacity: true)
    var number = tree.root
    while true {
      let isLeaf = levels.count == tree.depth - 1
      let page = try page(number, isLeaf: isLeaf, below: levels.count, &reader)
      levels.append(Level(page: page, index: backwards ? page.count - 1 : 0))
      if isLeaf { return true }
      number = try page.child(backwards ? page.count - 1 : 0)
    }
  }

  /// The first entry whose key is not less than `key`.
  mutating func seek(_ key: UnsafeRawBufferPointer, _ reader: inout TreeReader) throws(LMDBError) -> Bool {
    guard tree.root != FileFormat.noPage else { return false }
    levels.removeAll(keepingCapacity: true)
    var number = tree.root
    while levels.count < tree.depth - 1 {
      let page = try page(number, isLeaf: false, below: levels.count, &reader)
      let index = unsafe try page.childIndex(of: key)
      levels.append(Level(page: page, index: index))
      number = try page.child(index)
    }
    let leaf = try page(number, isLeaf: true, below: levels.count, &reader)
    let index = unsafe try leaf.firstEntry(atOrAfter: key).index
    levels.append(Level(page: leaf, index: min(index, leaf.count - 1)))
    // Past the last entry of its leaf: the next leaf has it, if there is one.
    return index < leaf.count ? true : try nextLeaf(backwards: false, &reader)
  }

  @inline(__always)
  mutating func next(backwards: Bool, _ reader: inout TreeReader) throws(LMDBError) -> Bool {
    let (page, index) = leaf
    let next = backwards ? index - 1 : index + 1
    guard next >= 0, next < page.count else { return try nextLeaf(backwards: backwards, &reader) }
    stand(at: next)
    return true
  }

  /// To the first entry of the next leaf, or to the last one of the leaf before.
  @inline(never)
  mutating func nextLeaf(backwards: Bool, _ reader: inout TreeReader) throws(LMDBError) -> Bool {
    let step = backwards ? -1 : 1
    var level = levels.count - 2
    while level >= 0, !levels[level].page.has(levels[level].index + step) { level -= 1 }
    guard level >= 0 else { return false }
    levels[level].index += step
    while level < levels.count - 1 {
      let number = try levels[level].page.child(levels[level].index)
      level += 1
      let page = try page(number, isLeaf: level == levels.count - 1, below: level, &reader)
      levels[level] = Level(page: page, index: backwards ? page.count - 1 : 0)
    }
    // Who has walked from one leaf to another will want the one after, too.
    let parent = levels[levels.count - 2]
    if parent.page.has(parent.index + step) { reader.prefetch(try parent.page.child(parent.index + step)) }
    return true
  }

  /// A page of the path, `above` levels below the root.
  private func page(
    _ number: UInt64, isLeaf: Bool, below above: Int, _ reader: inout TreeReader
  ) throws(LMDBError) -> TreePage {
    let page = try reader.page(number, isLeaf: isLeaf)
    try page.checkNodes(isLeaf: isLeaf)
    // The first key of a branch is left out.
    let first = isLeaf ? 0 : 1
    guard first < page.count else { throw .damaged(number, "a branch with one child") }
    var isBounded = (below: false, above: false)
    var level = above - 1
    while level >= 0, !isBounded.below || !isBounded.above {
      let (parent, index) = (levels[level].page, levels[level].index)
      if !isBounded.below, index > 0 {
        isBounded.below = true
        guard unsafe try page.node(first).compare(parent.node(index).key) >= 0 else {
          throw .damaged(number, "keys of another page")
        }
      }
      if !isBounded.above, index + 1 < parent.count {
        isBounded.above = true
        guard unsafe try page.node(page.count - 1).compare(parent.node(index + 1).key) < 0 else {
          throw .damaged(number, "keys of another page")
        }
      }
      level -= 1
    }
    return page
  }
}

extension TreePage {
  fileprivate func has(_ index: Int) -> Bool { index >= 0 && index < count }
}
