// Who is measured.

import BenchmarkSupport
import Foundation

enum Contender: String, CaseIterable, Codable, CodingKeyRepresentable, Sendable, ReportedContender {
  case kvsync
  /// Where a row asks for concurrent writers: one of them, and as many tasks in place of threads.
  case kvsyncAlone = "kvsync-alone"
  case kvsyncTasks = "kvsync-tasks"
  /// Where a row reads the log: through the public, asynchronous sequence.
  case kvsyncChanges = "kvsync-changes"
  case lmdb
  case rocksDB = "rocksdb"
  /// RocksDB with recycled log files: a faster lone sync, and no log to be read.
  case rocksDBRecycling = "rocksdb-recycling"
  case sqlite
  /// No engine: what the disk or the memory would allow.
  case limit

  var name: String {
    switch self {
    case .kvsync: "kvsync"
    case .kvsyncAlone: "kvsync, one writer"
    case .kvsyncTasks: "kvsync, tasks"
    case .kvsyncChanges: "kvsync, changes(after:)"
    case .lmdb: "LMDB"
    case .rocksDB: "RocksDB"
    case .rocksDBRecycling: "RocksDB, log recycled"
    case .sqlite: "SQLite"
    case .limit: "physical limit"
    }
  }

  /// Whose columns the table has; the others are variants and stand in the column of their engine.
  static let columns: [Contender] = [.kvsync, .lmdb, .rocksDB, .sqlite, .limit]

  /// The contender in whose column this one stands, and whose data sets it reads.
  var column: Contender {
    switch self {
    case .kvsync, .kvsyncAlone, .kvsyncTasks, .kvsyncChanges: .kvsync
    case .rocksDB, .rocksDBRecycling: .rocksDB
    case .lmdb, .sqlite, .limit: self
    }
  }

  /// Which versions are measured, and how they are set up.
  static var peers: [String: String] {
    [
      "LMDB": "\(PlainLMDB.version), C interface, default durability, no log; relaxed: MDB_NOSYNC",
      "RocksDB": "\(RocksDB.version), C interface, \(RocksDBOptions.summary)",
      "SQLite":
        "\(SQLite.version), C interface, WAL, synchronous FULL (relaxed: NORMAL), triggers that keep a log, one connection "
        + "that writes",
    ]
  }

  /// Opens its database at `path`, or creates it.
  func open(_ path: String, _ durability: Durability) throws -> any Engine {
    switch self {
    case .kvsync, .kvsyncAlone, .kvsyncTasks, .kvsyncChanges: try Kvsync(path: path, durability: durability)
    case .lmdb: try PlainLMDB(path: path, durability: durability)
    case .rocksDB: try RocksDB(path: path, durability: durability)
    case .rocksDBRecycling: try RocksDB(path: path, durability: durability, recyclesLog: true)
    case .sqlite: try SQLite(path: path, durability: durability)
    case .limit: throw BenchmarkError("the physical limit is no database")
    }
  }
}
