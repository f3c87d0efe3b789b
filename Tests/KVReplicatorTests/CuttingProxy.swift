// A link that can be cut: stands between a replica and a hub, and lets so many bytes through in each direction, or so
// many frames in both together.

import KVHub
import KVProtocol
import NIOCore
import NIOPosix
import Synchronization

final class CuttingProxy: Sendable {
  struct Limits: Sendable {
    var toHub = Int.max
    var toReplica = Int.max
    /// Whole frames, counted over both directions. All of them arrive: this cut ends the stream and resets nothing.
    var frames = Int.max
  }

  private struct State {
    var target: Hub.Address
    var limits = Limits()
    var links: [Int: [any Channel]] = [:]
    var nextLink = 0
    var lastFrames: [FrameHeader] = []
  }

  private let listener: any Channel
  private let state: Mutex<State>
  let port: Int

  private init(_ listener: any Channel, to target: Hub.Address, _ state: Shared) {
    self.listener = listener
    self.state = Mutex(State(target: target))
    port = listener.localAddress?.port ?? 0
    state.proxy.withLock { $0 = self }
  }

  /// What a new connection finds the proxy by.
  private final class Shared: Sendable {
    let proxy = Mutex<CuttingProxy?>(nil)
  }

  static func start(to hub: Hub) async throws -> CuttingProxy {
    guard let target = hub.address else { throw ChannelError.unknownLocalAddress }
    let shared = Shared()
    let listener = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
      .childChannelInitializer { channel in
        guard let proxy = shared.proxy.withLock({ $0 }) else { return channel.close() }
        return proxy.accept(channel)
      }
      .bind(host: "127.0.0.1", port: 0).get()
    return CuttingProxy(listener, to: target, shared)
  }

  func close() async throws {
    cut()
    try await listener.close()
  }

  /// Lets so much through on each connection made from now on.
  func limit(_ limits: Limits) { state.withLock { $0.limits = limits } }

  /// The last frame before each cut that was made at the border of a frame.
  var lastFrames: [FrameHeader] { state.withLock { $0.lastFrames } }

  /// Leads connections made from now on to another hub.
  func redirect(to hub: Hub) {
    guard let address = hub.address else { return }
    state.withLock { $0.target = address }
  }

  /// Breaks every connection.
  func cut() {
    let links = state.withLock { state in
      defer { state.links = [:] }
      return state.links
    }
    for channel in links.values.joined() { channel.close(promise: nil) }
  }

  private func accept(_ replica: any Channel) -> EventLoopFuture<Void> {
    let (target, limits) = state.withLock { ($0.target, $0.limits) }
    // One event loop for both: a handler touches its peer directly.
    return ClientBootstrap(group: replica.eventLoop)
      .connect(host: target.host, port: target.port)
      .flatMapThrowing { [self] hub in
        if limits.frames < .max {
          let border = FrameBorder(after: limits.frames) { [self] last in
            state.withLock { $0.lastFrames.append(last) }
            for channel in [replica, hub] { channel.close(mode: .output, promise: nil) }
          }
          try replica.pipeline.syncOperations.addHandler(FrameForwarder(to: hub, border))
          try hub.pipeline.syncOperations.addHandler(FrameForwarder(to: replica, border))
        } else {
          try replica.pipeline.syncOperations.addHandler(Forwarder(to: hub, limit: limits.toHub))
          try hub.pipeline.syncOperations.addHandler(Forwarder(to: replica, limit: limits.toReplica))
        }
        state.withLock { state in
          state.links[state.nextLink] = [replica, hub]
          state.nextLink += 1
        }
      }
      .flatMapErrorThrowing { _ in replica.close(promise: nil) }
  }
}

private final class Forwarder: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer

  private let peer: any Channel
  private var left: Int

  init(to peer: any Channel, limit: Int) {
    self.peer = peer
    left = limit
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var buffer = unwrapInboundIn(data)
    let count = min(left, buffer.readableBytes)
    left -= count
    if let bytes = buffer.readSlice(length: count) { peer.writeAndFlush(bytes, promise: nil) }
    guard left == 0 else { return }
    peer.close(promise: nil)
    context.close(promise: nil)
  }

  func channelInactive(context: ChannelHandlerContext) {
    peer.close(promise: nil)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    peer.close(promise: nil)
    context.close(promise: nil)
  }
}

/// Where a link is cut, for the forwarders of both directions, which run on one event loop.
private final class FrameBorder {
  private var left: Int
  private let cut: (FrameHeader) -> Void

  init(after frames: Int, cut: @escaping (FrameHeader) -> Void) {
    left = frames
    self.cut = cut
  }

  var isReached: Bool { left == 0 }

  /// A frame has gone through; returns whether it was the last one, after which `cut` is to be called.
  func pass() -> Bool {
    left -= 1
    return isReached
  }

  func reached(after last: FrameHeader) { cut(last) }
}

/// Lets frames through one by one, each as soon as it is whole.
private final class FrameForwarder: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer

  private let peer: any Channel
  private let border: FrameBorder
  private var buffer = ByteBuffer()

  init(to peer: any Channel, _ border: FrameBorder) {
    self.peer = peer
    self.border = border
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    // After the cut nothing arrives at the other end; it is read, so that no reset follows on what had arrived.
    guard !border.isReached else { return }
    buffer.writeImmutableBuffer(unwrapInboundIn(data))
    while let header = nextHeader, let frame = buffer.readSlice(length: FrameHeader.byteCount + header.payloadBytes) {
      let isLast = border.pass()
      let written = peer.writeAndFlush(frame)
      guard isLast else { continue }
      written.assumeIsolated().whenComplete { [border] _ in border.reached(after: header) }
      return
    }
  }

  private var nextHeader: FrameHeader? {
    guard let bytes = buffer.getBytes(at: buffer.readerIndex, length: FrameHeader.byteCount) else { return nil }
    return try? unsafe FrameHeader(decoding: bytes.span.bytes, limit: ProtocolLimits.maximumFrameBytes)
  }

  func channelInactive(context: ChannelHandlerContext) {
    peer.close(promise: nil)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    peer.close(promise: nil)
    context.close(promise: nil)
  }
}
