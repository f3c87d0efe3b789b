// SQLite in WAL mode, with triggers that keep a log, through its C interface.

import BenchmarkSupport
import CSQLite
import Foundation
import Synchronization

final class SQLite: Engine {
  /// SQLite has one writer at a time; threads queue for it, which is faster than having each retry on a connection of
  /// its own.
  private let writer: Mutex<SQLiteConnection>
  private let reader: Mutex<SQLiteConnection>

  private static let schema = """
    CREATE TABLE IF NOT EXISTS kv (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS log (version INTEGER PRIMARY KEY, key BLOB NOT NULL, value BLOB NOT NULL);
    CREATE TRIGGER IF NOT EXISTS log_insert AFTER INSERT ON kv
      BEGIN INSERT INTO log (key, value) VALUES (NEW.key, NEW.value); END;
    CREATE TRIGGER IF NOT EXISTS log_update AFTER UPDATE ON kv
      BEGIN INSERT INTO log (key, value) VALUES (NEW.key, NEW.value); END;
    """

  init(path: String, durability: Durability) throws {
    let synchronous =
      switch durability {
      case .durable: "FULL"
      case .relaxed: "NORMAL"
      case .preparing: "OFF"
      }
    let writer = try SQLiteConnection(path: path, synchronous: synchronous)
    try writer.execute(SQLite.schema)
    self.writer = Mutex(writer)
    reader = Mutex(try SQLiteConnection(path: path, synchronous: synchronous))
  }

  func commit(_ indices: Range<Int>, of workload: Workload, with change: inout Change) throws {
    try writer.withLock { writer in
      let put = try writer.statement(
        "INSERT INTO kv VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
      if indices.count > 1 { try writer.execute("BEGIN IMMEDIATE") }
      for index in indices {
        workload.fill(&change, index)
        try put.run(change.key, change.value)
      }
      if indices.count > 1 { try writer.execute("COMMIT") }
    }
  }

  /// Everything from the WAL into the database.
  func settle() throws {
    try writer.withLock { try $0.execute("PRAGMA wal_checkpoint(TRUNCATE)") }
  }

  func get(_ key: [UInt8]) throws -> UInt64? {
    try reader.withLock { reader in
      var sum: UInt64?
      try reader.statement("SELECT value FROM kv WHERE key = ?").rows(key) { row in unsafe sum = row.bytes(0).bytes.sum
      }
      return sum
    }
  }

  func scan() throws -> Tally { try walk("SELECT key, value FROM kv ORDER BY key") }

  func readLog() throws -> Tally { try walk("SELECT key, value FROM log ORDER BY version") }

  private func walk(_ query: String) throws -> Tally {
    try reader.withLock { reader in
      var tally = Tally()
      try reader.statement(query).rows { row in unsafe tally.add(key: row.bytes(0).bytes, value: row.bytes(1).bytes) }
      return tally
    }
  }

  func close() throws {
    reader.withLock { $0.close() }
    writer.withLock { $0.close() }
  }

  static var version: String { unsafe String(cString: sqlite3_libversion()) }
}
