// A link that can go dead without breaking: stands between a replica and a hub, counts what goes through, can be slow, and
// swallows everything while it is told to.

import KVHub
import NIOCore
import NIOPosix
import Synchronization

final class SwallowingProxy: Sendable {
  private struct State {
    var isSwallowing = false
    var bytesToHub = 0
    var bytesToReplica = 0
    var lastToReplica = ContinuousClock.now
    var connections = 0
    var delay: TimeAmount?
    var channels: [any Channel] = []
  }

  private let listener: any Channel
  private let state = Mutex(State())
  let port: Int

  private final class Shared: Sendable {
    let proxy = Mutex<SwallowingProxy?>(nil)
  }

  private init(_ listener: any Channel, _ shared: Shared) {
    self.listener = listener
    port = listener.localAddress?.port ?? 0
    shared.proxy.withLock { $0 = self }
  }

  static func start(to hub: Hub) async throws -> SwallowingProxy {
    guard let target = hub.address else { throw ChannelError.unknownLocalAddress }
    let shared = Shared()
    let listener = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
      .childChannelInitializer { channel in
        guard let proxy = shared.proxy.withLock({ $0 }) else { return channel.close() }
        return proxy.accept(channel, target)
      }
      .bind(host: "127.0.0.1", port: 0).get()
    return SwallowingProxy(listener, shared)
  }

  func close() async throws {
    cut()
    try await listener.close()
  }

  /// From now on nothing arrives at either end, and nobody is told.
  func swallow(_ isSwallowing: Bool) { state.withLock { $0.isSwallowing = isSwallowing } }

  /// Each piece that was read is held up for so long.
  func delay(_ delay: TimeAmount?) { state.withLock { $0.delay = delay } }

  func cut() {
    let channels = state.withLock { state in
      defer { state.channels = [] }
      return state.channels
    }
    for channel in channels { channel.close(promise: nil) }
  }

  var bytesToHub: Int { state.withLock { $0.bytesToHub } }
  var bytesToReplica: Int { state.withLock { $0.bytesToReplica } }
  /// When something last went to the replica.
  var lastToReplica: ContinuousClock.Instant { state.withLock { $0.lastToReplica } }
  var connections: Int { state.withLock { $0.connections } }

  private func accept(_ replica: any Channel, _ target: Hub.Address) -> EventLoopFuture<Void> {
    state.withLock { $0.connections += 1 }
    return ClientBootstrap(group: replica.eventLoop)
      .connect(host: target.host, port: target.port)
      .flatMapThrowing { [self] hub in
        try replica.pipeline.syncOperations.addHandler(Piece(to: hub) { [self] in pass($0, toHub: true) })
        try hub.pipeline.syncOperations.addHandler(Piece(to: replica) { [self] in pass($0, toHub: false) })
        state.withLock { $0.channels += [replica, hub] }
      }
      .flatMapErrorThrowing { _ in replica.close(promise: nil) }
  }

  /// Counts; nil when it is to be swallowed.
  private func pass(_ bytes: Int, toHub: Bool) -> TimeAmount? {
    state.withLock { state in
      if state.isSwallowing { return nil }
      if toHub {
        state.bytesToHub += bytes
      } else {
        state.bytesToReplica += bytes
        state.lastToReplica = .now
      }
      return state.delay ?? .zero
    }
  }

  private final class Piece: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let peer: any Channel
    private let pass: @Sendable (Int) -> TimeAmount?

    init(to peer: any Channel, _ pass: @escaping @Sendable (Int) -> TimeAmount?) {
      self.peer = peer
      self.pass = pass
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      let buffer = unwrapInboundIn(data)
      guard let delay = pass(buffer.readableBytes) else { return }
      guard delay > .zero else { return peer.writeAndFlush(buffer, promise: nil) }
      // Read no more meanwhile: a slow link holds the sender up.
      context.channel.setOption(.autoRead, value: false).assumeIsolated().whenComplete { _ in }
      let (peer, channel) = (peer, context.channel)
      context.eventLoop.scheduleTask(in: delay) {
        peer.writeAndFlush(buffer, promise: nil)
        _ = channel.setOption(.autoRead, value: true)
      }
    }

    func channelInactive(context: ChannelHandlerContext) { peer.close(promise: nil) }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
      peer.close(promise: nil)
      context.close(promise: nil)
    }
  }
}
