// A link between replica and hub that is long, and that breaks.
//
// Invariants
// - Bytes arrive in the order in which they were sent, `oneWaySeconds` after they came; on a new connection, a round trip
//   after it was opened at the earliest, as the system's own greeting takes that long on such a link.
// - All connections are served by one thread; nothing is shared between threads but the counts.

import BenchmarkSupport
import Foundation
import NIOCore
import NIOPosix
import Synchronization

final class LinkProxy: Sendable {
  private struct State {
    var target: Int
    /// Taken from the replica, over all connections.
    var sentBytes = 0
    /// Where the connection is cut, in bytes that the replica has sent, ascending.
    var cuts: [Int]
    var cutCount = 0
  }

  let port: Int
  private let oneWay: TimeAmount
  private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
  private let state: Mutex<State>
  private let listener: Mutex<(any Channel)?>

  /// Listens on loopback, and connects to the hub at port `target` for each connection that comes.
  init(to target: Int, oneWaySeconds: Double = 0, cuts: [Int] = []) throws {
    oneWay = .nanoseconds(Int64(oneWaySeconds * 1e9))
    state = Mutex(State(target: target, cuts: cuts))
    listener = Mutex(nil)
    // The handlers reach the proxy once it is there.
    let home = Home()
    let channel = try ServerBootstrap(group: group)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
      .childChannelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 256 << 10))
      .childChannelInitializer { channel in home.proxy?.join(channel) ?? channel.eventLoop.makeSucceededVoidFuture() }
      .bind(host: "127.0.0.1", port: 0).wait()
    port = channel.localAddress?.port ?? 0
    listener.withLock { $0 = channel }
    home.set(self)
  }

  var url: String { "kvsync://127.0.0.1:\(port)/bench" }
  var sentBytes: Int { state.withLock { $0.sentBytes } }
  var cutCount: Int { state.withLock { $0.cutCount } }

  /// Connections to come go to another hub.
  func connect(to target: Int) { state.withLock { $0.target = target } }

  /// Returns when so many bytes have been sent, or when `child` has ended.
  func wait(forBytes count: Int, whileRunning child: Child) {
    while sentBytes < count, kill(child.process, 0) == 0 { usleep(1_000) }
  }

  func close() {
    listener.withLock { $0 }?.close(promise: nil)
    try? group.syncShutdownGracefully()
  }

  private func join(_ channel: any Channel) -> EventLoopFuture<Void> {
    let earliest = NIODeadline.now() + oneWay * 2
    return ClientBootstrap(group: channel.eventLoop)
      .channelOption(.tcpOption(.tcp_nodelay), value: 1)
      .channelOption(.autoRead, value: false)
      .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 256 << 10))
      .connect(host: "127.0.0.1", port: state.withLock { $0.target })
      .flatMapThrowing { [self] hub in
        let (up, down) = (Relay(to: hub, oneWay, earliest), Relay(to: channel, oneWay, earliest))
        up.willForward = { [self] in shouldCut(after: $0) }
        try channel.pipeline.syncOperations.addHandler(up)
        try hub.pipeline.syncOperations.addHandler(down)
        // The replica's end is read once this is done, the hub's from now on.
        try hub.syncOptions?.setOption(.autoRead, value: true)
      }
      .flatMapErrorThrowing { _ in channel.close(promise: nil) }
  }

  private func shouldCut(after bytes: Int) -> Bool {
    state.withLock { state in
      state.sentBytes += bytes
      guard let cut = state.cuts.first, state.sentBytes >= cut else { return false }
      state.cuts.removeFirst()
      state.cutCount += 1
      return true
    }
  }

  private final class Home: Sendable {
    private let content = Mutex<LinkProxy?>(nil)
    var proxy: LinkProxy? { content.withLock { $0 } }
    func set(_ proxy: LinkProxy) { content.withLock { $0 = proxy } }
  }
}

/// Passes on what one end sends.
private final class Relay: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer

  /// Told how many bytes came; says whether the connection ends here.
  var willForward: (Int) -> Bool = { _ in false }
  private let destination: any Channel
  private let delay: TimeAmount
  private let earliest: NIODeadline
  private var waiting = CircularBuffer<(due: NIODeadline, bytes: ByteBuffer?)>()
  private var isScheduled = false

  init(to destination: any Channel, _ delay: TimeAmount, _ earliest: NIODeadline) {
    self.destination = destination
    self.delay = delay
    self.earliest = earliest
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let bytes = unwrapInboundIn(data)
    guard !willForward(bytes.readableBytes) else {
      waiting.removeAll()
      destination.close(promise: nil)
      return context.close(promise: nil)
    }
    forward(bytes, context)
  }

  func channelInactive(context: ChannelHandlerContext) {
    forward(nil, context)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    context.close(promise: nil)
  }

  /// `nil` is the end.
  private func forward(_ bytes: ByteBuffer?, _ context: ChannelHandlerContext) {
    waiting.append((max(.now(), earliest) + delay, bytes))
    deliver(on: context.eventLoop)
  }

  private func deliver(on loop: any EventLoop) {
    while let (due, bytes) = waiting.first {
      guard delay == .zero || due <= .now() else { return schedule(at: due, on: loop) }
      waiting.removeFirst()
      if let bytes {
        destination.writeAndFlush(bytes, promise: nil)
      } else {
        destination.close(promise: nil)
      }
    }
  }

  private func schedule(at due: NIODeadline, on loop: any EventLoop) {
    guard !isScheduled else { return }
    isScheduled = true
    loop.assumeIsolated().scheduleTask(deadline: due) { [self] in
      isScheduled = false
      deliver(on: loop)
    }
  }
}
