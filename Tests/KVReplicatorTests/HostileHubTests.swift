// A hub that follows the protocol's grammar and none of its manners.

import KVLog
import KVProtocol
import KVStore
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import KVReplicator
@testable import KVTransport

@Suite(.timeLimit(.minutes(2))) struct HostileHubTests {
  @Test("A hub that asks and asks and reads nothing ends the session: what waits for it is bounded")
  func pings() async throws {
    let bench = try Workbench()
    let store = try await bench.store("a")
    let (connections, continuation) = AsyncStream.makeStream(of: Connection.self)
    // With small buffers it is soon found out that nothing is read.
    let listener = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
      .childChannelOption(.socketOption(.so_rcvbuf), value: 4 << 10)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          _ = try Connection(over: channel, isWelcomed: false, staging: nil) { continuation.yield($0) }
        }
      }
      .bind(to: SocketAddress(ipAddress: "127.0.0.1", port: 0)).get()
    let address = try #require(listener.localAddress)
    let hub = Task {
      for await connection in connections {
        var messages = connection.messages.makeAsyncIterator()
        _ = try await messages.next()
        connection.establish(outboundFrameBytes: 1 << 20)
        try await connection.send(.welcome(Self.welcome(to: store)))
        while true { try await connection.send(.ping(1)) }
      }
    }
    // A live session would never end by itself.
    let error = await #expect(throws: ReplicatorError.self) {
      let runner = SessionRunner(
        store: store, policy: .lastWriterWins,
        configuration: ReplicaSession.Configuration(space: "space", mode: [.push, .pull], isLive: true),
        connection: try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
          .channelOption(.socketOption(.so_sndbuf), value: 4 << 10)
          .connect(to: address) { channel in
            channel.eventLoop.makeCompletedFuture {
              try Connection(over: channel, isWelcomed: true, staging: nil)
            }
          },
        surroundings: SessionRunner.Surroundings(
          board: StatusBoard(store), control: RunControl(), catchUps: CatchUps(), progress: { _ in },
          caughtUp: { _ in }, repaired: { _ in }))
      if let error = try await runner.run().error { throw error }
    }
    #expect(error?.code == .unreachable && error?.message.contains("reads nothing") == true)
    hub.cancel()
    try await listener.close()
  }

  @Test("A cancelled comparison throws CancellationError, wherever it is")
  func cancelledComparison() async throws {
    let bench = try Workbench()
    let store = try await bench.store("a")
    let listener = try await Listener.bind(host: "127.0.0.1", port: 0)
    let address = HubAddress(host: "127.0.0.1", port: listener.localPort, space: "space")
    for isWelcomed in [false, true] {
      let comparison = Task { try await Replicator(store, hub: address).compare() }
      var connections = listener.connections.makeAsyncIterator()
      let connection = try #require(await connections.next())
      var messages = connection.messages.makeAsyncIterator()
      _ = try await messages.next()
      if isWelcomed {
        connection.establish(outboundFrameBytes: 1 << 20)
        try await connection.send(.welcome(Self.welcome(to: store)))
        _ = try await messages.next()
      }
      comparison.cancel()
      await #expect(throws: CancellationError.self) { try await comparison.value }
    }
    listener.close()
  }

  private static func welcome(to store: Store) -> Welcome {
    var welcome = Welcome(
      space: .random(), head: Position(identity: .random(), version: 0, digest: .zero), lastApplied: 0,
      appliedDigest: .origin(of: store.identity), common: .start(of: .zero), unconfirmed: [], retentionFloor: 0)
    welcome.covered = store.replicaState().covered
    return welcome
  }
}
