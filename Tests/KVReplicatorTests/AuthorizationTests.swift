// Tokens that end while a replicator runs, and hubs that are not the one a store knows.

import KVHub
import KVStore
import Synchronization
import TestSupport
import Testing

@testable import KVReplicator

@Suite("Authorization", .timeLimit(.minutes(2))) struct AuthorizationTests {
  /// A hub that accepts one token at a time.
  private final class Door: Sendable {
    let accepted = Mutex<[UInt8]>([1])
    let offered = Mutex<[UInt8]>([1])
    let asked = Mutex(0)

    func hub() async throws -> Hub {
      var options = Hub.Options()
      options.accessInterval = .milliseconds(20)
      options.failedTries = 10_000
      options.access = .deciding { [self] _, token in
        token == accepted.withLock { $0 }
          ? .granted(Hub.Grant(principal: "alice", right: .admin)) : .refused("this token is over")
      }
      let hub = Hub(storage: InMemoryHubStorage(), options: options)
      try await hub.start()
      return hub
    }

    func configuration() -> Replicator.Configuration {
      var configuration = Replicator.Configuration.small
      configuration.token = { [self] in
        asked.withLock { $0 += 1 }
        return offered.withLock { $0 }
      }
      return configuration
    }
  }

  private struct NoToken: Error {}

  @Test("A token that is over pauses a running replicator, which asks for another and consumes nothing meanwhile")
  func withdrawn() async throws {
    let bench = try Workbench()
    let store = try await bench.store("a")
    let door = Door()
    let hub = try await door.hub()
    let troubles = Mutex<Set<ReplicatorError.Code>>([])
    var configuration = door.configuration()
    configuration.retrying = { error, _ in _ = troubles.withLock { $0.insert(error.code) } }
    let replicator = Replicator(store, hub: try hub.address(), configuration: configuration)
    let running = Task { try await replicator.run() }
    for number in 0..<20 { try await store.put("v", for: "before/\(number)") }
    try await eventually { store.counters().pendingChanges == 0 }
    let acknowledged = store.counters().acknowledgedVersion

    door.accepted.withLock { $0 = [2] }
    try await eventually { troubles.withLock { $0.contains(.notAuthorized) } }
    for number in 0..<20 { try await store.put("v", for: "meanwhile/\(number)") }
    #expect(replicator.status.state == .needsAuthorization || replicator.status.state == .connecting)
    try await eventually { replicator.status.state == .needsAuthorization }
    let asked = door.asked.withLock { $0 }
    try await eventually { door.asked.withLock { $0 } > asked + 3 }
    let counters = store.counters()
    #expect(counters.pendingChanges == 20 && counters.acknowledgedVersion == acknowledged)

    door.offered.withLock { $0 = [2] }
    try await replicator.caughtUp()
    #expect(store.counters().pendingChanges == 0)
    running.cancel()
    try await running.value
    #expect(troubles.withLock { $0 } == [.notAuthorized])
    #expect(try await Replicator(store, hub: try hub.address(), configuration: configuration).compare().isEqual)
    await hub.shutdown()
  }

  @Test("Where there is no token to be had it is not authorized: one call says so, and running waits for one")
  func noToken() async throws {
    let bench = try Workbench()
    let store = try await bench.store("a")
    let door = Door()
    let hub = try await door.hub()
    let isThere = Mutex(false)
    var configuration = door.configuration()
    configuration.token = {
      guard isThere.withLock({ $0 }) else { throw NoToken() }
      return [1]
    }
    let caughtUp = Mutex(false)
    configuration.caughtUp = { _ in caughtUp.withLock { $0 = true } }
    let replicator = Replicator(store, hub: try hub.address(), configuration: configuration)
    let error = await #expect(throws: ReplicatorError.self) { try await replicator.syncOnce() }
    #expect(error?.code == .notAuthorized && error?.message.contains("NoToken") == true)
    let running = Task { try await replicator.run() }
    try await Task.sleep(for: .milliseconds(100))
    isThere.withLock { $0 = true }
    try await eventually { caughtUp.withLock { $0 } }
    running.cancel()
    try await running.value
    await hub.shutdown()
  }

  @Test(
    "A store with pending changes gives nothing to a hub or a space that is not the one it knows",
    arguments: [false, true])
  func foreignHub(isThere: Bool) async throws {
    let bench = try Workbench()
    let store = try await bench.store("a")
    let own = try await bench.hub()
    try await store.put("v", for: "own")
    _ = try await Replicator(store, hub: try own.address()).syncOnce()
    try await store.put("secret", for: "pending")
    let foreign = try await bench.hub()
    let other = try await bench.store("b")
    try await other.put("v", for: "theirs")
    if isThere { _ = try await Replicator(other, hub: try foreign.address()).syncOnce() }
    let third = try await bench.store("c")
    _ = try await Replicator(third, hub: try own.address(of: "another")).syncOnce()
    for address in [try foreign.address(), try own.address(of: "another")] {
      for direction in [Replicator.Direction.both, .push, .pull] {
        let error = await #expect(throws: ReplicatorError.self) {
          try await Replicator(store, hub: address).syncOnce(direction)
        }
        #expect(error?.code == .differentHub)
      }
    }
    #expect(store.counters().pendingChanges == 1)
    #expect(try contents(store).keys.sorted { $0.count < $1.count } == [Array("own".utf8), Array("pending".utf8)])
    _ = try await Replicator(store, hub: try own.address()).syncOnce()
    #expect(store.counters().pendingChanges == 0)
    await own.shutdown()
    await foreign.shutdown()
  }
}
