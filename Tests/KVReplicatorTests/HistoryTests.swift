// Which commits a replicator ships.

import KVHub
import KVReplicator
import KVStore
import Testing

@Suite struct HistoryTests {
  @Test(
    "What was overwritten before it was shipped travels only if every commit is asked for; all of it counts as pushed",
    arguments: [ShippedHistory.latest, .every])
  func history(_ history: ShippedHistory) async throws {
    let bench = try Workbench()
    let hub = try await bench.hub(.embedded)
    let (a, b) = (try await bench.store("a"), try await bench.store("b"))
    _ = try await Replicator(b, hub: try hub.address()).syncOnce()
    for round in 0..<10 {
      for key in ["x", "y", "z"] { try await a.put("\(round)", for: key) }
    }
    try await a.write { transaction in
      try transaction.put("10", for: "x")
      try transaction.delete("y")
    }
    var configuration = Replicator.Configuration()
    configuration.history = history
    let report = try await Replicator(a, hub: try hub.address(), configuration: configuration).syncOnce()
    #expect(report.pushedChanges == 32 && report.pendingChanges == 0)
    #expect(report.supersededChanges == (history == .latest ? 29 : 0))
    let pulled = try await Replicator(b, hub: try hub.address()).syncOnce()
    #expect(pulled.pulledCommits == (history == .latest ? 2 : 31))
    #expect(try contents(b) == contents(a))
    #expect(try await Replicator(a, hub: try hub.address()).compare().isEqual)
    await hub.shutdown()
  }

  @Test("The latest history is the default")
  func isDefault() {
    #expect(Replicator.Configuration().history == .latest)
  }
}
