// A bound port that hands out connections.
//
// Invariants:
// - Connections start in the handshake phase: nothing but one small hello is read from them.
// - After `close` no connection is handed out, and `connections` ends.

import KVProtocol
import NIOCore
import NIOPosix
import NIOSSL

package final class Listener: Sendable {
  /// Accepted connections. It has one reader.
  package let connections: AsyncStream<Connection>
  package let localHost: String
  package let localPort: Int
  /// Whether only this machine can connect.
  package let isLocal: Bool

  private let channel: any Channel
  private let continuation: AsyncStream<Connection>.Continuation

  private init(
    channel: any Channel, host: String, connections: AsyncStream<Connection>,
    continuation: AsyncStream<Connection>.Continuation
  ) {
    self.channel = channel
    self.connections = connections
    self.continuation = continuation
    localHost = channel.localAddress?.ipAddress ?? host
    isLocal = channel.localAddress?.isLoopback ?? false
    localPort = channel.localAddress?.port ?? 0
  }

  deinit {
    close()
  }

  /// Binds `host:port`; port 0 lets the system choose. Without `tls`, only an address of this machine alone unless
  /// `allowsPlaintext`. `staging` is shared by all connections.
  package static func bind(
    host: String, port: Int, tls: CertificateSource? = nil, allowsPlaintext: Bool = false, staging: ByteBudget? = nil
  ) async throws(TransportError) -> Listener {
    guard (0...65_535).contains(port) else {
      throw .cannotListen(host: host, port: port, reason: "a port is 0 to 65535")
    }
    let address = try await resolve(host, port)
    guard tls != nil || allowsPlaintext || address.isLoopback else {
      throw .plaintextListenRefused(host: host, port: port)
    }
    let (connections, continuation) = AsyncStream.makeStream(of: Connection.self)
    let bootstrap = ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
      .serverChannelOption(.backlog, value: 256)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
      .childChannelOption(.recvAllocator, value: Connection.receiveAllocator)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          if let tls {
            try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: tls.current()))
          }
          _ = try Connection(over: channel, isWelcomed: false, staging: staging) { connection in
            // A listener that was closed meanwhile takes nobody in.
            if case .terminated = continuation.yield(connection) { connection.close() }
          }
        }
      }
    do {
      let channel = try await bootstrap.bind(to: address).get()
      return Listener(channel: channel, host: host, connections: connections, continuation: continuation)
    } catch {
      throw TransportError(listeningOn: host, port: port, error)
    }
  }

  private static func resolve(_ host: String, _ port: Int) async throws(TransportError) -> SocketAddress {
    do {
      return try await NIOThreadPool.singleton.runIfActive {
        try SocketAddress.makeAddressResolvingHost(host, port: port)
      }
    } catch {
      throw TransportError(listeningOn: host, port: port, error)
    }
  }

  /// Gives the port back. Connections already handed out live on.
  package func close() {
    channel.close(promise: nil)
    continuation.finish()
  }

  /// Waits until the port is free again.
  package func closed() async {
    try? await channel.closeFuture.get()
  }
}
