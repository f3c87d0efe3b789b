// Refusals from the hub's hook to the replica's list of parked commits, over real sockets.

import Foundation
import KVHub
import KVHubEmbedded
import KVLog
import KVStore
import Synchronization
import TestSupport
import Testing

@testable import KVReplicator

@Suite struct ParkingTests {
  private func hub(_ bench: Workbench, _ validate: @escaping @Sendable (borrowing ValidatedCommit) throws -> Rejection?)
    async throws -> Hub
  {
    var options = Hub.Options()
    options.validate = validate
    let hub = Hub(storage: try EmbeddedHubStorage(directory: "\(bench.path)/hub"), options: options)
    try await hub.start()
    return hub
  }

  @Test("A backlog of which the hub refuses every second commit drains, and what it refused is parked, each once")
  func backlog() async throws {
    let bench = try Workbench()
    let hub = try await hub(bench) { commit in
      commit.version % 2 == 0 ? Rejection(code: 100, message: "even \(commit.version)") : nil
    }
    let store = try await bench.store("a")
    for number in 1...2_000 { try store.putBlocking("v", for: "k\(number)", durability: .relaxed) }
    let report = try await Replicator(store, hub: hub.address(), configuration: .small).syncOnce()
    #expect(report.parked == 1_000 && report.pushedChanges == 2_000 && report.pendingChanges == 0)
    let parked = try store.parkedCommits()
    #expect(parked.map(\.id) == Array(stride(from: 2, through: 2_000, by: 2)))
    #expect(parked.map(\.reason) == parked.map { "even \($0.id)" })
    let again = try await Replicator(store, hub: hub.address()).syncOnce()
    #expect(again.parked == 0 && store.counters().parkedCommits == 1_000)
    let other = try await bench.store("b")
    _ = try await Replicator(other, hub: hub.address()).syncOnce()
    #expect(try other.count() == 1_000)
    await hub.shutdown()
  }

  @Test("A hub that may refuse gets every value, and keeps the last one it accepts, whatever becomes of the parked one")
  func overwritten() async throws {
    let bench = try Workbench()
    let hub = try await hub(bench) { commit in
      var rejection: Rejection?
      try commit.forEachChange { change in
        if change.value?.byteCount == 3 { rejection = Rejection(code: 100, message: "not that") }
        return true
      }
      return rejection
    }
    let store = try await bench.store("a")
    let replicator = Replicator(store, hub: try hub.address())
    _ = try await replicator.syncOnce()
    for value in ["older", "good", "bad"] { try await store.put(value, for: "key") }
    #expect(try await replicator.plan().commitsToSend == 3)
    let report = try await replicator.syncOnce()
    #expect(report.supersededChanges == 0 && report.parked == 1)
    #expect(try store.value(for: "key") == Array("bad".utf8))
    _ = try await store.dropAllParked()
    let other = try await bench.store("b")
    _ = try await Replicator(other, hub: try hub.address()).syncOnce()
    #expect(try other.value(for: "key") == Array("good".utf8))
    await hub.shutdown()
  }

  @Test("The program hears of what was parked: which versions, how many, and why")
  func event() async throws {
    let bench = try Workbench()
    let hub = try await hub(bench) { $0.version > 1 ? Rejection(code: 100, message: "not \($0.version)") : nil }
    let store = try await bench.store("a")
    for number in 1...3 { try await store.put("v", for: "k\(number)") }
    let replicator = Replicator(store, hub: try hub.address())
    var events = replicator.events.makeAsyncIterator()
    _ = try await replicator.syncOnce()
    var heard: ParkedCommits?
    while heard == nil, let event = await events.next() {
      if case .parked(let commits) = event { heard = commits }
    }
    #expect(heard == ParkedCommits(versions: 2...3, count: 2, reason: "not 3"))
    await hub.shutdown()
  }

  @Test(
    "Links and hubs that break while commits are refused lose no refusal and park nothing twice",
    .timeLimit(.minutes(1)))
  func breaks() async throws {
    var random = SeededGenerator()
    let bench = try Workbench()
    let store = try await bench.store("a")
    for number in 1...300 { try store.putBlocking("v", for: "k\(number)", durability: .relaxed) }
    var rounds = 0
    while store.counters().pendingChanges > 0 {
      rounds += 1
      // From some commit on the hook fails, which ends the session.
      let limit = store.counters().acknowledgedVersion + Version(1 + random.below(40))
      struct Broken: Error {}
      let hub = try await hub(bench) { commit in
        if commit.version > limit { throw Broken() }
        return commit.version % 2 == 0 ? Rejection(code: 100, message: "even") : nil
      }
      _ = try? await Replicator(store, hub: hub.address(), configuration: .small).syncOnce()
      await hub.shutdown()
    }
    #expect(rounds > 3)
    #expect(try store.parkedCommits().map(\.id) == Array(stride(from: 2, through: 300, by: 2)), "seed \(random.seed)")
  }
}
