// Pushing without pulling, when the hub has newer changes of somebody else.

import KVHub
import KVStore
import Testing

@testable import KVReplicator

@Suite struct PushOnlyTests {
  /// Two stores that have written one key, the first of which has brought its change to the hub.
  private func divided(_ bench: Workbench, _ hub: Hub) async throws -> (a: Store, b: Store) {
    let (a, b) = (try await bench.store("a"), try await bench.store("b"))
    try await a.put("a", for: "key")
    _ = try await Replicator(a, hub: try hub.address()).syncOnce()
    try await b.put("b", for: "key")
    return (a, b)
  }

  @Test(
    "What met something newer waits for a pull and says so; all else is pushed", arguments: Workbench.Storage.allCases)
  func others(storage: Workbench.Storage) async throws {
    let bench = try Workbench()
    let hub = try await bench.hub(storage)
    let (a, b) = try await divided(bench, hub)
    // Some segments full of what has been written by both.
    var configuration = Replicator.Configuration()
    configuration.segmentBytes = 200
    for number in 0..<9 { for store in [a, b] { try await store.put("\(store.identity)", for: "both/\(number)") } }
    _ = try await Replicator(a, hub: try hub.address()).syncOnce()
    let replicator = Replicator(b, hub: try hub.address(), configuration: configuration)
    let first = try await replicator.syncOnce(.push)
    #expect(first.pendingChanges == 10 && first.awaitsPull)
    for round in 1...3 {
      for number in 0..<50 { try await b.put("x", for: "\(round)/\(number)") }
      let report = try await replicator.syncOnce(.push)
      #expect(report.pendingChanges == 10 && report.awaitsPull && report.reoffered >= 10)
      // With nothing new it is not offered in vain.
      let version = b.counters().localVersion
      let again = try await replicator.syncOnce(.push)
      #expect(again.pendingChanges == 10 && again.awaitsPull && again.reoffered == 0)
      #expect(b.counters().localVersion == version)
    }
    let both = try await replicator.syncOnce()
    #expect(both.conflicts == 10 && both.pendingChanges == 0 && !both.awaitsPull)
    _ = try await Replicator(a, hub: try hub.address()).syncOnce()
    #expect(try contents(a) == contents(b) && contents(a).count == 160)
    #expect(try a.value(for: "key") == Array("b".utf8))
    await hub.shutdown()
  }

  @Test("A live session that only pushes goes on with what is written after a stale commit, and comes to rest")
  func live() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let (_, b) = try await divided(bench, hub)
    let (caughtUp, continuation) = AsyncStream<SyncReport>.makeStream()
    var configuration = Replicator.Configuration.small
    configuration.caughtUp = { continuation.yield($0) }
    let replicator = Replicator(b, hub: try hub.address(), configuration: configuration)
    let live = Task { try await replicator.run(.push) }
    var reports = caughtUp.makeAsyncIterator()
    let report = await reports.next()
    #expect(report?.awaitsPull == true)
    for number in 0..<20 {
      try await b.put("x", for: "other/\(number)")
      try await eventually { b.counters().pendingChanges == 1 }
    }
    let version = b.counters().localVersion
    try await Task.sleep(for: .milliseconds(100))
    #expect(b.counters().localVersion == version, "it goes round in circles")
    live.cancel()
    try await live.value
    await hub.shutdown()
  }
}
