// Continuous synchronising: live in both directions, through cuts and restarts.

import KVHub
import KVStore
import Logging
import ServiceLifecycle
import Testing

@testable import KVReplicator

@Suite struct LiveTests {
  /// Runs replicators of the stores while `body` runs; then cancels them.
  private func live(
    _ stores: [Store], _ hub: HubAddress, _ body: () async throws -> Void
  ) async throws {
    try await withThrowingTaskGroup { group in
      for store in stores {
        group.addTask { try await Replicator(store, hub: hub, configuration: .small).run() }
      }
      try await body()
      group.cancelAll()
      try await group.waitForAll()
    }
  }

  @Test("What one replica writes appears at the other at once, in both directions")
  func bothDirections() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let (a, b) = (try await bench.store("a"), try await bench.store("b"))
    try await live([a, b], try hub.address()) {
      for round in 0..<20 {
        try await a.put("\(round)", for: "a")
        try await eventually { try b.value(for: "a") == Array("\(round)".utf8) }
        try await b.put("\(round)", for: "b")
        try await eventually { try a.value(for: "b") == Array("\(round)".utf8) }
      }
      try await eventually { a.counters().pendingChanges == 0 && b.counters().pendingChanges == 0 }
    }
    await hub.shutdown()
  }

  @Test("Both write the same keys all the time while the link breaks again and again: left in peace, they agree")
  func cutsUnderLoad() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let proxy = try await CuttingProxy.start(to: hub)
    let (a, b) = (try await bench.store("a"), try await bench.store("b"))
    try await live([a, b], HubAddress(host: "127.0.0.1", port: proxy.port, space: "space")) {
      for round in 0..<150 {
        try await a.put("a \(round)", for: "key/\(round % 5)")
        try await b.put("b \(round)", for: "key/\(round % 7)")
        if round % 10 == 0 { proxy.cut() }
      }
      try await eventually {
        try a.counters().pendingChanges == 0 && b.counters().pendingChanges == 0 && contents(a) == contents(b)
          && a.counters().serverVersion == b.counters().serverVersion
      }
    }
    try await proxy.close()
    await hub.shutdown()
  }

  @Test(
    "A hub that goes down in the middle and comes back on the same data is found again, and nothing is lost or doubled")
  func hubRestart() async throws {
    let bench = try Workbench()
    var hub = try await bench.hub(.embedded)
    let proxy = try await CuttingProxy.start(to: hub)
    let (a, b) = (try await bench.store("a"), try await bench.store("b"))
    let address = HubAddress(host: "127.0.0.1", port: proxy.port, space: "space")
    for number in 0..<400 { try a.putBlocking("backlog", for: "a/\(number)") }
    try await live([a, b], address) {
      try await eventually { b.counters().serverVersion > 20 }
      proxy.cut()
      await hub.shutdown()
      for number in 0..<50 { try await b.put("meanwhile", for: "b/\(number)") }
      hub = try await bench.hub(.embedded)
      proxy.redirect(to: hub)
      try await eventually {
        a.counters().pendingChanges == 0 && b.counters().pendingChanges == 0 && a.counters().serverVersion == 450
          && b.counters().serverVersion == 450
      }
    }
    #expect(try contents(a) == contents(b))
    #expect(try await Replicator(a, hub: try hub.address()).compare().isEqual)
    try await proxy.close()
    await hub.shutdown()
  }

  @Test("A refusal that trying again cannot mend ends the replicator with it")
  func permanentRefusal() async throws {
    let bench = try Workbench()
    let store = try await bench.store("a")
    let hub = try await bench.hub()
    let error = await #expect(throws: ReplicatorError.self) {
      try await Replicator(store, hub: try hub.address(of: ".hidden")).run()
    }
    #expect(error?.code == .invalidSpace)
    _ = try await Replicator(store, hub: try hub.address()).syncOnce()
    await hub.shutdown()
  }

  @Test("As a service it ends with a goodbye at a graceful shutdown, in a session and while waiting to try again")
  func gracefulShutdown() async throws {
    let bench = try Workbench()
    let store = try await bench.store("a")
    let hub = try await bench.hub()
    let address = try hub.address()
    for isServing in [true, false] {
      if !isServing { await hub.shutdown() }
      let (retries, continuation) = AsyncStream<Void>.makeStream()
      var configuration = Replicator.Configuration()
      configuration.retrying = { _, _ in continuation.yield() }
      configuration.shortestRetry = .seconds(600)
      configuration.longestRetry = .seconds(600)
      let replicator = Replicator(store, hub: address, configuration: configuration)
      let group = ServiceGroup(
        configuration: .init(
          services: [.init(service: replicator, successTerminationBehavior: .gracefullyShutdownGroup)],
          logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }))
      let running = Task { try await group.run() }
      if isServing {
        try await store.put("1", for: "key")
        try await eventually { store.counters().pendingChanges == 0 }
      } else {
        for await _ in retries { break }
      }
      await group.triggerGracefulShutdown()
      try await running.value
      if isServing { try await eventually { hub.connectionCount == 0 } }
    }
  }

  @Test("Having caught up is told once a session, with what it took")
  func caughtUp() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let proxy = try await CuttingProxy.start(to: hub)
    let store = try await bench.store("a")
    for number in 0..<200 { try store.putBlocking("backlog", for: "\(number)") }
    let (reports, continuation) = AsyncStream<SyncReport>.makeStream()
    var configuration = Replicator.Configuration.small
    configuration.caughtUp = { continuation.yield($0) }
    let replicator = Replicator(
      store, hub: HubAddress(host: "127.0.0.1", port: proxy.port, space: "space"), configuration: configuration)
    let running = Task { try await replicator.run() }
    var iterator = reports.makeAsyncIterator()
    let first = await iterator.next()
    #expect(first?.pushedChanges == 200 && first?.pendingChanges == 0)
    // What follows in the same session is not told again; the next session is.
    try await store.put("more", for: "more")
    try await eventually { store.counters().pendingChanges == 0 }
    proxy.cut()
    #expect(await iterator.next()?.pushedChanges == 0)
    running.cancel()
    try await running.value
    continuation.finish()
    #expect(await iterator.next() == nil)
    try await proxy.close()
    await hub.shutdown()
  }

  @Test("While nobody answers it waits and tries again, and ends at once when cancelled")
  func nobodyThere() async throws {
    let bench = try Workbench()
    let store = try await bench.store("a")
    let hub = try await bench.hub()
    let address = try hub.address()
    await hub.shutdown()
    let (retries, continuation) = AsyncStream<ReplicatorError.Code>.makeStream()
    var configuration = Replicator.Configuration.small
    configuration.retrying = { error, _ in continuation.yield(error.code) }
    let replicator = Replicator(store, hub: address, configuration: configuration)
    let running = Task { try await replicator.run() }
    var seen = 0
    for await code in retries {
      #expect(code == .unreachable)
      seen += 1
      if seen == 3 { break }
    }
    running.cancel()
    try await running.value
  }
}
