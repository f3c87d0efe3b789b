// One pass with a budget: it ends at a durable cut, says what is left, and comes forward however little it may spend.

import KVHub
import KVLog
import KVProtocol
import KVStore
import NIOCore
import TestSupport
import Testing

@testable import KVReplicator

@Suite struct BudgetTests {
  /// A store with so many pending changes, at a hub that has as many of somebody else.
  private func divided(_ bench: Workbench, _ hub: Hub, _ count: Int) async throws -> Store {
    let (store, other) = (try await bench.store("a"), try await bench.store("b"))
    // What comes is fed commit by commit to who was there before it.
    _ = try await Replicator(store, hub: hub.address()).syncOnce()
    for number in 0..<count {
      try await store.put([UInt8](repeating: 1, count: 60), for: "a/\(number)", durability: .relaxed)
      try await other.put([UInt8](repeating: 2, count: 60), for: "b/\(number)", durability: .relaxed)
    }
    _ = try await Replicator(other, hub: hub.address()).syncOnce()
    return store
  }

  @Test(
    "Passes with a budget of bytes keep within it, say what is left, and in the end nothing is",
    arguments: [0, 1, 100, 1_500, 20_000])
  func bytes(budget: Int) async throws {
    let bench = try Workbench()
    let hub = try await bench.hub(.embedded)
    let count = budget < 1_000 ? 25 : 200
    let store = try await divided(bench, hub, count)
    let proxy = try await SwallowingProxy.start(to: hub)
    var configuration = Replicator.Configuration()
    configuration.segmentBytes = 500
    let replicator = Replicator(
      store, hub: HubAddress(host: "127.0.0.1", port: proxy.port, space: "space"), configuration: configuration)
    var passes = 0
    var left = (changes: count, versions: UInt64(count))
    while left.changes > 0 || left.versions > 0, passes < 4 * count {
      let before = (proxy.bytesToHub, proxy.bytesToReplica)
      let report = try await replicator.syncOnce(budget: .init(bytes: budget))
      passes += 1
      let counters = store.counters()
      #expect(report.pendingChanges == counters.pendingChanges && report.pendingBytes == counters.pendingBytes)
      #expect(report.remainingServerVersions + counters.serverVersion >= UInt64(count))
      #expect(report.isCutShort == (report.pendingChanges > 0 || report.remainingServerVersions > 0))
      // Each direction came forward.
      if left.changes > 0 { #expect(report.pendingChanges < left.changes, "pass \(passes)") }
      if left.versions > 0, report.pushedChanges == 0 { #expect(report.remainingServerVersions < left.versions) }
      left = (report.pendingChanges, report.remainingServerVersions)
      // A message more in each direction, and handshake. Some 400 bytes of commits in a message have up to 130 around them, with
      // an acknowledgement and credit of their own.
      let spent = proxy.bytesToHub - before.0 + proxy.bytesToReplica - before.1
      #expect(spent < budget + 2 * 700 + 1_500 + spent / 3, "\(spent) of \(budget)")
    }
    #expect(left == (0, 0) && store.counters().serverVersion == UInt64(2 * count))
    if budget >= 1_500 { #expect(passes > 2) }
    #expect(try contents(store).count == 2 * count)
    try await store.close()
    _ = try Store.verify(at: "\(bench.path)/a")
    try await proxy.close()
    await hub.shutdown()
  }

  @Test("Time that is up ends the pass at a durable cut, and no time at all still is a commit each way")
  func duration() async throws {
    let bench = try Workbench()
    // A hub that takes a few kilobytes at a time: pushing everything needs some fifteen round trips.
    var options = Hub.Options()
    options.windowBytes = 4 << 10
    let hub = Hub(storage: InMemoryHubStorage(), options: options)
    try await hub.start()
    let store = try await divided(bench, hub, 400)
    let proxy = try await SwallowingProxy.start(to: hub)
    var configuration = Replicator.Configuration()
    configuration.segmentBytes = 400
    configuration.memoryBudgetBytes = 4 << 10
    let replicator = Replicator(
      store, hub: HubAddress(host: "127.0.0.1", port: proxy.port, space: "space"), configuration: configuration)
    let nothing = try await replicator.syncOnce(budget: .init(duration: .zero))
    #expect(nothing.isCutShort && nothing.pushedChanges > 0 && nothing.pulledChanges > 0)
    #expect(nothing.pendingChanges > 300 && nothing.remainingServerVersions > 300)
    proxy.delay(.milliseconds(10))
    let began = ContinuousClock.now
    let report = try await replicator.push(budget: .init(duration: .milliseconds(100)))
    let took = ContinuousClock.now - began
    #expect(report.isCutShort && report.pendingChanges > 0 && report.pendingChanges < nothing.pendingChanges)
    #expect(took >= .milliseconds(90) && took < .seconds(20), "\(took)")
    proxy.delay(nil)
    let rest = try await replicator.syncOnce(budget: .init(bytes: 1 << 30, duration: .seconds(60)))
    #expect(!rest.isCutShort && rest.pendingChanges == 0 && rest.remainingServerVersions == 0)
    try await proxy.close()
    await hub.shutdown()
  }

  @Test("Only pushing leaves what the hub has, only pulling leaves what is pending")
  func directions() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let store = try await divided(bench, hub, 20)
    let replicator = Replicator(store, hub: try hub.address())
    let pulled = try await replicator.pull(budget: .init(bytes: 300))
    #expect(pulled.pushedChanges == 0 && pulled.pulledChanges > 0 && pulled.pulledChanges < 20 && pulled.isCutShort)
    let pushed = try await replicator.push()
    #expect(pushed.pushedChanges == 20 && pushed.pulledChanges == 0 && !pushed.isCutShort)
    #expect(try await replicator.pull().pulledChanges == 20 - pulled.pulledChanges)
    await hub.shutdown()
  }
}
