// Where the closures of the program run: on no event loop, where one that takes its time would keep other connections waiting.

import KVHub
import KVStore
import NIOPosix
import Synchronization
import Testing

@testable import KVReplicator

@Suite struct ClosureTests {
  private final class Watch: Sendable {
    private struct Seen {
      var names: Set<String> = []
      var onLoop: Set<String> = []
    }

    private let seen = Mutex(Seen())

    var names: Set<String> { seen.withLock { $0.names } }
    var onLoop: Set<String> { seen.withLock { $0.onLoop } }

    func note(_ name: String) {
      let isOnLoop = MultiThreadedEventLoopGroup.currentEventLoop != nil
      seen.withLock { seen in
        seen.names.insert(name)
        if isOnLoop { seen.onLoop.insert(name) }
      }
    }
  }

  @Test("What a program is asked and told, it is asked and told on no event loop")
  func onNoLoop() async throws {
    let watch = Watch()
    let bench = try Workbench()
    var options = Hub.Options()
    options.access = .deciding { _, _ in
      watch.note("access")
      return .granted(Hub.Grant(principal: "p", right: .admin))
    }
    options.accessInterval = .milliseconds(20)
    options.validate = { _ in
      watch.note("validate")
      return nil
    }
    let hub = try await bench.hub(.embedded, options)
    var configuration = Replicator.Configuration.small
    configuration.token = {
      watch.note("token")
      return []
    }
    configuration.progress = { _ in watch.note("progress") }
    configuration.caughtUp = { _ in watch.note("caughtUp") }
    configuration.policy = .merge { input in
      watch.note("merge")
      return input.local
    }
    let stores = [try await bench.store("a"), try await bench.store("b")]
    let replicators = try stores.map { Replicator($0, hub: try hub.address(), configuration: configuration) }
    for round in 0..<2 {
      for (index, store) in stores.enumerated() {
        try await store.put("\(index) \(round)", for: "contested")
        _ = try await replicators[index].syncOnce()
      }
    }
    // One that is live, so that what it does begins on its loop.
    let running = Task { try await replicators[0].run() }
    for number in 0..<5 {
      try await stores[0].put("\(number)", for: "live")
      try await replicators[0].caughtUp()
    }
    running.cancel()
    try await running.value
    await hub.shutdown()
    #expect(watch.names.isSuperset(of: ["access", "validate", "token", "progress", "caughtUp", "merge"]))
    #expect(watch.onLoop.isEmpty)
  }
}
