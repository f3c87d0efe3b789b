// Waiting until hub and store have what the other had.

import KVHub
import KVLog
import KVProtocol
import KVStore
import Synchronization
import TestSupport
import Testing

@testable import KVReplicator

@Suite struct CaughtUpTests {
  @Test("When it returns, what was written here before is on the hub, and what others had brought there is here")
  func bothWays() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let (a, b) = (try await bench.store("a"), try await bench.store("b"))
    let replicators = try [a, b].map { Replicator($0, hub: try hub.address(), configuration: .small) }
    let running = replicators.map { replicator in Task { try await replicator.run() } }
    let names = ["a", "b"]
    for round in 0..<40 {
      let (here, there) = (round % 2, 1 - round % 2)
      let stores = [a, b]
      // The same key at both in some rounds: stale commits and conflicts are part of "written here".
      try await stores[here].put("\(names[here]) \(round)", for: "mine/\(names[here])")
      if round % 5 == 0 { try await stores[there].put("\(names[there]) \(round)", for: "mine/\(names[here])") }
      try await replicators[here].caughtUp()
      try await replicators[there].caughtUp()
      try await replicators[here].caughtUp()
      #expect(try contents(a) == contents(b), "round \(round)")
    }
    for task in running { task.cancel() }
    for task in running { try await task.value }
    await hub.shutdown()
  }

  @Test("Thousands of callers cost a message for each round trip, and each is served; one that is cancelled is not")
  func thousands() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let proxy = try await SwallowingProxy.start(to: hub)
    let store = try await bench.store("a")
    let replicator = Replicator(
      store, hub: HubAddress(host: "127.0.0.1", port: proxy.port, space: "space"), configuration: .small)
    let early = (0..<2_000).map { _ in Task { try await replicator.caughtUp() } }
    let cancelled = Task { try await replicator.caughtUp() }
    cancelled.cancel()
    await #expect(throws: CancellationError.self) { try await cancelled.value }
    let running = Task { try await replicator.run() }
    for task in early { try await task.value }
    let before = proxy.bytesToHub
    for task in (0..<2_000).map({ _ in Task { try await replicator.caughtUp() } }) { try await task.value }
    // 20 bytes a question; 2,000 of them would be 40,000.
    #expect(proxy.bytesToHub - before < 10_000)
    running.cancel()
    try await running.value
    try await proxy.close()
    await hub.shutdown()
  }

  @Test("It outlives a link that breaks, and ends with the store, or with what ends the replicator for good")
  func ends() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let proxy = try await SwallowingProxy.start(to: hub)
    let store = try await bench.store("a")
    let address = HubAddress(host: "127.0.0.1", port: proxy.port, space: "space")
    let replicator = Replicator(store, hub: address, configuration: .small)
    let running = Task { try await replicator.run() }
    try await replicator.caughtUp()
    proxy.swallow(true)
    let waiting = Task { try await replicator.caughtUp() }
    try await Task.sleep(for: .milliseconds(30))
    proxy.swallow(false)
    proxy.cut()
    try await waiting.value
    running.cancel()
    try await running.value
    let left = Task { try await replicator.caughtUp() }
    try await store.put("v", for: "k")
    let unsent = Task { try await replicator.caughtUp() }
    try await Task.sleep(for: .milliseconds(10))
    try await store.close()
    let error = await #expect(throws: StoreError.self) { try await unsent.value }
    #expect(error?.code == .closed)
    // It is asked by nobody any more.
    await #expect(throws: StoreError.self) { try await replicator.run() }
    left.cancel()
    _ = await left.result
    let other = Replicator(
      try await bench.store("b"), hub: HubAddress(host: "127.0.0.1", port: proxy.port, space: "not a name!"))
    let refused = Task { try await other.caughtUp() }
    try await Task.sleep(for: .milliseconds(10))
    await #expect(throws: ReplicatorError.self) { try await other.run() }
    let reason = await #expect(throws: ReplicatorError.self) { try await refused.value }
    #expect(reason?.code == .invalidSpace)
    try await proxy.close()
    await hub.shutdown()
  }
}
