// A replica's end of a session, one message at a time; and a socket that speaks no protocol at all.

import HubTestSupport
import KVHub
import KVLog
import KVProtocol
import KVTransport
import NIOCore
import NIOPosix
import Testing

final class TestClient {
  let connection: Connection
  private var messages: InboundMessages.AsyncIterator
  /// The welcome, where a test has kept it.
  var welcomed: Welcome?

  init(_ hub: Hub) async throws {
    let address = try #require(hub.address)
    connection = try await Connection.connect(host: address.host, port: address.port)
    messages = connection.messages.makeAsyncIterator()
  }

  func send(_ message: Message) async throws {
    try await connection.send(message)
  }

  /// The next message; `nil` when the hub has closed.
  func next() async throws -> Message? {
    try await messages.next()
  }

  /// Introduces itself and is welcomed.
  @discardableResult
  func greet(_ hello: Hello) async throws -> Welcome {
    try await send(.hello(hello))
    let answer = try await next()
    guard case .welcome(let welcome) = answer else {
      throw Unexpected(message: answer)
    }
    return welcome
  }

  /// Sends the commits and waits for the hub's decision on all of them; what else arrives is dropped.
  func push(_ replica: TestReplica, after: Version, through: Version, cursor: Version = 0) async throws
    -> Acknowledgement
  {
    try await send(.push(Push(segment: replica.segment(after: after, through: through), cursor: cursor, confirmed: 0)))
    while let message = try await next() {
      if case .acknowledgement(let acknowledgement) = message, acknowledgement.through >= through {
        return acknowledgement
      }
      if case .refuse = message { throw Unexpected(message: message) }
    }
    throw Unexpected(message: nil)
  }

  func nextFeed() async throws -> Feed {
    while let message = try await next() {
      if case .feed(let feed) = message { return feed }
    }
    throw Unexpected(message: nil)
  }

  /// Reads up to the hub's refusal.
  func refusal() async throws -> Refusal {
    while let message = try await next() {
      if case .refuse(let refusal) = message { return refusal }
      if case .acknowledgement = message { throw Unexpected(message: message) }
    }
    throw Unexpected(message: nil)
  }

  struct Unexpected: Error {
    var message: Message?
  }
}

/// Sends bytes to the hub as they are and waits for what it does about them.
enum RawSocket {
  private final class Collector: ChannelInboundHandler, Sendable {
    typealias InboundIn = ByteBuffer
  }

  /// The link, after the bytes were sent.
  static func send(_ bytes: [UInt8], to hub: Hub) async throws -> any Channel {
    let address = try #require(hub.address)
    let channel = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
      .connect(host: address.host, port: address.port).get()
    // The hub may have closed before everything was taken.
    try? await channel.writeAndFlush(ByteBuffer(bytes: bytes)).get()
    return channel
  }

  /// How long the hub left the link open.
  static func timeUntilClosed(_ channel: any Channel) async throws -> Duration {
    try await ContinuousClock().measure { try await channel.closeFuture.get() }
  }
}
