// The parts of LMDB's file format (data version 1, 64 bits, little-endian) that are checked without LMDB's help.
//
//     page   number u64 | pad u16 | flags u16 | lower u16 | upper u16 | node offsets u16 … free … nodes
//            (of a value's own pages: number u64 | pad u16 | flags u16 | pages u32 | bytes …)
//     node   low u16 | high u16 | flags u16 | keyBytes u16 | key | data       always at an even offset
//            branch: low, high and flags are the child's page number; leaf: low and high are the value's length
//     tree   pad u32 | flags u16 | depth u16 | branchPages u64 | leafPages u64 | valuePages u64 |
//            entries u64 | root u64
//     meta   (pages 0 and 1, after the page header) magic u32 | version u32 | address u64 | mapSize u64 |
//            free tree 48 (its pad is the page size) | main tree 48 | lastPage u64 | transaction u64

enum FileFormat {
  static let magic: UInt32 = 0xBEEF_C0DE
  static let version: UInt32 = 1
  static let pageHeaderBytes = 16
  static let nodeHeaderBytes = 8
  static let treeBytes = 48
  static let metaBytes = 136
  static let noPage = UInt64.max
  static let pageSizes: ClosedRange<Int> = 512...32_768

  static let branchPage: UInt16 = 0x01
  static let leafPage: UInt16 = 0x02
  static let valuePages: UInt16 = 0x04
  static let metaPage: UInt16 = 0x08

  static let valueElsewhere: UInt16 = 0x01
  static let treeRecord: UInt16 = 0x02
  static let integerKeys: UInt16 = 0x08
  /// The properties of a table that give it another order, or several values for a key.
  static let tableProperties: UInt16 = 0x7E
}

extension RawSpan {
  /// Of integers; the caller has checked that they lie inside.
  func little<T: FixedWidthInteger & BitwiseCopyable>(_ type: T.Type, at offset: Int) -> T {
    unsafe T(littleEndian: unsafeLoadUnaligned(fromByteOffset: offset, as: type))
  }
}

/// The root of a tree and what it is said to hold.
struct TreeRecord {
  var flags: UInt16
  var depth: Int
  var branchPages, leafPages, valuePages, entries, root: UInt64

  init(_ bytes: RawSpan, at offset: Int) {
    flags = bytes.little(UInt16.self, at: offset + 4)
    depth = Int(bytes.little(UInt16.self, at: offset + 6))
    branchPages = bytes.little(UInt64.self, at: offset + 8)
    leafPages = bytes.little(UInt64.self, at: offset + 16)
    valuePages = bytes.little(UInt64.self, at: offset + 24)
    entries = bytes.little(UInt64.self, at: offset + 32)
    root = bytes.little(UInt64.self, at: offset + 40)
  }

  /// Whether a walk from the root can be tried.
  var isWalkable: Bool { root == FileFormat.noPage || (1...TreeReader.maximumDepth).contains(depth) }
}

/// A meta page: where the trees of one state begin.
struct MetaPage {
  var pageSize: Int
  var free, main: TreeRecord
  var lastPage, transaction: UInt64

  /// Checks all that can be told from the page alone.
  init(_ bytes: RawSpan, _ path: String) throws(LMDBError) {
    func refused(_ code: LMDBError.Code) -> LMDBError {
      LMDBError(code, operation: "open the environment", path: path)
    }
    guard bytes.byteCount >= FileFormat.pageHeaderBytes + FileFormat.metaBytes else { throw refused(.invalid) }
    let body = FileFormat.pageHeaderBytes
    guard bytes.little(UInt16.self, at: 10) & FileFormat.metaPage != 0,
      bytes.little(UInt32.self, at: body) == FileFormat.magic
    else { throw refused(.invalid) }
    guard bytes.little(UInt32.self, at: body + 4) == FileFormat.version else { throw refused(.versionMismatch) }
    pageSize = Int(bytes.little(UInt32.self, at: body + 24))
    free = TreeRecord(bytes, at: body + 24)
    main = TreeRecord(bytes, at: body + 72)
    lastPage = bytes.little(UInt64.self, at: body + 120)
    transaction = bytes.little(UInt64.self, at: body + 128)

    // LMDB believes all of this; a page size of zero, for one, would make it divide by zero.
    guard FileFormat.pageSizes.contains(pageSize), pageSize.nonzeroBitCount == 1 else { throw refused(.corrupted) }
    guard lastPage >= 1, lastPage < 1 << 46 else { throw refused(.corrupted) }
    guard free.flags & FileFormat.integerKeys != 0, main.flags & FileFormat.tableProperties == 0 else {
      throw refused(.incompatible)
    }
    for tree in [free, main] where tree.root != FileFormat.noPage {
      guard tree.root >= 2, tree.root <= lastPage, tree.depth > 0 else { throw refused(.corrupted) }
    }
  }

  /// How far the file is in use.
  var usedBytes: Int { Int(lastPage + 1) * pageSize }
}
