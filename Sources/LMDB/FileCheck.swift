// Walks one state of a data file, page by page, and finds what is not as LMDB's format says.
//
// LMDB itself believes its pages: a damaged one can end the program (it asserts, or follows an offset out of the map).
// So a file that is in doubt is walked first. Pages are read from the file and not through the map, because a
// missing page of the map is a signal, and a missing page of a file is an error.
//
// Invariants:
// - The caller pins the state (with a reader) for as long as the walk takes, so no page of it is reused meanwhile.
// - Every page belongs to one tree, once, or to the free list: a second claim is damage.
// - No offset or length of the file is used before it was compared with what it must lie in.

/// What a file without damage holds.
package struct LMDBVerification: Equatable, Sendable {
  package var pages = 0
  package var freePages = 0
  package var tables = 0
  /// Of all tables together.
  package var entries = 0
}

struct FileCheck: ~Copyable {
  private let file: OpenFile
  private let meta: MetaPage
  /// A bit for each page: in use by a tree, or free.
  private var claimed: [UInt64]
  private var found = LMDBVerification()

  /// The longest path from a root to a leaf that LMDB's cursors can follow.
  private static let maximumDepth = 32

  init(_ file: OpenFile, _ meta: MetaPage) {
    self.file = file
    self.meta = meta
    claimed = [UInt64](repeating: 0, count: Int(meta.lastPage) / 64 + 1)
  }

  consuming func run() throws(LMDBError) -> LMDBVerification {
    claimed[0] = 0b11
    found.pages = Int(meta.lastPage) + 1
    try walk(meta.free, .freeList)
    try walk(meta.main, .main)
    return found
  }

  private enum Kind { case freeList, main, table }

  private struct Counts {
    var branchPages: UInt64 = 0
    var leafPages: UInt64 = 0
    var valuePages: UInt64 = 0
    var entries: UInt64 = 0
  }

  private mutating func walk(_ tree: TreeRecord, _ kind: Kind) throws(LMDBError) {
    var counts = Counts()
    if tree.root != FileFormat.noPage {
      guard (1...FileCheck.maximumDepth).contains(tree.depth) else { throw damage(tree.root, "a tree too deep") }
      try walk(page: tree.root, levels: tree.depth, from: nil, to: nil, kind, &counts)
    }
    guard counts.branchPages == tree.branchPages, counts.leafPages == tree.leafPages,
      counts.valuePages == tree.valuePages, counts.entries == tree.entries
    else { throw damage(tree.root, "a tree that does not hold what its record says") }
    if kind == .table {
      found.tables += 1
      found.entries += Int(counts.entries)
    }
  }

  /// `from` and `to` bound the keys, as the page above says: `from` is included, `to` is not.
  private mutating func walk(
    page number: UInt64, levels: Int, from: [UInt8]?, to: [UInt8]?, _ kind: Kind, _ counts: inout Counts
  ) throws(LMDBError) {
    try claim(number, 1)
    let page = try Page(try read(number, 1), number, file.path, isLeaf: levels == 1)
    guard page.count > 0 else { throw damage(number, "a page without entries") }
    if levels == 1 { counts.leafPages += 1 } else { counts.branchPages += 1 }

    // LMDB leaves the first key of a branch page out; everything to the left of the second belongs there.
    var keys: [[UInt8]] = []
    for index in 0..<page.count { keys.append(try page.key(index)) }
    let firstChecked = levels == 1 ? 0 : 1
    for index in firstChecked..<page.count {
      guard (1...LMDBLimits.maximumKeyBytes).contains(keys[index].count) else {
        throw damage(number, "a key of \(keys[index].count) bytes")
      }
      if kind == .freeList && keys[index].count != 8 { throw damage(number, "a transaction number that is none") }
      let lower = index == firstChecked ? from : keys[index - 1]
      if let lower, precedes(keys[index], lower, kind) { throw damage(number, "keys out of order") }
      if index > firstChecked, keys[index] == keys[index - 1] { throw damage(number, "the same key twice") }
      if let to, !precedes(keys[index], to, kind) { throw damage(number, "a key beyond its page") }
    }

    for index in 0..<page.count {
      if levels > 1 {
        let low = index == 0 ? from : keys[index]
        let high = index + 1 < page.count ? keys[index + 1] : to
        try walk(page: try page.child(index), levels: levels - 1, from: low, to: high, kind, &counts)
      } else {
        counts.entries += 1
        try check(page.value(index), in: number, kind, &counts)
      }
    }
  }

