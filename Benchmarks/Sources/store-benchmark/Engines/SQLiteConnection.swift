// A connection to an SQLite database, and its prepared statements.

import BenchmarkSupport
import CSQLite

@safe final class SQLiteConnection {
  private var handle: OpaquePointer?
  private var statements: [String: SQLiteStatement] = [:]

  init(path: String, synchronous: String) throws {
    guard unsafe sqlite3_open(path, &handle) == SQLITE_OK else { throw failure() }
    unsafe sqlite3_busy_timeout(handle, 10_000)
    // The cache that 64 MB leave room for; reads of the database file go through the page cache without a copy.
    try execute(
      """
      PRAGMA journal_mode = WAL; PRAGMA synchronous = \(synchronous); PRAGMA cache_size = -16384;
      PRAGMA mmap_size = 68719476736; PRAGMA wal_autocheckpoint = 4000;
      """)
  }

  func execute(_ sql: String) throws {
    guard unsafe sqlite3_exec(handle, sql, nil, nil, nil) == SQLITE_OK else { throw failure() }
  }

  /// Prepared once.
  func statement(_ sql: String) throws -> SQLiteStatement {
    if let known = statements[sql] { return known }
    var prepared: OpaquePointer?
    guard unsafe sqlite3_prepare_v2(handle, sql, -1, &prepared, nil) == SQLITE_OK, let prepared = unsafe prepared else {
      throw failure()
    }
    let statement = unsafe SQLiteStatement(prepared, failure: { [unowned self] in failure() })
    statements[sql] = statement
    return statement
  }

  func close() {
    statements = [:]
    unsafe sqlite3_close(handle)
  }

  private func failure() -> BenchmarkError {
    BenchmarkError("SQLite: \(unsafe String(cString: sqlite3_errmsg(handle)))")
  }
}

@safe final class SQLiteStatement {
  private let handle: OpaquePointer
  private let failure: () -> BenchmarkError

  init(_ handle: OpaquePointer, failure: @escaping () -> BenchmarkError) {
    unsafe self.handle = unsafe handle
    self.failure = failure
  }

  deinit { unsafe sqlite3_finalize(handle) }

  /// Runs it to its end.
  func run(_ first: [UInt8], _ second: [UInt8]) throws {
    unsafe try first.withUnsafeBytes { first in
      unsafe try second.withUnsafeBytes { second in
        // The bytes outlive the step, so SQLite need not copy them.
        unsafe sqlite3_bind_blob(handle, 1, first.baseAddress, Int32(first.count), nil)
        unsafe sqlite3_bind_blob(handle, 2, second.baseAddress, Int32(second.count), nil)
        defer { unsafe sqlite3_reset(handle) }
        guard unsafe sqlite3_step(handle) == SQLITE_DONE else { throw failure() }
      }
    }
  }

  func rows(_ key: [UInt8], _ body: (SQLiteRow) -> Void) throws {
    unsafe try key.withUnsafeBytes { key in
      unsafe sqlite3_bind_blob(handle, 1, key.baseAddress, Int32(key.count), nil)
      try rows(body)
    }
  }

  func rows(_ body: (SQLiteRow) -> Void) throws {
    defer { unsafe sqlite3_reset(handle) }
    while true {
      switch unsafe sqlite3_step(handle) {
      case SQLITE_ROW: unsafe body(SQLiteRow(handle: handle))
      case SQLITE_DONE: return
      default: throw failure()
      }
    }
  }
}

/// The row that a statement stands on.
@safe struct SQLiteRow {
  fileprivate let handle: OpaquePointer

  fileprivate init(handle: OpaquePointer) { unsafe self.handle = unsafe handle }

  /// Valid until the statement's next step.
  func bytes(_ column: Int32) -> UnsafeRawBufferPointer {
    unsafe UnsafeRawBufferPointer(
      start: sqlite3_column_blob(handle, column), count: Int(sqlite3_column_bytes(handle, column)))
  }
}
