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

/// A socket that takes the first message and no more, as if the other side had never read.
private final class FullSocket: ChannelOutboundHandler {
  typealias OutboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private var isFull = false
  private var waiting: [EventLoopPromise<Void>] = []

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    guard isFull else {
      isFull = true
      return context.write(data, promise: promise)
    }
    if let promise { waiting.append(promise) }
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    for promise in waiting { promise.fail(ChannelError.ioOnClosedChannel) }
  }
}

@Suite(.timeLimit(.minutes(2))) struct HostileHubTests {
  @Test("A hub that asks and asks and reads nothing ends the session: what waits for it is bounded")
  func pings() async throws {
    let bench = try Workbench()
    let store = try await bench.store("a")
    let (connections, continuation) = AsyncStream.makeStream(of: Connection.self)
    let listener = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
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
        // From another thread it would keep its loop, which may be the store's too, from looking at sockets.
        try await withTaskExecutorPreference(connection.executor) {
          while true {
            for _ in 0..<ProtocolLimits.messagesPerTurn { try await connection.send(.ping(1)) }
            await connection.executor.yield()
          }
        }
      }
    }
    // A live session would never end by itself.
    let error = await #expect(throws: ReplicatorError.self) {
      let runner = SessionRunner(
        store: store, policy: .lastWriterWins,
        configuration: ReplicaSession.Configuration(space: "space", mode: [.push, .pull], isLive: true),
        connection: try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
          .connect(to: address) { channel in
            channel.eventLoop.makeCompletedFuture {
              try channel.pipeline.syncOperations.addHandler(FullSocket())
              return try Connection(over: channel, isWelcomed: true, staging: nil)
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