  private mutating func check(
    _ value: Page.Value, in number: UInt64, _ kind: Kind, _ counts: inout Counts
  ) throws(LMDBError) {
    var bytes = value.bytes
    if value.flags & FileFormat.valueElsewhere != 0 {
      let needed = (value.byteCount + FileFormat.pageHeaderBytes + meta.pageSize - 1) / meta.pageSize
      let first = unsafe bytes.span.bytes.little(UInt64.self, at: 0)
      try claim(first, 1)
      let head = try read(first, 1)
      let header = unsafe head.span.bytes
      let pages = Int(header.little(UInt32.self, at: 12))
      // More pages than needed: LMDB keeps them when a value is replaced by a shorter one.
      guard header.little(UInt64.self, at: 0) == first, header.little(UInt16.self, at: 10) == FileFormat.valuePages,
        pages >= needed
      else { throw damage(first, "not the value that should be there") }
      if pages > 1 { try claim(first + 1, pages - 1) }
      counts.valuePages += UInt64(pages)
      guard try file.byteCount() >= (Int(first) + needed) * meta.pageSize else {
        throw damage(first, "a value beyond the end of the file")
      }
      // Only the free list is read in full: what a value says is for those who know what it should say.
      if kind == .freeList {
        let body = try read(first, needed)
        bytes = Array(body[FileFormat.pageHeaderBytes..<FileFormat.pageHeaderBytes + value.byteCount])
      }
    }
    switch kind {
    case .table:
      guard value.flags & ~FileFormat.valueElsewhere == 0 else { throw damage(number, "a value of another kind") }
    case .main:
      // Entries of the main tree that are no tables belong to somebody else; they are only walked past.
      guard value.flags & FileFormat.treeRecord != 0 else { return }
      guard bytes.count == FileFormat.treeBytes else { throw damage(number, "a table without a record") }
      try walk(unsafe TreeRecord(bytes.span.bytes, at: 0), .table)
    case .freeList:
      try claimFree(bytes, in: number)
    }
  }

  /// An entry of the free list: a count and as many page numbers.
  private mutating func claimFree(_ bytes: [UInt8], in number: UInt64) throws(LMDBError) {
    guard bytes.count >= 8 else { throw damage(number, "a free list without a count") }
    let count = unsafe bytes.span.bytes.little(UInt64.self, at: 0)
    guard count < UInt64(bytes.count / 8) else { throw damage(number, "a free list longer than its entry") }
    for index in 0..<Int(count) { try claim(unsafe bytes.span.bytes.little(UInt64.self, at: 8 + index * 8), 1) }
    found.freePages += Int(count)
  }

  private mutating func claim(_ first: UInt64, _ count: Int) throws(LMDBError) {
    guard first >= 2, first <= meta.lastPage, UInt64(count) <= meta.lastPage - first + 1 else {
      throw damage(first, "a page number outside the file")
    }
    for page in Int(first)..<Int(first) + count {
      let bit: UInt64 = 1 << UInt64(page % 64)
      guard claimed[page / 64] & bit == 0 else { throw damage(UInt64(page), "a page used twice") }
      claimed[page / 64] |= bit
    }
  }

