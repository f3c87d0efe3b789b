// What a plan says is what a session then does, and asking changes nothing.

import KVHub
import KVReplicator
import KVStore
import TestSupport
import Testing

@Suite struct PlanTests {
  @Test(
    "A plan foretells what the session reports, and changes nothing on either side",
    arguments: Workbench.Storage.allCases,
    [ShippedHistory.latest, .every])
  func foretells(_ storage: Workbench.Storage, _ history: ShippedHistory) async throws {
    var random = SeededGenerator()
    let bench = try Workbench()
    let hub = try await bench.hub(storage)
    let (a, b) = (try await bench.store("a"), try await bench.store("b"))
    var configuration = Replicator.Configuration.small
    configuration.history = history
    let replicators = [a, b].map { Replicator($0, hub: try! hub.address(), configuration: configuration) }
    // With a snapshot may come what the same session has just pushed: which of both is first, nobody foretells.
    for replicator in replicators { _ = try await replicator.syncOnce() }
    var superseded = 0
    for round in 0..<6 {
      for (index, store) in [a, b].enumerated() {
        let before = store.counters()
        // Keys of its own: no conflicts.
        for _ in 0..<random.below(80) {
          let changes = (0...random.below(3)).map { _ in
            ("\(index)/\(random.below(20))", random.chance(20) ? nil : random.bytes(0...60))
          }
          try await store.write { transaction in
            for (key, value) in changes {
              if let value { try transaction.put(value, for: key) } else { try transaction.delete(key) }
            }
          }
        }
        let direction: Replicator.Direction = [.both, .push, .pull][round % 3]
        let counters = store.counters()
        #expect(counters.serverVersion == before.serverVersion)
        let plan = try await replicators[index].plan(direction)
        #expect(try await replicators[index].plan(direction) == plan)
        #expect(store.counters() == counters)
        let report = try await replicators[index].syncOnce(direction)
        #expect(plan.obstacle == nil && plan.expectedConflicts == 0)
        #expect(plan.pendingChanges == report.pushedChanges && plan.pendingBytes == report.pushedBytes)
        #expect(plan.supersededChanges == report.supersededChanges)
        #expect(plan.changesToSend == report.pushedChanges - report.supersededChanges)
        #expect(plan.changesToReceive == report.pulledChanges && plan.bytesToReceive == report.pulledBytes)
        #expect(plan.commitsToReceive == report.pulledCommits)
        if history == .every { #expect(plan.bytesToSend == report.pushedBytes) }
        superseded += plan.supersededChanges
      }
    }
    #expect((superseded > 0) == (history == .latest))
    let newcomer = Replicator(try await bench.store("c"), hub: try hub.address(), configuration: configuration)
    let plan = try await newcomer.plan()
    let report = try await newcomer.syncOnce()
    #expect(plan.changesToReceive > 0 && plan.changesToReceive == report.pulledChanges)
    #expect(plan.bytesToReceive == report.pulledBytes)
    await hub.shutdown()
  }

  @Test("A plan expects a conflict for each key that others changed and that has another value pending here")
  func conflicts() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub(.embedded)
    let (a, b) = (try await bench.store("a"), try await bench.store("b"))
    let address = try hub.address()
    _ = try await Replicator(b, hub: address).syncOnce()
    try await a.put("same", for: "equal")
    for key in ["one", "two", "gone"] { try await a.put("from a", for: key) }
    try await a.put("from a, later", for: "two")
    try await a.delete("gone")
    try await a.put("free", for: "only a")
    var every = Replicator.Configuration()
    every.history = .every
    _ = try await Replicator(a, hub: address, configuration: every).syncOnce()
    for key in ["one", "two", "gone"] { try await b.put("from b", for: key) }
    try await b.put("same", for: "equal")
    try await b.put("free", for: "only b")
    let replicator = Replicator(b, hub: address)
    let plan = try await replicator.plan()
    #expect(plan.expectedConflicts == 3)
    // Also of what is written under another name, as a copy does that goes on.
    _ = try await b.becomeNewIncarnation()
    try await b.put("from b, later", for: "one")
    #expect(try await replicator.plan().expectedConflicts == 3)
    #expect(plan.commitsToReceive == 7 && plan.changesToSend == 5)
    #expect(plan.segmentsToReceive == 1 && plan.segmentsToSend == 1)
    #expect(try await replicator.syncOnce(.pull).conflicts == 3)
    #expect(try await replicator.plan(.pull).expectedConflicts == 0)
    await hub.shutdown()
  }

  @Test("A plan makes no space, takes over no session, and is made of a store that is open read-only")
  func disturbsNobody() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub(.embedded)
    let first = try await bench.store("a")
    for number in 0..<5 { try await first.put("1", for: "\(number)") }
    try await first.close()
    let address = try hub.address()
    var options = Store.Options()
    options.readOnly = true
    let view = try await Store.open(at: "\(bench.path)/a", options: options)
    for _ in 0..<2 {
      let plan = try await Replicator(view, hub: address).plan()
      #expect(plan.createsSpace && plan.changesToSend == 5 && plan.commitsToReceive == 0)
    }
    await #expect(throws: ReplicatorError.self) { try await Replicator(view, hub: address).compare() }
    try await view.close()
    let a = try await bench.store("a")
    let live = Task { [a] in try await Replicator(a, hub: address).run() }
    try await eventually { a.counters().pendingChanges == 0 }
    let plan = try await Replicator(a, hub: address).plan()
    #expect(plan.changesToSend == 0 && plan.commitsToReceive == 0 && !plan.createsSpace)
    try await a.put("2", for: "0")
    try await eventually { a.counters().pendingChanges == 0 }
    #expect(hub.connectionCount == 1)
    live.cancel()
    try await live.value
    await hub.shutdown()
  }
}
