// LMDB through its C interface, one table, no log.

import BenchmarkSupport
import CLMDBPeer
import Foundation

@safe final class PlainLMDB: Engine, @unchecked Sendable {
  // Sound to send: `reader` belongs to the one thread that reads.
  private let environment: OpaquePointer
  private let table: MDB_dbi
  private var reader: OpaquePointer?
  private let syncsNothing: Bool

  init(path: String, durability: Durability) throws {
    var created: OpaquePointer?
    unsafe try check(mdb_env_create(&created))
    guard let environment = unsafe created else { throw BenchmarkError("LMDB gave no environment") }
    unsafe self.environment = unsafe environment
    syncsNothing = durability != .durable
    unsafe try check(mdb_env_set_mapsize(environment, 64 << 30))
    let flags = UInt32(MDB_NOSUBDIR) | (syncsNothing ? UInt32(MDB_NOSYNC) : 0)
    unsafe try check(mdb_env_open(environment, path, flags, 0o640))
    var transaction: OpaquePointer?
    unsafe try check(mdb_txn_begin(environment, nil, 0, &transaction))
    var table: MDB_dbi = 0
    unsafe try check(mdb_dbi_open(transaction, nil, 0, &table))
    unsafe try check(mdb_txn_commit(transaction))
    self.table = table
  }

  func commit(_ indices: Range<Int>, of workload: Workload, with change: inout Change) throws {
    var transaction: OpaquePointer?
    unsafe try check(mdb_txn_begin(environment, nil, 0, &transaction))
    for index in indices {
      workload.fill(&change, index)
      let code = unsafe change.key.withUnsafeMutableBytes { key in
        unsafe change.value.withUnsafeMutableBytes { value in
          var keyItem = unsafe MDB_val(mv_size: key.count, mv_data: key.baseAddress)
          var valueItem = unsafe MDB_val(mv_size: value.count, mv_data: value.baseAddress)
          return unsafe mdb_put(transaction, table, &keyItem, &valueItem, 0)
        }
      }
      if code != 0 { unsafe mdb_txn_abort(transaction) }
      try check(code)
    }
    unsafe try check(mdb_txn_commit(transaction))
  }

  /// It has no log of commits, so they are as large as they like.
  func load(_ count: Int, perCommit: Int, of workload: Workload) throws {
    var change = Change()
    for start in stride(from: 0, to: count, by: 10_000) {
      try commit(start..<min(start + 10_000, count), of: workload, with: &change)
    }
  }

  func settle() throws {
    if syncsNothing { unsafe try check(mdb_env_sync(environment, 1)) }
  }

  /// One reader for all, as a caller in a hurry would write it: renewed for each look-up, so that each sees the present.
  func get(_ key: [UInt8]) throws -> UInt64? {
    if unsafe reader == nil {
      unsafe try check(mdb_txn_begin(environment, nil, UInt32(MDB_RDONLY), &reader))
    } else {
      unsafe try check(mdb_txn_renew(reader))
    }
    defer { unsafe mdb_txn_reset(reader) }
    return unsafe try key.withUnsafeBytes { key in
      var keyItem = unsafe MDB_val(mv_size: key.count, mv_data: UnsafeMutableRawPointer(mutating: key.baseAddress))
      var valueItem = unsafe MDB_val()
      let code = unsafe mdb_get(reader, table, &keyItem, &valueItem)
      if code == MDB_NOTFOUND { return nil }
      try check(code)
      return unsafe PlainLMDB.bytes(valueItem).bytes.sum
    }
  }

  func scan() throws -> Tally {
    var transaction: OpaquePointer?
    unsafe try check(mdb_txn_begin(environment, nil, UInt32(MDB_RDONLY), &transaction))
    defer { unsafe mdb_txn_abort(transaction) }
    var cursor: OpaquePointer?
    unsafe try check(mdb_cursor_open(transaction, table, &cursor))
    defer { unsafe mdb_cursor_close(cursor) }
    var key = unsafe MDB_val()
    var value = unsafe MDB_val()
    var tally = Tally()
    while unsafe mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0 {
      unsafe tally.add(key: PlainLMDB.bytes(key).bytes, value: PlainLMDB.bytes(value).bytes)
    }
    return tally
  }

  func readLog() throws -> Tally { throw BenchmarkError("plain LMDB keeps no log") }

  func close() throws {
    if unsafe reader != nil { unsafe mdb_txn_abort(reader) }
    unsafe mdb_env_close(environment)
  }

  private static func bytes(_ item: MDB_val) -> UnsafeRawBufferPointer {
    unsafe UnsafeRawBufferPointer(start: item.mv_data, count: item.mv_size)
  }

  static var version: String { "\(MDB_VERSION_MAJOR).\(MDB_VERSION_MINOR).\(MDB_VERSION_PATCH)" }
}

private func check(_ code: Int32) throws {
  guard code == 0 else { throw BenchmarkError("LMDB: \(unsafe String(cString: mdb_strerror(code)))") }
}
