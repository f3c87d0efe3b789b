// RocksDB through its C interface, with the WAL on and kept, so that it is a log too.

import BenchmarkSupport
import CRocksDB
import Foundation

@safe final class RocksDB: Engine, @unchecked Sendable {
  // Sound to send: a RocksDB handle may be used from any thread.
  private let database: OpaquePointer
  private let options: RocksDBOptions
  private let writing = unsafe rocksdb_writeoptions_create()
  private let reading = unsafe rocksdb_readoptions_create()

  init(path: String, durability: Durability, recyclesLog: Bool = false) throws {
    options = RocksDBOptions(recyclesLog: recyclesLog)
    unsafe rocksdb_writeoptions_set_sync(writing, durability == .durable ? 1 : 0)
    let options = options
    unsafe database = unsafe try opened { unsafe rocksdb_open(options.options, path, &$0) }
  }

  func commit(_ indices: Range<Int>, of workload: Workload, with change: inout Change) throws {
    if indices.count == 1 {
      workload.fill(&change, indices.lowerBound)
      unsafe try withPointers(change) { key, keyBytes, value, valueBytes in
        unsafe try checked { unsafe rocksdb_put(database, writing, key, keyBytes, value, valueBytes, &$0) }
      }
      return
    }
    let batch = unsafe rocksdb_writebatch_create()
    defer { unsafe rocksdb_writebatch_destroy(batch) }
    for index in indices {
      workload.fill(&change, index)
      unsafe withPointers(change) { unsafe rocksdb_writebatch_put(batch, $0, $1, $2, $3) }
    }
    unsafe try checked { unsafe rocksdb_write(database, writing, batch, &$0) }
  }

  func settle() throws {
    let flush = unsafe rocksdb_flushoptions_create()
    defer { unsafe rocksdb_flushoptions_destroy(flush) }
    unsafe rocksdb_flushoptions_set_wait(flush, 1)
    unsafe try checked { unsafe rocksdb_flush(database, flush, &$0) }
  }

  /// Before it is read, what it would do in the background is let finish.
  func load(_ count: Int, perCommit: Int, of workload: Workload) throws {
    var change = Change()
    for start in stride(from: 0, to: count, by: perCommit) {
      try commit(start..<min(start + perCommit, count), of: workload, with: &change)
    }
    try settle()
    while property("rocksdb.compaction-pending") + property("rocksdb.num-running-compactions") > 0 { usleep(20_000) }
  }

  func get(_ key: [UInt8]) throws -> UInt64? {
    unsafe try key.withUnsafeBytes { key in
      let found = unsafe try checked {
        unsafe rocksdb_get_pinned(
          database, reading, key.baseAddress?.assumingMemoryBound(to: CChar.self), key.count, &$0)
      }
      guard let found = unsafe found else { return nil }
      defer { unsafe rocksdb_pinnableslice_destroy(found) }
      var count = 0
      let start = unsafe rocksdb_pinnableslice_value(found, &count)
      return unsafe UnsafeRawBufferPointer(start: start, count: count).bytes.sum
    }
  }

  func scan() throws -> Tally {
    let iterator = unsafe rocksdb_create_iterator(database, reading)
    defer { unsafe rocksdb_iter_destroy(iterator) }
    unsafe rocksdb_iter_seek_to_first(iterator)
    var tally = Tally()
    while unsafe rocksdb_iter_valid(iterator) != 0 {
      var keyBytes = 0
      var valueBytes = 0
      let key = unsafe rocksdb_iter_key(iterator, &keyBytes)
      let value = unsafe rocksdb_iter_value(iterator, &valueBytes)
      unsafe tally.add(
        key: UnsafeRawBufferPointer(start: key, count: keyBytes).bytes,
        value: UnsafeRawBufferPointer(start: value, count: valueBytes).bytes)
      unsafe rocksdb_iter_next(iterator)
    }
    unsafe try checked { unsafe rocksdb_iter_get_error(iterator, &$0) }
    return tally
  }

  /// `GetUpdatesSince`: the write batches of the WAL, each walked.
  func readLog() throws -> Tally {
    var tally = Tally()
    let updates = unsafe try opened { unsafe rocksdb_get_updates_since(database, 1, nil, &$0) }
    defer { unsafe rocksdb_wal_iter_destroy(updates) }
    while unsafe rocksdb_wal_iter_valid(updates) != 0 {
      var sequence: UInt64 = 0
      let batch = unsafe rocksdb_wal_iter_get_batch(updates, &sequence)
      defer { unsafe rocksdb_writebatch_destroy(batch) }
      unsafe withUnsafeMutablePointer(to: &tally) { tally in
        unsafe rocksdb_writebatch_iterate(
          batch, tally,
          { tally, key, keyBytes, value, valueBytes in
            unsafe tally?.assumingMemoryBound(to: Tally.self).pointee.add(
              key: UnsafeRawBufferPointer(start: key, count: keyBytes).bytes,
              value: UnsafeRawBufferPointer(start: value, count: valueBytes).bytes)
          }, { _, _, _ in })
      }
      unsafe rocksdb_wal_iter_next(updates)
    }
    unsafe try checked { unsafe rocksdb_wal_iter_status(updates, &$0) }
    return tally
  }

  func close() throws {
    unsafe rocksdb_close(database)
    unsafe rocksdb_writeoptions_destroy(writing)
    unsafe rocksdb_readoptions_destroy(reading)
  }

  /// Of the library that was loaded, by its file: the C interface does not tell.
  static var version: String {
    // Not `String(contentsOfFile:)`, which takes the first page of this for all of it.
    let maps = FileHandle(forReadingAtPath: "/proc/self/maps")?.readDataToEndOfFile() ?? Data()
    let line = String(decoding: maps, as: UTF8.self).split(separator: "\n").first { $0.contains("librocksdb") }
    let numbers = line?.split(separator: "/").last?.split(separator: ".").filter { Int($0) != nil } ?? []
    return numbers.isEmpty ? "of unknown version" : numbers.joined(separator: ".")
  }

  private func property(_ name: String) -> UInt64 {
    var value: UInt64 = 0
    return unsafe rocksdb_property_int(database, name, &value) == 0 ? value : 0
  }

  private func withPointers<Result>(
    _ change: Change, _ body: (UnsafePointer<CChar>?, Int, UnsafePointer<CChar>?, Int) throws -> Result
  ) rethrows -> Result {
    unsafe try change.key.withUnsafeBytes { key in
      unsafe try change.value.withUnsafeBytes { value in
        unsafe try body(
          key.baseAddress?.assumingMemoryBound(to: CChar.self), key.count,
          value.baseAddress?.assumingMemoryBound(to: CChar.self), value.count)
      }
    }
  }
}

/// Calls `body` with the place where RocksDB puts its error.
@discardableResult
private func checked<Result>(_ body: (inout UnsafeMutablePointer<CChar>?) -> Result) throws -> Result {
  var message: UnsafeMutablePointer<CChar>?
  let result = unsafe body(&message)
  if let message = unsafe message {
    defer { unsafe rocksdb_free(message) }
    throw BenchmarkError("RocksDB: \(unsafe String(cString: message))")
  }
  return result
}

/// As `checked`, of what must not be nil.
private func opened(_ body: (inout UnsafeMutablePointer<CChar>?) -> OpaquePointer?) throws -> OpaquePointer {
  guard let result = unsafe try checked(body) else { throw BenchmarkError("RocksDB gave nothing") }
  return unsafe result
}
