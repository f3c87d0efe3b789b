// Pausing: nothing is sent and nothing asked for, whatever happens; and going on.

import KVHub
import KVStore
import NIOCore
import TestSupport
import Testing

@testable import KVReplicator

@Suite struct PauseTests {
  @Test("While it is paused nothing goes over the network, whatever is written and however often the network returns")
  func silence() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let proxy = try await SwallowingProxy.start(to: hub)
    let store = try await bench.store("a")
    let monitor = FakeMonitor()
    var configuration = Replicator.Configuration.small
    configuration.networkMonitor = monitor
    let replicator = Replicator(
      store, hub: HubAddress(host: "127.0.0.1", port: proxy.port, space: "space"), configuration: configuration)
    let running = Task { try await replicator.run() }
    try await store.put("1", for: "a")
    try await eventually { store.counters().pendingChanges == 0 }
    replicator.pause()
    #expect(replicator.status.state == .paused)
    // The session says goodbye.
    try await eventually { hub.connectionCount == 0 }
    let before = (proxy.bytesToHub, proxy.bytesToReplica, proxy.connections)
    try await store.put("2", for: "a")
    for _ in 0..<3 {
      monitor.networkReturns()
      try await Task.sleep(for: .milliseconds(20))
    }
    #expect(before == (proxy.bytesToHub, proxy.bytesToReplica, proxy.connections))
    #expect(replicator.status.state == .paused && store.counters().pendingChanges == 1)
    let refused = await #expect(throws: ReplicatorError.self) { try await replicator.syncOnce() }
    #expect(refused?.code == .paused)
    replicator.resume()
    try await eventually { store.counters().pendingChanges == 0 }
    running.cancel()
    try await running.value
    try await proxy.close()
    await hub.shutdown()
  }

  @Test("What is in flight when it is paused is decided and recorded; a pass ends, and says that it is not done")
  func inFlight() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub(.embedded)
    let proxy = try await SwallowingProxy.start(to: hub)
    let store = try await bench.store("a")
    for number in 0..<500 { try await store.put("value", for: "\(number)", durability: .relaxed) }
    var configuration = Replicator.Configuration.small
    configuration.segmentBytes = 300
    let replicator = Replicator(
      store, hub: HubAddress(host: "127.0.0.1", port: proxy.port, space: "space"), configuration: configuration)
    proxy.delay(.milliseconds(5))
    var events = replicator.events.makeAsyncIterator()
    let pass = Task { try await replicator.syncOnce() }
    var sent = 0
    while sent == 0, let event = await events.next() {
      if case .sent(_, let changes) = event { sent += changes }
    }
    replicator.pause()
    let report = try await pass.value
    #expect(report.isCutShort && report.pendingChanges > 0 && report.pushedChanges > 0)
    // Everything that was sent has been decided.
    let counters = store.counters()
    #expect(counters.pendingChanges == report.pendingChanges && 500 - counters.pendingChanges == report.pushedChanges)
    let error = await #expect(throws: ReplicatorError.self) { try await replicator.syncOnce() }
    #expect(error?.code == .paused)
    proxy.delay(nil)
    replicator.resume()
    let rest = try await replicator.syncOnce()
    #expect(rest.pushedChanges + report.pushedChanges == 500 && !rest.isCutShort)
    try await proxy.close()
    await hub.shutdown()
  }

  @Test("Paused while it waits or connects, it comes to rest at once; resumed, it tries at once")
  func waiting() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let address = try hub.address()
    let store = try await bench.store("a")
    await hub.shutdown()
    var configuration = Replicator.Configuration()
    configuration.shortestRetry = .seconds(600)
    configuration.longestRetry = .seconds(600)
    let replicator = Replicator(store, hub: address, configuration: configuration)
    var events = replicator.events.makeAsyncIterator()
    func retrying() async -> Bool {
      while let event = await events.next() { if case .retrying = event { return true } }
      return false
    }
    let running = Task { try await replicator.run() }
    #expect(await retrying())
    replicator.pause()
    #expect(replicator.status.state == .paused)
    replicator.resume()
    // Not after ten minutes.
    #expect(await retrying())
    running.cancel()
    try await running.value
  }
}

/// Says that the network is back when it is told to.
final class FakeMonitor: NetworkMonitor {
  private let stream: AsyncStream<Void>
  private let continuation: AsyncStream<Void>.Continuation

  init() { (stream, continuation) = AsyncStream.makeStream() }

  func networkReturns() { continuation.yield() }

  func returns() -> AsyncStream<Void> { stream }
}
