// One-shot synchronising of real stores with a real hub over loopback.

import Foundation
import KVHub
import KVStore
import NIOCore
import NIOPosix
import TestSupport
import Testing

@testable import KVReplicator

@Suite struct ReplicatorTests {
  @Test(
    "Two replicas with random interleaved edits hold the same in the end, whatever the order of synchronising",
    arguments: Workbench.Storage.allCases, SeededGenerator.seeds(4, from: 100))
  func convergence(storage: Workbench.Storage, seed: UInt64) async throws {
    var random = SeededGenerator(seed: seed)
    let bench = try Workbench()
    let hub = try await bench.hub(storage)
    let stores = [try await bench.store("a"), try await bench.store("b")]
    let replicators = try stores.map { Replicator($0, hub: try hub.address(), configuration: .small) }
    var pushed = 0
    for _ in 0..<60 {
      let index = random.below(2)
      switch random.below(10) {
      case 0..<7:
        let changes = (0...random.below(3)).map { _ in
          (key: "key/\(random.below(12))", value: random.chance(80) ? "\(index) \(random.next())" : nil)
        }
        try await stores[index].write { transaction in
          for change in changes {
            if let value = change.value {
              try transaction.put(value, for: change.key)
            } else {
              try transaction.delete(change.key)
            }
          }
        }
      case 7: pushed += try await replicators[index].syncOnce(.push).pushedChanges
      case 8: _ = try await replicators[index].syncOnce(.pull)
      default: pushed += try await replicators[index].syncOnce().pushedChanges
      }
    }
    // Twice each: what one resolves, the other has to fetch.
    for index in [0, 1, 0, 1].shuffled(using: &random) + [0, 1, 0, 1] {
      pushed += try await replicators[index].syncOnce().pushedChanges
    }
    let first = try contents(stores[0])
    #expect(try contents(stores[1]) == first, "seed \(seed)")
    for (store, replicator) in zip(stores, replicators) {
      #expect(store.counters().pendingChanges == 0, "seed \(seed)")
      let comparison = try await replicator.compare()
      #expect(comparison.isEqual && comparison.keys == first.count, "seed \(seed): \(comparison)")
      try await store.close()
    }
    await hub.shutdown()
  }

