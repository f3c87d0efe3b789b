// A store has one session at a time, whoever asks for it.

import KVHub
import KVLog
import KVStore
import TestSupport
import Testing

@testable import KVReplicator

@Suite struct OneSessionTests {
  @Test("While a store is synchronised a second call is refused, comparing is not, and afterwards it is free again")
  func second() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let address = try hub.address()
    let store = try await bench.store("a")
    try await store.put("v", for: "k")
    let live = Task { try await Replicator(store, hub: address).run() }
    try await eventually { store.counters().pendingChanges == 0 }
    for direction in [Replicator.Direction.both, .push, .pull] {
      let error = await #expect(throws: StoreError.self) {
        try await Replicator(store, hub: address).syncOnce(direction)
      }
      #expect(error?.code == .inUse)
    }
    await #expect(throws: StoreError.self) { try await Replicator(store, hub: address).run() }
    _ = try await Replicator(store, hub: address).compare()
    live.cancel()
    try await live.value
    _ = try await Replicator(store, hub: address).syncOnce()
    // Nor does a call that failed keep the store.
    await hub.shutdown()
    for _ in 0..<2 {
      await #expect(throws: ReplicatorError.self) { try await Replicator(store, hub: address).syncOnce() }
    }
  }

  @Test(
    "However many synchronise a store at once, each change counts as decided once", arguments: SeededGenerator.seeds(3))
  func counts(seed: UInt64) async throws {
    var random = SeededGenerator(seed: seed)
    let bench = try Workbench()
    let hub = try await bench.hub(.embedded)
    let address = try hub.address()
    let store = try await bench.store("a")
    for round in 0..<8 {
      for number in 0..<50 { try await store.put("value", for: "\(round)/\(number)") }
      await withTaskGroup { group in
        for direction in [Replicator.Direction.push, .both] {
          var configuration = Replicator.Configuration.small
          configuration.segmentBytes = 256 << random.below(5)
          let replicator = Replicator(store, hub: address, configuration: configuration)
          group.addTask { _ = try? await replicator.syncOnce(direction) }
        }
      }
      let state = store.replicaState()
      let counted = try store.localChanges(after: state.acknowledgedVersion, through: state.local.version).changes
      #expect(store.counters().pendingChanges == counted, "seed \(seed), round \(round)")
    }
    #expect(try await Replicator(store, hub: address).syncOnce().pendingChanges == 0, "seed \(seed)")
    await hub.shutdown()
  }
}
