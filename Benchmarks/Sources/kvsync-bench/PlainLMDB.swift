// The peer: LMDB through its C interface, default durability, no log.

import CLMDBPeer
import Foundation

struct PeerError: Error, CustomStringConvertible {
  let description: String
}

@safe final class PlainLMDB {
  private var environment: OpaquePointer?
  private var table: MDB_dbi = 0

  init(path: String) throws {
    unsafe try check(mdb_env_create(&environment))
    unsafe try check(mdb_env_set_mapsize(environment, 64 << 30))
    unsafe try check(mdb_env_open(environment, path, UInt32(MDB_NOSUBDIR), 0o640))
    var transaction: OpaquePointer?
    unsafe try check(mdb_txn_begin(environment, nil, 0, &transaction))
    unsafe try check(mdb_dbi_open(transaction, nil, 0, &table))
    unsafe try check(mdb_txn_commit(transaction))
  }

  deinit { unsafe mdb_env_close(environment) }

  func put(count: Int, perCommit: Int, seed: UInt64) throws {
    var workload = Workload(seed: seed)
    var key = [UInt8](repeating: 0, count: Workload.keyBytes)
    var value = Workload.value
    var done = 0
    while done < count {
      var transaction: OpaquePointer?
      unsafe try check(mdb_txn_begin(environment, nil, 0, &transaction))
      for _ in 0..<min(perCommit, count - done) {
        workload.fill(&key)
        unsafe try key.withUnsafeMutableBytes { key in
          unsafe try value.withUnsafeMutableBytes { value in
            var keyItem = unsafe MDB_val(mv_size: key.count, mv_data: key.baseAddress)
            var valueItem = unsafe MDB_val(mv_size: value.count, mv_data: value.baseAddress)
            unsafe try check(mdb_put(transaction, table, &keyItem, &valueItem, 0))
          }
        }
        done += 1
      }
      unsafe try check(mdb_txn_commit(transaction))
    }
  }

  /// One reader for all, as a caller in a hurry would write it: renewed for each look-up.
  func get(keys: [[UInt8]]) throws -> Int {
    var transaction: OpaquePointer?
    unsafe try check(mdb_txn_begin(environment, nil, UInt32(MDB_RDONLY), &transaction))
    defer { unsafe mdb_txn_abort(transaction) }
    var bytes = 0
    for key in keys {
      unsafe mdb_txn_reset(transaction)
      unsafe try check(mdb_txn_renew(transaction))
      unsafe try key.withUnsafeBytes { key in
        var keyItem = unsafe MDB_val(mv_size: key.count, mv_data: UnsafeMutableRawPointer(mutating: key.baseAddress))
        var valueItem = unsafe MDB_val()
        unsafe try check(mdb_get(transaction, table, &keyItem, &valueItem))
        unsafe bytes += valueItem.mv_size
      }
    }
    return bytes
  }

  func scan() throws -> Int {
    var transaction: OpaquePointer?
    unsafe try check(mdb_txn_begin(environment, nil, UInt32(MDB_RDONLY), &transaction))
    defer { unsafe mdb_txn_abort(transaction) }
    var cursor: OpaquePointer?
    unsafe try check(mdb_cursor_open(transaction, table, &cursor))
    defer { unsafe mdb_cursor_close(cursor) }
    var key = unsafe MDB_val()
    var value = unsafe MDB_val()
    var bytes = 0
    while unsafe mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0 { unsafe bytes += value.mv_size }
    return bytes
  }

  private func check(_ code: Int32) throws {
    guard code == 0 else { throw PeerError(description: unsafe String(cString: mdb_strerror(code))) }
  }
}
