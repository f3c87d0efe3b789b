// Snapshots: what they show, how long, and what they hold back.

import Foundation
import KVLog
import KVStore
import TestSupport
import Testing

@Suite struct ReadingTests {
  @Test("A read that begins after a write returned sees it, whatever was read just before, on every thread")
  func readsAreCurrent() async throws {
    let scratch = try Scratch()
    let store = try await Store.open(at: scratch.path("store"))
    await withThrowingTaskGroup { group in
      for task in 0..<4 {
        group.addTask {
          for round in 0..<150 {
            #expect(try text(store.value(for: "k\(task)")) == (round == 0 ? nil : "\(round - 1)"))
            // Large enough to go through several generations of the tail, and folds, meanwhile.
            try await store.write { transaction in
              try transaction.put("\(round)", for: "k\(task)")
              try transaction.put([UInt8](repeating: 1, count: 5_000), for: "filler\(task)/\(round)")
            }
            #expect(try text(store.value(for: "k\(task)")) == "\(round)")
          }
        }
      }
    }
    try await store.close()
  }

  @Test("A scan that outlives its read goes on in the state of then, beside reads that see the present")
  func scanOutlivesRead() async throws {
    let scratch = try Scratch()
    let store = try await Store.open(at: scratch.path("store"))
    for index in 0..<100 { try await store.put("old", for: "k\(index)") }
    var scans = try (0..<3).map { _ in try store.read { try $0.scan() } }
    for index in 0..<100 { try await store.put("new", for: "k\(index)") }
    for index in scans.indices {
      #expect(Set(try contents(store).values.map { text($0) }) == ["new"])
      var values: Set<String> = []
      while let row = scans[index].next() { values.insert(row.valueText) }
      #expect(values == ["old"])
    }
    scans = []
    try await store.close()
    try await Store.open(at: scratch.path("store")).close()
  }

  @Test("A snapshot is never used by two reads at once, and one that a write overtook by none after it")
  func snapshotsAreNotShared() throws {
    let scratch = try Scratch()
    let store = try Store.openBlocking(at: scratch.path("store"))
    let kept = try store.read { $0 }
    try store.read { outer in
      #expect(outer !== kept)
      try store.read { #expect($0 !== outer && $0 !== kept) }
      try store.putBlocking("v", for: "k")
      #expect(try outer.value(for: "k") == nil)
    }
    #expect(text(try store.value(for: "k")) == "v")
    #expect(try kept.value(for: "k") == nil)
    try store.closeBlocking()
  }

  @Test("Reads that ended hold nothing back: the index grows no further with them than without")
  func readsHoldNothingBack() async throws {
    func indexBytes(reading: Bool) async throws -> Int {
      let scratch = try Scratch()
      let store = try await Store.open(at: scratch.path("store"))
      for round in 0..<60 {
        for part in 0..<4 {
          try await store.write { transaction in
            for key in 0..<150 {
              try transaction.put([UInt8](repeating: UInt8(round), count: 700), for: "key \(part * 150 + key)")
            }
          }
          if reading { _ = try store.value(for: "key 1") }
        }
      }
      try await store.close()
      let size = try FileManager.default.attributesOfItem(atPath: scratch.path("store/index.mdb"))[.size]
      return try #require(size as? Int)
    }
    let quiet = try await indexBytes(reading: false)
    let busy = try await indexBytes(reading: true)
    #expect(busy < quiet * 3 / 2, "\(busy) bytes with reads, \(quiet) without")
  }
}
