// Whatever a program configures, a session works or says what is wrong.

import KVHub
import KVStore
import Testing

@testable import KVReplicator

@Suite struct ConfigurationTests {
  @Test(
    "Sizes and waits beyond what is allowed are taken as the nearest allowed", arguments: [Int.min, -1, 0, 1, .max])
  func extremes(number: Int) async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let store = try await bench.store("a")
    for count in 0..<20 { try await store.put([UInt8](repeating: 1, count: 1_000), for: "\(count)") }
    var configuration = Replicator.Configuration()
    configuration.memoryBudgetBytes = number
    configuration.segmentBytes = number
    if number > 1 { configuration.connectTimeout = .seconds(number) }
    configuration.shortestRetry = .seconds(number)
    configuration.longestRetry = .seconds(number)
    let report = try await Replicator(store, hub: try hub.address(), configuration: configuration).syncOnce()
    #expect(report.pushedChanges == 20 && report.pendingChanges == 0)
    let allowed = configuration.withinLimits
    var backoff = Backoff(shortest: allowed.shortestRetry, longest: allowed.longestRetry)
    for _ in 0..<100 { #expect(backoff.next(random: 1) >= .milliseconds(1)) }
    await hub.shutdown()
  }

  @Test("A hub takes sizes and times beyond what is allowed as the nearest allowed", arguments: [Int.min, -1, 0, .max])
  func hubExtremes(number: Int) async throws {
    let bench = try Workbench()
    var options = Hub.Options()
    options.windowBytes = number
    options.maximumConnections = number
    options.shutdownLimit = .seconds(number)
    let hub = Hub(storage: InMemoryHubStorage(), options: options)
    try await hub.start()
    let store = try await bench.store("a")
    for count in 0..<20 { try await store.put([UInt8](repeating: 1, count: 1_000), for: "\(count)") }
    #expect(try await Replicator(store, hub: try hub.address()).syncOnce().pendingChanges == 0)
    await hub.shutdown()
  }

  @Test("A token that is too long is an error that says so")
  func token() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let store = try await bench.store("a")
    var configuration = Replicator.Configuration()
    configuration.token = { [UInt8](repeating: 1, count: 4_096) }
    _ = try await Replicator(store, hub: try hub.address(), configuration: configuration).syncOnce()
    configuration.token = { [UInt8](repeating: 1, count: 4_097) }
    let replicator = Replicator(store, hub: try hub.address(), configuration: configuration)
    let calls: [() async throws -> Void] = [
      { _ = try await replicator.syncOnce() }, { _ = try await replicator.compare() },
    ]
    for call in calls {
      let error = await #expect(throws: ReplicatorError.self) { try await call() }
      #expect(error?.code == .notAuthorized && error?.message.contains("4096") == true)
    }
    await hub.shutdown()
  }
}