  private func read(_ first: UInt64, _ count: Int) throws(LMDBError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count * meta.pageSize)
    let read = try file.read(into: &bytes, at: Int(first) * meta.pageSize)
    guard read == bytes.count else { throw damage(first, "a page beyond the end of the file") }
    return bytes
  }

  private func damage(_ page: UInt64, _ what: String) -> LMDBError {
    LMDBError(.corrupted, operation: "verify page \(page) (\(what))", path: file.path)
  }

  private func precedes(_ first: [UInt8], _ second: [UInt8], _ kind: Kind) -> Bool {
    guard kind == .freeList, first.count == 8, second.count == 8 else { return first.lexicographicallyPrecedes(second) }
    return unsafe first.span.bytes.little(UInt64.self, at: 0) < second.span.bytes.little(UInt64.self, at: 0)
  }
}

/// A branch or leaf page whose header was checked.
private struct Page {
  struct Value {
    var flags: UInt16
    var byteCount: Int
    /// The value itself, or the number of its first page.
    var bytes: [UInt8]
  }

  let bytes: [UInt8]
  let number: UInt64
  let path: String
  let count: Int

  init(_ bytes: [UInt8], _ number: UInt64, _ path: String, isLeaf: Bool) throws(LMDBError) {
    self.bytes = bytes
    self.number = number
    self.path = path
    let header = unsafe bytes.span.bytes
    let lower = Int(header.little(UInt16.self, at: 12))
    let upper = Int(header.little(UInt16.self, at: 14))
    guard header.little(UInt64.self, at: 0) == number,
      header.little(UInt16.self, at: 10) == (isLeaf ? FileFormat.leafPage : FileFormat.branchPage)
    else { throw LMDBError(.corrupted, operation: "verify page \(number) (not the page of the tree)", path: path) }
    guard lower >= FileFormat.pageHeaderBytes, lower % 2 == 0, lower <= upper, upper <= bytes.count else {
      throw LMDBError(.corrupted, operation: "verify page \(number) (impossible bounds)", path: path)
    }
    count = (lower - FileFormat.pageHeaderBytes) / 2
    guard isLeaf || count >= 2 else {
      throw LMDBError(.corrupted, operation: "verify page \(number) (a branch with one child)", path: path)
    }
  }

  /// Where the key of a node begins and ends.
  private func node(_ index: Int) throws(LMDBError) -> Range<Int> {
    let page = unsafe bytes.span.bytes
    let start = Int(page.little(UInt16.self, at: FileFormat.pageHeaderBytes + index * 2))
    let keyStart = start + FileFormat.nodeHeaderBytes
    guard start >= Int(page.little(UInt16.self, at: 14)), start % 2 == 0, keyStart <= bytes.count else { throw outside }
    let keyEnd = keyStart + Int(page.little(UInt16.self, at: start + 6))
    guard keyEnd <= bytes.count else { throw outside }
    return keyStart..<keyEnd
  }

  func key(_ index: Int) throws(LMDBError) -> [UInt8] { Array(bytes[try node(index)]) }

  func child(_ index: Int) throws(LMDBError) -> UInt64 {
    let start = try node(index).lowerBound - FileFormat.nodeHeaderBytes
    let page = unsafe bytes.span.bytes
    return UInt64(page.little(UInt32.self, at: start)) | UInt64(page.little(UInt16.self, at: start + 4)) << 32
  }

  func value(_ index: Int) throws(LMDBError) -> Value {
    let key = try node(index)
    let start = key.lowerBound - FileFormat.nodeHeaderBytes
    let page = unsafe bytes.span.bytes
    let byteCount = Int(page.little(UInt32.self, at: start))
    let flags = page.little(UInt16.self, at: start + 4)
    let stored = flags & FileFormat.valueElsewhere != 0 ? 8 : byteCount
    guard stored <= bytes.count - key.upperBound else { throw outside }
    return Value(flags: flags, byteCount: byteCount, bytes: Array(bytes[key.upperBound..<key.upperBound + stored]))
  }

  private var outside: LMDBError {
    LMDBError(.corrupted, operation: "verify page \(number) (an entry outside its page)", path: path)
  }
}
