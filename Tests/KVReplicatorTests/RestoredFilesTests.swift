// Files between stores and hubs of which one has been put back: what was written before that decides nothing after it.

import Foundation
import KVHub
import KVHubEmbedded
import KVLog
import KVReplicator
import KVStore
import TestSupport
import Testing

@Suite struct RestoredFilesTests {
  let bench: Workbench

  init() throws { bench = try Workbench() }

  @Test(
    "A store that was put back to before it heard of a refusal which it had confirmed does not take the commit for taken"
  )
  func putBack() async throws {
    let hub = try EmbeddedHubStorage(directory: bench.file("hub"))
    var options = Hub.Options()
    options.limits.valueBytes = 4
    let path = "\(bench.path)/a"
    var store = try await Store.open(at: path)
    // What is there comes with this, so that nothing but the decisions is news later.
    try await bench.carry(store, hub, "start")
    try await store.put("too long", for: "b")
    try await FileExchange(store).export(to: bench.file("first"))
    #expect(try await hub.importChanges(from: bench.file("first"), into: "space", options: options).refused == 1)
    _ = try await hub.exportAnswer(to: bench.file("first.back"), for: bench.file("first"), of: "space")
    try await store.put("fine", for: "a")
    try await store.close()
    try FileManager.default.copyItem(atPath: path, toPath: bench.file("saved"))
    store = try await Store.open(at: path)
    #expect(try await FileExchange(store).importAnswer(from: bench.file("first.back")).parked == 1)
    try await bench.carry(store, hub, "second")
    try await store.close()
    // It has the same log, and has not heard of the refusal that the hub has forgotten.
    let putBack = try await Store.open(at: bench.file("saved"))
    let refused = await #expect(throws: StoreError.self) {
      try await FileExchange(putBack).importAnswer(from: bench.file("second.back"))
    }
    #expect(refused?.message.contains("restored to an older state") == true)
    #expect(putBack.counters().pendingChanges == 2)
    try await putBack.close()
    try await hub.close()
  }

  @Test(
    "A file that the hub wrote before it was restored is refused by who has pulled since, and nothing old comes back")
  func formerEpoch() async throws {
    let path = bench.file("hub")
    func session(_ stores: Store...) async throws {
      let hub = try await bench.hub(.embedded)
      for store in stores { _ = try await Replicator(store, hub: try hub.address()).syncOnce() }
      await hub.shutdown()
    }
    let (a, b, c) = (try await bench.store("a"), try await bench.store("b"), try await bench.store("c"))
    let gone = try await bench.store("gone")
    try await b.put("first", for: "b")
    try await session(b, a, c)
    try FileManager.default.copyItem(atPath: path, toPath: bench.file("saved"))
    for number in 0..<20 { try await gone.put("\(number)", for: "other") }
    try await gone.put("old", for: "k")
    try await session(gone, b)
    try await a.put("mine", for: "a")
    try await FileExchange(a).export(to: bench.file("out"))
    var hub = try EmbeddedHubStorage(directory: path)
    _ = try await hub.importChanges(from: bench.file("out"), into: "space")
    _ = try await hub.exportAnswer(to: bench.file("back"), for: bench.file("out"), of: "space")
    try await hub.close()
    // The hub is put back, and somebody writes who never saw what it had. Then one comes who did.
    try FileManager.default.removeItem(atPath: path)
    try FileManager.default.moveItem(atPath: bench.file("saved"), toPath: path)
    try await c.put("new", for: "k")
    try await session(c, b, a)
    #expect(try a.value(for: "k").map { String(decoding: $0, as: UTF8.self) } == "new")
    let refused = await #expect(throws: StoreError.self) {
      try await FileExchange(a).importAnswer(from: bench.file("back"))
    }
    #expect(refused?.code == .replication && refused?.message.contains("was restored between") == true)
    try await session(a, b, c, a)
    hub = try EmbeddedHubStorage(directory: path)
    for store in [a, b, c] {
      #expect(try store.value(for: "k").map { String(decoding: $0, as: UTF8.self) } == "new")
      #expect(try contents(store) == contents(a))
    }
    try await hub.close()
  }

  @Test("What a restored hub lacks is brought back over a connection: until then nothing is exported or imported")
  func notRestored() async throws {
    let hub = try EmbeddedHubStorage(directory: bench.file("hub"))
    let store = try await bench.store("a")
    try await store.put("v", for: "k")
    try await bench.carry(store, hub, "first")
    try await FileExchange(store).export(to: bench.file("second"))
    _ = try await hub.exportAnswer(to: bench.file("second.back"), for: bench.file("second"), of: "space")
    let state = store.replicaState()
    _ = try await store.rollBack(
      to: .start(of: .random()), in: state.hubSpace, shipped: 0, digest: .origin(of: store.identity), head: 1)
    for attempt in 0..<2 {
      let refused = await #expect(throws: StoreError.self) {
        if attempt == 0 {
          try await FileExchange(store).export(to: bench.file("third"))
        } else {
          _ = try await FileExchange(store).importAnswer(from: bench.file("second.back"))
        }
      }
      #expect(refused?.code == .replication && refused?.message.contains("bring back") == true, "\(refused as Any)")
    }
    #expect(!FileManager.default.fileExists(atPath: bench.file("third")))
    try await hub.close()
  }
}
