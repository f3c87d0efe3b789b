// What can go wrong in LMDB, as a value: which rule was broken, by which operation, on which file.

internal import CLMDB

#if canImport(Darwin)
  internal import Darwin
#elseif canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#endif

package struct LMDBError: Error, Equatable, Sendable {
  package enum Code: Hashable, Sendable {
    /// The key is there already; of `append`: the key is not greater than the last one.
    case keyExists
    /// There is no such table.
    case notFound
    /// A page that the tree refers to is not there: the file is damaged.
    case pageNotFound
    /// A page is not what the tree says it is, or the file is shorter than its contents: the file is damaged.
    case corrupted
    /// An earlier write of a meta page failed. The environment must be closed and opened again.
    case panic
    /// The file was written by an LMDB with another file format.
    case versionMismatch
    /// The file is not an LMDB file.
    case invalid
    /// The map has no room for another page.
    case mapFull
    /// More tables were opened than `Options.maximumTables`.
    case tablesFull
    /// All reader slots are taken, also after the slots of dead processes were cleared.
    case readersFull
    /// One transaction changed too many pages.
    case transactionFull
    /// The tree is deeper than a cursor can follow.
    case cursorFull
    /// A page has no room for what should fit in it: an inner error.
    case pageFull
    /// Another process made the file larger than the map of this one. Close it and open it with a larger map.
    case mapResized
    /// The table was made with properties (duplicate keys, other orders) that this layer does not use.
    case incompatible
    /// The reader's slot in the lock file was taken by somebody else.
    case badReaderSlot
    /// The transaction failed before and can only be aborted.
    case badTransaction
    /// The key is empty or too long, or the value is too long.
    case badValueSize
    /// The table is not open in this transaction.
    case badTable
    /// The file is open in this process already.
    case alreadyOpen
    /// Somebody else is in the way: without a lock, a writer beside a reader or the other way round.
    case busy
    /// The operating system said no; the value is the `errno`.
    case system(Int32)
    /// A code that this layer does not know.
    case other(Int32)
  }

  package var code: Code
  /// What was being done, as an infinitive: "open the environment".
  package var operation: String
  package var path: String

  package init(_ code: Code, operation: String, path: String) {
    self.code = code
    self.operation = operation
    self.path = path
  }

  /// From a code that LMDB returned. Never inlined: the callers are hot, failing is not.
  @inline(never)
  package init(returned code: Int32, _ operation: String, _ path: String) {
    self.init(Code(returned: code), operation: operation, path: path)
  }

  /// Nothing is wrong but that there is no room: the transaction can be aborted, and what was committed stays usable.
  package var isFull: Bool {
    switch code {
    case .mapFull, .system(ENOSPC), .system(EDQUOT): true
    default: false
    }
  }

  /// The file itself is not to be trusted.
  package var isDamage: Bool {
    switch code {
    case .pageNotFound, .corrupted, .invalid, .versionMismatch: true
    default: false
    }
  }
}

extension LMDBError: CustomStringConvertible {
  package var description: String { "cannot \(operation) in \(path): \(code)" }
}

extension LMDBError.Code: CustomStringConvertible {
  init(returned code: Int32) {
    self =
      switch code {
      case MDB_KEYEXIST: .keyExists
      case MDB_NOTFOUND: .notFound
      case MDB_PAGE_NOTFOUND: .pageNotFound
      case MDB_CORRUPTED: .corrupted
      case MDB_PANIC: .panic
      case MDB_VERSION_MISMATCH: .versionMismatch
      case MDB_INVALID: .invalid
      case MDB_MAP_FULL: .mapFull
      case MDB_DBS_FULL: .tablesFull
      case MDB_READERS_FULL: .readersFull
      case MDB_TXN_FULL: .transactionFull
      case MDB_CURSOR_FULL: .cursorFull
      case MDB_PAGE_FULL: .pageFull
      case MDB_MAP_RESIZED: .mapResized
      case MDB_INCOMPATIBLE: .incompatible
      case MDB_BAD_RSLOT: .badReaderSlot
      case MDB_BAD_TXN: .badTransaction
      case MDB_BAD_VALSIZE: .badValueSize
      case MDB_BAD_DBI: .badTable
      case 1...: .system(code)
      default: .other(code)
      }
  }

  package var description: String {
    switch self {
    case .keyExists: "the key exists already, or is not greater than the last one"
    case .notFound: "there is no such table"
    case .pageNotFound: "a page is missing: the file is damaged"
    case .corrupted: "the file is damaged"
    case .panic: "an earlier write of a meta page failed; close the environment and open it again"
    case .versionMismatch: "the file has the format of another LMDB version"
    case .invalid: "the file is not an LMDB file"
    case .mapFull: "the map is full; open the environment with a larger map"
    case .tablesFull: "more tables are open than the options allow"
    case .readersFull: "all reader slots are taken"
    case .transactionFull: "the transaction changed too many pages; split it"
    case .cursorFull: "the tree is too deep: the file is damaged"
    case .pageFull: "a page has no room for what should fit"
    case .mapResized: "another process made the file larger than the map; open it again with a larger map"
    case .incompatible: "the table has properties that are not supported"
    case .badReaderSlot: "the reader's slot was taken by another"
    case .badTransaction: "the transaction failed before and can only be aborted"
    case .badValueSize:
      "a key must have 1 to \(LMDBLimits.maximumKeyBytes) bytes, a value at most \(LMDBLimits.maximumValueBytes)"
    case .badTable: "the table is not open in this transaction; open tables before transactions begin"
    case .alreadyOpen: "the file is open in this process already"
    case .busy: "others are at work on it; without a lock, a writer and readers exclude each other"
    case .system(let number): unsafe "\(String(cString: strerror(number))) (errno \(number))"
    case .other(let code): unsafe "\(String(cString: mdb_strerror(code))) (\(code))"
    }
  }
}
