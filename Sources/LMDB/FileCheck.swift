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

#if canImport(Darwin)
  internal import Darwin
#elseif canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#endif

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
  private var descends = true

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

  /// Looks at the tree that names the tables, which has a page or two, and no further: liblmdb reads that one, whatever
  /// else is read without it.
  consuming func runNames() throws(LMDBError) {
    descends = false
    claimed[0] = 0b11
    try walk(meta.main, .main)
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
    let firstChecked = levels == 1 ? 0 : 1
    var previous: Range<Int>?
    for index in firstChecked..<page.count {
      let key = try page.node(index)
      guard (1...LMDBLimits.maximumKeyBytes).contains(key.count) else {
        throw damage(number, "a key of \(key.count) bytes")
      }
      if kind == .freeList, key.count != 8 || !isPast(transaction: key, of: page) {
        throw damage(number, "a transaction number that is none")
      }
      if let previous {
        let order = order(page.bytes, previous, page.bytes, key, kind)
        if order == 0 { throw damage(number, "the same key twice") }
        if order > 0 { throw damage(number, "keys out of order") }
      } else if let from, order(page.bytes, key, from, from.indices, kind) < 0 {
        throw damage(number, "keys out of order")
      }
      previous = key
    }
    if let previous, let to, order(page.bytes, previous, to, to.indices, kind) >= 0 {
      throw damage(number, "a key beyond its page")
    }

    guard levels > 1 else {
      counts.entries += UInt64(page.count)
      for index in 0..<page.count { try check(page.value(index), of: page, kind, &counts) }
      return
    }
    var low = from
    for index in 0..<page.count {
      let high = index + 1 < page.count ? Array(page.bytes[try page.node(index + 1)]) : to
      try walk(page: try page.child(index), levels: levels - 1, from: low, to: high, kind, &counts)
      low = high
    }
  }

  /// Pages are freed by transactions that were committed.
  private func isPast(transaction key: Range<Int>, of page: Page) -> Bool {
    let number = unsafe page.bytes.span.bytes.little(UInt64.self, at: key.lowerBound)
    return number > 0 && number <= meta.transaction
  }

  private mutating func check(
    _ value: Page.Value, of page: Page, _ kind: Kind, _ counts: inout Counts
  ) throws(LMDBError) {
    // A row on its page: what it says is for those who know what it should say.
    if kind == .table, value.flags == 0 { return }
    let number = page.number
    var bytes = Array(page.bytes[value.stored])
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
      if descends { try walk(unsafe TreeRecord(bytes.span.bytes, at: 0), .table) }
    case .freeList:
      try claimFree(bytes, in: number)
    }
  }

  /// An entry of the free list: a count and as many page numbers.
  private mutating func claimFree(_ bytes: [UInt8], in number: UInt64) throws(LMDBError) {
    guard bytes.count >= 8 else { throw damage(number, "a free list without a count") }
    let count = unsafe bytes.span.bytes.little(UInt64.self, at: 0)
    guard count < UInt64(bytes.count / 8) else { throw damage(number, "a free list longer than its entry") }
    // LMDB merges and searches them, and asserts what it finds: they have to descend.
    var previous = UInt64.max
    for index in 0..<Int(count) {
      let page = unsafe bytes.span.bytes.little(UInt64.self, at: 8 + index * 8)
      guard page < previous else { throw damage(number, "a free list out of order") }
      try claim(page, 1)
      previous = page
    }
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

  /// The order of two keys: negative, zero or positive.
  private func order(
    _ first: [UInt8], _ firstKey: Range<Int>, _ second: [UInt8], _ secondKey: Range<Int>, _ kind: Kind
  ) -> Int {
    let (left, right) = unsafe (
      first.span.bytes.extracting(firstKey), second.span.bytes.extracting(secondKey)
    )
    if kind == .freeList, left.byteCount == 8, right.byteCount == 8 {
      let (left, right) = (left.little(UInt64.self, at: 0), right.little(UInt64.self, at: 0))
      return left < right ? -1 : left == right ? 0 : 1
    }
    let order = unsafe left.withUnsafeBytes { left in
      unsafe right.withUnsafeBytes { right in
        unsafe memcmp(left.baseAddress!, right.baseAddress!, min(left.count, right.count))
      }
    }
    return order != 0 ? Int(order) : left.byteCount - right.byteCount
  }
}

/// A branch or leaf page whose header was checked.
struct Page {
  struct Value {
    var flags: UInt16
    var byteCount: Int
    /// Where the value itself lies on the page, or the number of its first page.
    var stored: Range<Int>
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
  func node(_ index: Int) throws(LMDBError) -> Range<Int> {
    let page = unsafe bytes.span.bytes
    let start = Int(page.little(UInt16.self, at: FileFormat.pageHeaderBytes + index * 2))
    let keyStart = start + FileFormat.nodeHeaderBytes
    guard start >= Int(page.little(UInt16.self, at: 14)), start % 2 == 0, keyStart <= bytes.count else { throw outside }
    let keyEnd = keyStart + Int(page.little(UInt16.self, at: start + 6))
    guard keyEnd <= bytes.count else { throw outside }
    return keyStart..<keyEnd
  }

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
    return Value(flags: flags, byteCount: byteCount, stored: key.upperBound..<key.upperBound + stored)
  }

  private var outside: LMDBError {
    LMDBError(.corrupted, operation: "verify page \(number) (an entry outside its page)", path: path)
  }
}
