// A hub whose backups are announced: what replicas give up, and what a hub that is restored from such a backup gets back.

import Foundation
import KVHub
import KVHubEmbedded
import KVStore
import TestSupport
import Testing

@testable import KVReplicator

@Suite("a hub's backup, announced", .timeLimit(.minutes(5)))
struct BackedUpTests {
  private func open(_ bench: Workbench, _ name: String) async throws -> Store {
    var options = Store.Options()
    options.segmentBytes = 16 << 10
    options.logRetention = .untilBackedUp(atMost: 1 << 30)
    return try await Store.open(at: "\(bench.path)/\(name)", options: options)
  }

  private func write(_ range: Range<Int>, to store: Store) async throws {
    for number in range {
      try await store.put(
        [UInt8](repeating: UInt8(number & 255), count: 1_000), for: "k\(number)", durability: .relaxed)
    }
  }

  private func sync(_ store: Store, _ hub: Hub) async throws {
    _ = try await Replicator(store, hub: hub.address(), configuration: .small).syncOnce()
  }

  private func serve(_ bench: Workbench) async throws -> (Hub, EmbeddedHubStorage) {
    let storage = try EmbeddedHubStorage(directory: "\(bench.path)/hub")
    let hub = Hub(storage: storage)
    try await hub.start()
    return (hub, storage)
  }

  @Test("Nothing goes before the announcement, what is covered after it; a hub restored from that backup gets the rest")
  func announced() async throws {
    let bench = try Workbench()
    var (hub, storage) = try await serve(bench)
    var store = try await open(bench, "store")
    let other = try await open(bench, "other")
    try await write(0..<60, to: store)
    try await sync(store, hub)
    try await sync(other, hub)
    try await storage.backup(space: "space", to: "\(bench.path)/monday")
    let monday = store.counters().localVersion
    try await sync(store, hub)
    #expect(store.replicaState().contact.backedUp == 0)
    try await store.close()
    store = try await open(bench, "store")
    #expect(try store.information().firstLogVersion == 1)

    try await storage.backup(space: "space", to: "\(bench.path)/tuesday", announcing: true)
    try await write(60..<120, to: store)
    try await write(120..<130, to: other)
    try await Task.sleep(for: .seconds(1))
    // The welcome says so, and what is written meanwhile is not covered.
    try await sync(store, hub)
    try await sync(other, hub)
    let backedUp = store.replicaState().contact.backedUp
    #expect(backedUp >= 60 && backedUp == other.replicaState().contact.backedUp)
    try await store.close()
    store = try await open(bench, "store")
    let first = try store.information().firstLogVersion
    #expect(first > 30 && first <= monday + 1, "\(first)")

    let rows = try contents(store)
    await hub.shutdown()
    try FileManager.default.removeItem(atPath: "\(bench.path)/hub/spaces/space")
    try FileManager.default.moveItem(atPath: "\(bench.path)/tuesday", toPath: "\(bench.path)/hub/spaces/space")
    (hub, storage) = try await serve(bench)
    for _ in 0..<2 {
      try await sync(store, hub)
      try await sync(other, hub)
    }
    let fresh = try await bench.store("fresh")
    try await sync(fresh, hub)
    #expect(try contents(fresh).count == 130)
    #expect(try contents(store) == contents(fresh) && contents(other) == contents(fresh))
    #expect(try rows.allSatisfy { try contents(fresh)[$0.key] == $0.value })
    #expect(store.replicaState().contact.backedUp == 0, "the restored hub has announced nothing")
    for store in [store, other, fresh] { try await store.close() }
    await hub.shutdown()
  }

  @Test("A session that goes on hears of a backup with the next acknowledgement, and gives log up at once")
  func live() async throws {
    let bench = try Workbench()
    let (hub, storage) = try await serve(bench)
    var store = try await open(bench, "store")
    try await write(0..<60, to: store)
    try await sync(store, hub)
    try await store.close()
    store = try await open(bench, "store")
    let replicator = Replicator(store, hub: try hub.address(), configuration: .small)
    let running = Task { try await replicator.run() }
    try await replicator.caughtUp()
    #expect(try store.information().firstLogVersion == 1)
    try await storage.backup(space: "space", to: "\(bench.path)/backup", announcing: true)
    try await Task.sleep(for: .seconds(1))
    try await store.put("one more", for: "k")
    try await eventually { try store.information().firstLogVersion > 30 }
    running.cancel()
    try await running.value
    try await store.close()
    await hub.shutdown()
  }
}
