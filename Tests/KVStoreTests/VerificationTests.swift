// Verification finds an index that is whole by all of its checksums and yet not what the log adds up to.

import Foundation
import KVLog
import LMDB
import TestSupport
import Testing

@testable import KVStore

@Suite struct VerificationTests {
  /// What somebody with the right checksums may do to an index.
  enum Forgery: CaseIterable {
    case removedRow, removedRowUncounted, olderRow, otherValue, madeUpRow, deletedRowIsBack, liveRowIsDeleted
    case laterVersion, moreKeys, otherEntryOfState
  }

  /// Sixty keys, of which the first thirty were written twice and the last ten deleted; all folded.
  private func makeStore(_ path: String) throws -> Identity {
    var options = Store.Options()
    options.logRetention = .all
    let store = try Store.openBlocking(at: path, options: options)
    for index in 0..<60 { try store.putBlocking("first value of \(index)", for: "k\(index)") }
    for index in 0..<30 { try store.putBlocking("second value of \(index)", for: "k\(index)") }
    for index in 50..<60 { try store.deleteBlocking("k\(index)") }
    try store.closeBlocking()
    return store.identity
  }

  @Test("An index with whole rows that are not those of the log is damaged, and so are its counters")
  func comparesIndexAndLog() throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    let identity = try makeStore(path)
    #expect(try Store.verify(at: path).keys == 50)
    for forgery in Forgery.allCases {
      let copy = scratch.path("\(forgery)")
      try FileManager.default.copyItem(atPath: path, toPath: copy)
      try forge(forgery, StoreDirectory(path: copy).index, identity)
      do {
        _ = try Store.verify(at: copy)
        Issue.record("\(forgery) is not found")
      } catch let error as StoreError {
        #expect(error.code == .corrupt, "\(forgery): \(error)")
        #expect(error.message.contains(expected(forgery)), "\(forgery): \(error)")
        #expect(error.path.hasPrefix(copy), "\(forgery): \(error.path)")
      }
      // Each page and each row of it is whole: no read finds anything, and nothing but the log knows better.
      let index = try Index(path: StoreDirectory(path: copy).index, readOnly: true, identity: identity)
      _ = try index.environment.verify()
    }
  }

  /// What the message says, so that damage of one kind is not taken for another.
  private func expected(_ forgery: Forgery) -> String {
    switch forgery {
    case .removedRow: "key \"k40\", written at version 41, is missing"
    case .removedRowUncounted: "49 keys have a value, but 50 are counted"
    case .olderRow: "key \"k7\" has version 8, and the log has a newer change at 68"
    case .otherValue: "key \"k40\" has another value than the log at version 41"
    case .madeUpRow: "rows name a version of the log"
    case .deletedRowIsBack: "key \"k55\" has version 56, and the log has a newer change at 96"
    case .liveRowIsDeleted: "key \"k40\" has another value than the log at version 41"
    case .laterVersion: "the row of key \"k40\" has version 101, and the log ends at 100"
    case .moreKeys: "50 keys have a value, but 51 are counted"
    case .otherEntryOfState: "lies in another's place"
    }
  }

  private func forge(_ forgery: Forgery, _ file: String, _ identity: Identity) throws {
    let index = try Index(path: file, readOnly: false, identity: identity)
    var writer = try index.environment.beginWrite()
    var keys = try index.liveKeys(in: writer)
    func row(_ version: Version, of key: String, isTombstone: Bool = false) throws -> Row {
      let key = [UInt8](key.utf8)
      var row = try #require(
        try index.source().reader.get(index.tables.rows, key: key.bytes) {
          try Row($0, key: key.bytes, home: index.tables.home)
        })
      row.version = version
      row.isTombstone = isTombstone
      return row
    }
    func put(_ row: Row, _ value: String, for key: String, in writer: inout LMDBWriter) throws {
      let (key, value) = ([UInt8](key.utf8), [UInt8](value.utf8))
      let count = row.byteCount(valueBytes: value.count, home: index.tables.home)
      try writer.put(index.tables.rows, key: key.bytes, reservingBytes: count) {
        row.write(value: value.bytes, key: key.bytes, home: index.tables.home, into: &$0)
      }
    }
    switch forgery {
    case .removedRow, .removedRowUncounted:
      let key = [UInt8]("k40".utf8)
      try writer.delete(index.tables.rows, key: key.bytes)
      if forgery == .removedRow { keys -= 1 }
    case .olderRow: try put(row(8, of: "k7"), "first value of 7", for: "k7", in: &writer)
    case .otherValue: try put(row(41, of: "k40"), "second value of 40", for: "k40", in: &writer)
    case .madeUpRow:
      try put(row(41, of: "k40"), "first value of 40", for: "made up", in: &writer)
      keys += 1
    case .deletedRowIsBack:
      try put(row(56, of: "k55"), "first value of 55", for: "k55", in: &writer)
      keys += 1
    case .liveRowIsDeleted:
      try put(row(41, of: "k40", isTombstone: true), "", for: "k40", in: &writer)
      keys -= 1
    case .laterVersion: try put(row(101, of: "k40"), "first value of 40", for: "k40", in: &writer)
    case .moreKeys: keys += 1
    case .otherEntryOfState:
      let progress = ReplicaProgress(
        replica: Identity(high: 1, low: 2), lastApplied: 5, digest: .zero,
        unconfirmed: [])
      let (key, bytes) = (Tables.progress(of: Identity(high: 9, low: 9)), progress.encoded)
      try writer.putSealed(index.tables.state, key: key.bytes, bytes.bytes)
    }
    try index.put(liveKeys: keys, in: &writer)
    try writer.commit()
  }
}