  @Test("Pushing alone and pulling alone do just that, over and over")
  func oneDirection() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let (a, b) = (try await bench.store("a"), try await bench.store("b"))
    let address = try hub.address()
    _ = try await Replicator(b, hub: address).syncOnce(.pull)
    for round in 1...3 {
      try await a.put("round \(round)", for: "a/\(round)")
      let push = try await Replicator(a, hub: address).syncOnce(.push)
      #expect(push.pushedChanges == 1 && push.pulledChanges == 0 && push.pendingChanges == 0)
      let again = try await Replicator(a, hub: address).syncOnce(.push)
      #expect(again.pushedChanges == 0)
      try await b.put("round \(round)", for: "b/\(round)")
      let pull = try await Replicator(b, hub: address).syncOnce(.pull)
      #expect(pull.pulledCommits == 1 && pull.pulledChanges == 1 && pull.pushedChanges == 0)
      #expect(pull.pendingChanges == round)
    }
    #expect(try contents(b).count == 6)
    #expect(try contents(a).count == 3)
  }

  @Test("What the hub finds stale stays pending while only pushing, and says so; synchronising both ways settles it")
  func stale() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let (a, b) = (try await bench.store("a"), try await bench.store("b"))
    let address = try hub.address()
    try await a.put("from a", for: "key")
    _ = try await Replicator(a, hub: address).syncOnce()
    try await b.put("from b", for: "key")
    let push = try await Replicator(b, hub: address).syncOnce(.push)
    #expect(push.reoffered == 1 && push.pendingChanges == 1)
    let both = try await Replicator(b, hub: address).syncOnce()
    #expect(both.conflicts == 1 && both.pendingChanges == 0)
    _ = try await Replicator(a, hub: address).syncOnce()
    #expect(try a.value(for: "key") == Array("from b".utf8))
    #expect(try contents(a) == contents(b))
    #expect(try b.conflicts(after: nil, limit: 10).map(\.losingValue) == [Array("from a".utf8)])
  }

  @Test("The program's policy decides conflicts")
  func policies() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let policies: [(ConflictPolicy, String)] = [
      (.lastWriterWins, "local"), (.localWins, "local"), (.remoteWins, "remote"),
      (.merge { input in (input.remote ?? []) + Array("+".utf8) + (input.local ?? []) }, "remote+local"),
    ]
    for (number, (policy, winner)) in policies.enumerated() {
      let (a, b) = (try await bench.store("a\(number)"), try await bench.store("b\(number)"))
      let address = try hub.address(of: "space\(number)")
      var configuration = Replicator.Configuration()
      configuration.policy = policy
      try await a.put("remote", for: "key")
      _ = try await Replicator(a, hub: address).syncOnce()
      try await b.put("local", for: "key")
      #expect(try await Replicator(b, hub: address, configuration: configuration).syncOnce().conflicts == 1)
      _ = try await Replicator(a, hub: address).syncOnce()
      #expect(try a.value(for: "key") == Array(winner.utf8))
      #expect(try b.value(for: "key") == Array(winner.utf8))
    }
  }

  @Test("A commit larger than a message, a frame and the window goes through whole")
  func largeCommit() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub(.embedded)
    let (a, b) = (try await bench.store("a"), try await bench.store("b"))
    let large = [UInt8](repeating: 7, count: 3 << 20)
    try await a.put("before", for: "1")
    try await a.write { transaction in
      for number in 0..<3 { try transaction.put(large, for: "large/\(number)") }
    }
    try await a.put("after", for: "2")
    let address = try hub.address()
    #expect(try await Replicator(a, hub: address).syncOnce().pushedChanges == 5)
    #expect(try await Replicator(b, hub: address).syncOnce().pulledChanges == 5)
    #expect(try contents(b) == contents(a))
    await hub.shutdown()
  }

  @Test(
    "A link cut after any number of bytes costs nothing but time: everything arrives once",
    arguments: Workbench.Storage.allCases)
  func cutLinks(storage: Workbench.Storage) async throws {
    var random = SeededGenerator(seed: 5)
    let bench = try Workbench()
    let hub = try await bench.hub(storage)
    let proxy = try await CuttingProxy.start(to: hub)
    let (a, b) = (try await bench.store("a"), try await bench.store("b"))
    let cut = HubAddress(host: "127.0.0.1", port: proxy.port, space: "space")
    var configuration = Replicator.Configuration.small
    configuration.history = .every
    var failures = 0
    var pushed = 0
    for round in 0..<80 {
      for number in 0..<4 { try await a.put("\(round) \(number)", for: "a/\(random.below(40))/\(number)") }
      try await b.put("\(round)", for: "b/\(random.below(20))")
      let bytes = 1 + round * 37
      proxy.limit(random.chance(50) ? .init(toHub: bytes) : .init(toReplica: bytes))
      for store in [a, b] {
        do {
          let report = try await Replicator(store, hub: cut, configuration: configuration).syncOnce()
          if store === a { pushed += report.pushedChanges }
        } catch let error as ReplicatorError {
          #expect(error.isTransient, "\(error)")
          failures += 1
        }
      }
    }
    #expect(failures > 20)
    proxy.limit(.init())
    for store in [a, b, a] {
      pushed += try await Replicator(store, hub: cut, configuration: configuration).syncOnce().pushedChanges
    }
    #expect(try contents(a) == contents(b))
    #expect(a.counters().pendingChanges == 0 && b.counters().pendingChanges == 0)
    let comparison = try await Replicator(a, hub: try hub.address()).compare()
    // Every put was a commit of its own, and none of a key that the other one writes: nothing more, nothing twice.
    #expect(comparison.isEqual && comparison.hubVersion == 80 * 5)
    try await proxy.close()
    await hub.shutdown()
  }

  @Test("Where nobody listens, a hub is unreachable; where somebody else does, it is no hub")
  func noHub() async throws {
    let bench = try Workbench()
    let store = try await bench.store("a")
    // The system gives this port to nobody who asks for any.
    let address = HubAddress(host: "127.0.0.1", port: 1, space: "space")
    let error = await #expect(throws: ReplicatorError.self) { try await Replicator(store, hub: address).syncOnce() }
    #expect(error?.code == .unreachable && error?.isTransient == true)

    let stranger = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Stranger()) }
      }
      .bind(host: "127.0.0.1", port: 0).get()
    let port = try #require(stranger.localAddress?.port)
    let other = HubAddress(host: "127.0.0.1", port: port, space: "space")
    let broken = await #expect(throws: ReplicatorError.self) { try await Replicator(store, hub: other).syncOnce() }
    #expect(broken?.code == .protocolViolation)
    await #expect(throws: ReplicatorError.self) { try await Replicator(store, hub: other).compare() }
    try await stranger.close()
  }

  @Test("A hub that has forgotten everything is told apart and refused; nothing is lost")
  func foreignHistory() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let a = try await bench.store("a")
    try await a.put("1", for: "key")
    _ = try await Replicator(a, hub: try hub.address()).syncOnce()
    let other = try await bench.hub()
    let forgotten = await #expect(throws: ReplicatorError.self) {
      try await Replicator(a, hub: try other.address()).syncOnce()
    }
    #expect(forgotten?.code == .differentHub)
    #expect(try a.value(for: "key") == Array("1".utf8))
    await hub.shutdown()
    await other.shutdown()
  }

  @Test("Progress is told while a backlog drains, and ends at nothing pending")
  func progress() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let store = try await bench.store("a")
    for batch in 0..<20 {
      try await store.write { transaction in
        for number in 0..<500 { try transaction.put([UInt8](repeating: 1, count: 50), for: "\(batch)/\(number)") }
      }
    }
    let (reports, continuation) = AsyncStream<SyncReport>.makeStream()
    var configuration = Replicator.Configuration()
    configuration.progress = { continuation.yield($0) }
    let report = try await Replicator(store, hub: try hub.address(), configuration: configuration).syncOnce()
    continuation.finish()
    var last = SyncReport()
    for await next in reports {
      #expect(next.pushedChanges >= last.pushedChanges)
      last = next
    }
    #expect(last == report && report.pushedChanges == 10_000 && report.pendingChanges == 0)
    await hub.shutdown()
  }
}

/// Speaks first, and another protocol.
private final class Stranger: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  func channelActive(context: ChannelHandlerContext) {
    context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: "SSH-2.0-OpenSSH_9.2p1 Debian\r\n")), promise: nil)
  }
}
