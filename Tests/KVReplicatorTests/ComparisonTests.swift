// Comparing a store with its hub.

import Foundation
import KVHub
import KVStore
import Testing

@testable import KVReplicator

@Suite struct ComparisonTests {
  @Test("Equal data at the same version is equal, over many pages")
  func equal() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub(.embedded)
    let (a, b) = (try await bench.store("a"), try await bench.store("b"))
    try await a.write { transaction in
      for number in 0..<20_000 { try transaction.put("value \(number)", for: "key/\(number)") }
    }
    try await a.delete("key/77")
    for store in [a, b] { _ = try await Replicator(store, hub: try hub.address()).syncOnce() }
    for store in [a, b] {
      let comparison = try await Replicator(store, hub: try hub.address()).compare()
      #expect(comparison.isEqual && comparison.keys == 19_999 && comparison.firstDifference == nil)
    }
    await hub.shutdown()
  }

  @Test("An empty store equals an empty space")
  func empty() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let store = try await bench.store("a")
    let replicator = Replicator(store, hub: try hub.address())
    _ = try await replicator.syncOnce()
    #expect(try await replicator.compare().isEqual)
    await hub.shutdown()
  }

  @Test("Comparing with a space that is not there says so, and makes none", arguments: Workbench.Storage.allCases)
  func absentSpace(_ storage: Workbench.Storage) async throws {
    let bench = try Workbench()
    let hub = try await bench.hub(storage)
    let replicator = Replicator(try await bench.store("a"), hub: try hub.address())
    for _ in 0..<2 {
      let error = await #expect(throws: ReplicatorError.self) { try await replicator.compare() }
      #expect(error?.code == .unknownSpace && error?.isTransient == false)
    }
    _ = try await replicator.syncOnce()
    #expect(try await replicator.compare().isEqual)
    await hub.shutdown()
  }

  @Test("A copy of a replica learns that synchronising is refused; the original, and a lost acknowledgement, do not")
  func obstacle() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let address = try hub.address()
    let original = try await bench.store("a")
    try await original.put("1", for: "key")
    _ = try await Replicator(original, hub: address).syncOnce()
    try await original.close()
    for copy in ["copy", "older"] {
      try FileManager.default.copyItem(atPath: "\(bench.path)/a", toPath: "\(bench.path)/\(copy)")
    }
    let again = try await bench.store("a")
    try await again.put("2", for: "key")
    let unsent = try await Replicator(again, hub: address).compare()
    #expect(!unsent.isEqual && unsent.obstacle == nil)
    // The same commit, as if its acknowledgement had been lost.
    try await again.close()
    try FileManager.default.copyItem(atPath: "\(bench.path)/a", toPath: "\(bench.path)/unaware")
    let sender = try await bench.store("a")
    _ = try await Replicator(sender, hub: address).syncOnce()
    #expect(try await Replicator(sender, hub: address).compare().obstacle == nil)
    #expect(try await Replicator(try await bench.store("unaware"), hub: address).compare().obstacle == nil)

    let copy = try await bench.store("copy")
    try await copy.put("other", for: "key")
    for name in ["copy", "older"] {
      let store = name == "copy" ? copy : try await bench.store(name)
      let comparison = try await Replicator(store, hub: address).compare()
      #expect(!comparison.isEqual && comparison.obstacle?.code == .replicaRestored, "\(name)")
    }
    await hub.shutdown()
  }

  @Test("The first key that differs is named, and how; a version behind is told apart")
  func differences() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let (a, b) = (try await bench.store("a"), try await bench.store("b"))
    let address = try hub.address()
    for key in ["b", "d", "f"] { try await a.put("1", for: key) }
    for store in [a, b] { _ = try await Replicator(store, hub: address).syncOnce() }
    func compare() async throws -> Comparison { try await Replicator(b, hub: address).compare() }
    #expect(try await compare().isEqual)

    try await b.put("new", for: "g")
    #expect(try await compare().firstDifference == .init(key: Array("g".utf8), kind: .missingOnHub))
    try await b.put("changed", for: "d")
    #expect(try await compare().firstDifference == .init(key: Array("d".utf8), kind: .value))
    try await b.delete("b")
    #expect(try await compare().firstDifference == .init(key: Array("b".utf8), kind: .missingHere))
    try await b.put("early", for: "a")
    let last = try await compare()
    #expect(last.firstDifference == .init(key: Array("a".utf8), kind: .missingOnHub))
    #expect(!last.isEqual && last.pendingChanges == 4)

    // The same rows again, not at the same version.
    for key in ["b", "d"] { try await b.put("1", for: key) }
    for key in ["a", "g"] { try await b.delete(key) }
    let behind = try await compare()
    #expect(behind.firstDifference == nil && !behind.isEqual)
    await hub.shutdown()
  }
}
