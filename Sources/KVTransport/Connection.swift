// One link between a replica and a hub: messages in, messages out.
//
// Invariants:
// - Messages arrive in the order they were sent, each whole and verified. What breaks the protocol ends the sequence
//   with an error; nothing after it is looked at.
// - A reader that does not read stops the socket; a sender that outruns it waits.
// - Dropping the last reference closes the link.
// - What goes over TLS begins with TLS: nothing is sent or read before the handshake. Without it, a link leaves this
//   machine only if that was allowed.

import NIOCore
import NIOPosix

package import KVProtocol

package final class Connection: Sendable {
  /// Where the other side is, for messages.
  package let remoteAddress: String

  /// The network that the other side is in, which it cannot choose freely: its IPv4 address, or the first half of its IPv6
  /// address.
  package let remoteNetwork: String

  /// What the other side sends. It has one reader.
  package let messages: InboundMessages

  /// Runs tasks where messages arrive and leave. They must wait for nothing but other tasks.
  package let executor: EventLoopExecutor

  private let channel: any Channel
  private let link: LinkState
  private let gate: SendGate

  /// Takes over a fresh channel. On its event loop. `onActive` is called there once messages can be sent.
  init(
    over channel: any Channel, isWelcomed: Bool, staging: ByteBudget?, onActive: (@Sendable (Connection) -> Void)? = nil
  ) throws {
    self.channel = channel
    executor = EventLoopExecutor(channel.eventLoop)
    link = LinkState(isWelcomed: isWelcomed, frameBytes: ProtocolLimits.maximumFrameBytes)
    gate = SendGate()
    remoteAddress =
      channel.remoteAddress.map { address in
        "\(address.ipAddress ?? "?"):\(address.port ?? 0)"
      } ?? "unknown address"
    remoteNetwork = channel.remoteAddress?.network ?? "unknown"
    // The handler keeps the connection until it is active, so that it can be handed out then.
    let activation = Activation()
    let handler = InboundHandler(
      gate: gate, link: link, remoteAddress: remoteAddress, onActive: onActive.map { _ in activation.fire })
    messages = InboundMessages(base: handler.makeSequence(on: channel.eventLoop), executor: executor)
    if let onActive {
      activation.action = { [self] in onActive(self) }
    }
    let decoder = MessageDecoder(link: link, staging: staging)
    try channel.pipeline.syncOperations.addHandlers(
      ReceiptCounter(link: link), ByteToMessageHandler(decoder), handler)
  }

  deinit {
    channel.close(promise: nil)
  }

  /// Connects to a hub, and does the TLS handshake if there is `tls`; without it, only to this machine unless
  /// `allowsPlaintext`. The link takes frames of session size from the start.
  package static func connect(
    host: String, port: Int, tls: ClientTLS? = nil, allowsPlaintext: Bool = false,
    timeout: Duration = ProtocolLimits.connectTimeout
  ) async throws(TransportError) -> Connection {
    guard (1...65_535).contains(port) else {
      throw .unreachable(host: host, port: port, reason: "a port is 1 to 65535")
    }
    let security = try await ClientSecurity(tls, host: host, allowsPlaintext: allowsPlaintext)
    let literal = try? SocketAddress(ipAddress: host, port: port)
    if security.isRefused(literal) {
      throw .plaintextRefused(host: host, port: port)
    }
    do {
      let deadline = NIODeadline.now() + TimeAmount(timeout)
      let bootstrap = ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
        .connectTimeout(TimeAmount(timeout))
        .channelOption(.tcpOption(.tcp_nodelay), value: 1)
        .channelOption(.recvAllocator, value: Connection.receiveAllocator)
      @Sendable func takeOver(_ channel: any Channel) -> EventLoopFuture<(Connection, TLSHandshake?)> {
        channel.eventLoop.makeCompletedFuture {
          let handshake = try security.secure(channel)
          return (try Connection(over: channel, isWelcomed: true, staging: nil), handshake)
        }
      }
      // To look an address up needs a thread of its own, which a busy machine may not have for long.
      let (connection, handshake) =
        if let literal {
          try await bootstrap.connect(to: literal, channelInitializer: takeOver)
        } else {
          try await bootstrap.connect(host: host, port: port, channelInitializer: takeOver)
        }
      // A name tells where it leads only now.
      if security.isRefused(connection.channel.remoteAddress) {
        throw TransportError.plaintextRefused(host: host, port: port)
      }
      try await handshake?.wait(until: deadline, on: connection.channel)
      return connection
    } catch let error as TransportError {
      throw error
    } catch let error as TLSHandshakeError {
      throw .tls(error.failure, peer: "\(host):\(port)")
    } catch ChannelError.connectTimeout {
      throw .connectTimedOut(host: host, port: port)
    } catch {
      throw .unreachable(host: host, port: port, reason: Reason.of(error))
    }
  }

  /// Sends a message: returns when it is on its way, waits while much is unsent before it. Calls from several tasks go
  /// out one after the other.
  package func send(_ message: Message) async throws(TransportError) {
    try await gate.enter()
    defer { gate.leave() }
    let encoded = message.encoded()
    let fragments = encoded.fragments(of: link.outboundFrameBytes)
    for (index, fragment) in fragments.enumerated() {
      let bytes = FrameHeader.byteCount + fragment.count
      do {
        try await gate.reserve(bytes)
      } catch {
        // Half a message is no message: nobody can send after it.
        if index > 0 { close() }
        throw error
      }
      write(encoded, fragment)
    }
  }

  /// Sends a message that fits in one frame, if the caller is on the connection's executor and nothing waits before it: false
  /// otherwise.
  func sendAtOnce(_ message: Message) -> Bool {
    guard executor.isCurrent, gate.isIdle else { return false }
    let encoded = message.encoded()
    guard encoded.byteCount <= link.outboundFrameBytes,
      gate.enterAtOnce(FrameHeader.byteCount + encoded.byteCount)
    else { return false }
    write(encoded, 0..<encoded.byteCount)
    gate.leave()
    return true
  }

  /// What the gate has let in.
  private func write(_ message: EncodedMessage, _ fragment: Range<Int>) {
    let bytes = FrameHeader.byteCount + fragment.count
    channel.writeAndFlush(message.frame(fragment, allocator: channel.allocator))
      .whenComplete { [gate] _ in gate.sent(bytes) }
  }

  /// The handshake is over: frames of session size and of every kind are taken from now on, and frames to the other
  /// side have at most so large a payload. The hub calls it before it sends its welcome, the replica after reading it.
  package func establish(outboundFrameBytes: Int) {
    link.outboundFrameBytes = max(
      ProtocolLimits.minimumFrameBytes, min(outboundFrameBytes, ProtocolLimits.maximumFrameBytes))
    link.isWelcomed = true
  }

  /// Time since anything, even a part of a message, was received.
  package var silence: Duration { link.silence }

  /// For how long a frame, or the next part of a message, has been on its way here.
  package var unfinishedTime: Duration { link.unfinishedTime }

  /// For how long the other side has taken nothing of what waits for it.
  package var unsentTime: Duration { gate.unsentTime }

  /// Bytes received so far.
  package var receivedBytes: Int { link.totalReceivedBytes }

  /// Ends the link at once; `messages` finishes, waiting senders fail.
  package func close() {
    gate.fail(.closed)
    channel.close(promise: nil)
  }

  /// Ends the link after what was sent has arrived: says that nothing more comes and waits for the other side to close,
  /// as closing with bytes unread would make the system throw away what is still on its way. At the latest after
  /// `limit`. What arrives meanwhile is for whoever still reads.
  package func finish(within limit: Duration = .seconds(1)) async {
    let expiry = Task {
      try await Task.sleep(for: limit)
      close()
    }
    try? await gate.drain()
    gate.fail(.closed)
    try? await channel.close(mode: .output).get()
    await closed()
    expiry.cancel()
  }

  /// Waits until the socket is gone.
  package func closed() async {
    try? await channel.closeFuture.get()
  }

  /// Starts small, for the many links that are idle, and grows until a read takes several segments.
  static let receiveAllocator = AdaptiveRecvByteBufferAllocator(minimum: 4 << 10, initial: 16 << 10, maximum: 512 << 10)
}

/// Hands a connection out once; keeps it alive until then.
private final class Activation {
  var action: (() -> Void)?

  func fire() {
    action?()
    action = nil
  }
}

extension EncodedMessage {
  /// One frame, header and payload, in one buffer.
  fileprivate func frame(_ fragment: Range<Int>, allocator: ByteBufferAllocator) -> ByteBuffer {
    var buffer = allocator.buffer(capacity: FrameHeader.byteCount + fragment.count)
    buffer.moveWriterIndex(to: FrameHeader.byteCount)
    if fragment.lowerBound < head.count {
      buffer.writeBytes(head[fragment.lowerBound..<min(fragment.upperBound, head.count)])
    }
    if fragment.upperBound > head.count {
      buffer.writeBytes(body[max(0, fragment.lowerBound - head.count)..<fragment.upperBound - head.count])
    }
    let header = FrameHeader(
      kind, hasMore: fragment.upperBound < byteCount,
      payload: buffer.readableBytesSpan.extracting(droppingFirst: FrameHeader.byteCount))
    buffer.setBytes(header.encoded, at: 0)
    return buffer
  }
}
