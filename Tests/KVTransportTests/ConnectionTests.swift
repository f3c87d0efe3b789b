// A listener and connections over loopback.

import KVLog
import KVProtocol
import KVTransport
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing

/// A listener with one connection at both ends, established.
struct Link {
  let listener: Listener
  let near: Connection
  let far: Connection

  init(establish: Bool = true, authority: TestAuthority? = nil) async throws {
    var source: CertificateSource?
    if let authority {
      let certificate = try await authority.certificate()
      source = try CertificateSource(
        ServerTLS(certificateFile: certificate.file, keyFile: certificate.keyFile), report: { _ in })
    }
    listener = try await Listener.bind(host: "127.0.0.1", port: 0, tls: source)
    near = try await Connection.connect(
      host: "127.0.0.1", port: listener.localPort, tls: authority.map { ClientTLS(authorityFile: $0.file) })
    var connections = listener.connections.makeAsyncIterator()
    far = try #require(await connections.next())
    if establish { far.establish(outboundFrameBytes: ProtocolLimits.maximumFrameBytes) }
  }
}

private final class ByteCollector: ChannelInboundHandler, Sendable {
  typealias InboundIn = ByteBuffer

  let bytes = Mutex<[UInt8]>([])

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let buffer = unwrapInboundIn(data)
    bytes.withLock { $0 += Array(buffer: buffer) }
  }
}

@Suite(.timeLimit(.minutes(2))) struct ConnectionTests {
  @Test(arguments: [false, true])
  func `messages arrive in order, whole and in both directions`(isSecure: Bool) async throws {
    let authority = isSecure ? try await TestAuthority() : nil
    var random = SeededGenerator()
    let messages: [Message] = (0..<200).map { count in
      let records = random.bytes(count % 50 == 0 ? 2_000_000...3_000_000 : 0...3_000)
      return .feed(
        Feed(
          segment: CommitSegment(
            after: Version(count), through: Version(count + 1), digest: .zero, records: records, changeCount: count),
          head: 0))
    }
    for isForwards in [true, false] {
      let link = try await Link(authority: authority)
      let (sender, receiver) = isForwards ? (link.near, link.far) : (link.far, link.near)
      async let sending: Void = {
        for message in messages { try await sender.send(message) }
        await sender.finish(within: .seconds(60))
      }()
      var received: [Message] = []
      for try await message in receiver.messages { received.append(message) }
      #expect(received == messages, "seed \(random.seed)")
      try await sending
    }
  }

  @Test(arguments: [false, true])
  func `a reader that does not read stops the sender`(isSecure: Bool) async throws {
    let link = try await Link(authority: isSecure ? try await TestAuthority() : nil)
    let sentBytes = Mutex(0)
    let payload = [UInt8](repeating: 1, count: 256 << 10)
    let message = Message.feed(
      Feed(
        segment: CommitSegment(after: 0, through: 1, digest: .zero, records: payload, changeCount: 0), head: 0))
    let sender = Task {
      while true {
        try await link.near.send(message)
        sentBytes.withLock { $0 += payload.count }
      }
    }
    var before = 0
    while true {
      let now = sentBytes.withLock { $0 }
      if now > 0, now == before { break }
      before = now
      try await Task.sleep(for: .milliseconds(300))
    }
    // Kernel buffers, what this side has handed over, and what the other side has read ahead.
    #expect(before < 40 << 20)
    var iterator = link.far.messages.makeAsyncIterator()
    for _ in 0..<200 { #expect(try await iterator.next() == message) }
    #expect(sentBytes.withLock { $0 } > before)
    link.far.close()
    await #expect(throws: TransportError.self) { try await sender.value }
  }

  @Test(arguments: [false, true])
  func `closing ends the other side's messages, and sending fails from then on`(isSecure: Bool) async throws {
    let link = try await Link(authority: isSecure ? try await TestAuthority() : nil)
    try await link.near.send(.ping(1))
    await link.near.finish()
    var received: [Message] = []
    for try await message in link.far.messages { received.append(message) }
    #expect(received == [.ping(1)])
    await link.far.closed()
    await #expect(throws: TransportError.self) { try await link.far.send(.ping(2)) }
    await #expect(throws: TransportError.self) { try await link.near.send(.ping(2)) }
  }

  @Test func `what was sent before the end arrives, even where much was left unread`() async throws {
    let listener = try await Listener.bind(host: "127.0.0.1", port: 0)
    let collector = ByteCollector()
    let client = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
      .channelOption(.autoRead, value: false)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(collector)
        }
      }
      .connect(host: "127.0.0.1", port: listener.localPort).get()
    var connections = listener.connections.makeAsyncIterator()
    let far = try #require(await connections.next())
    // Not a hello: the rest of it is dropped.
    client.writeAndFlush(ByteBuffer(repeating: 1, count: 3 << 20), promise: nil)
    await #expect(throws: TransportError.self) { for try await _ in far.messages {} }
    let refusal = Message.refuse(Refusal(.violation, "no"))
    try await far.send(refusal)
    // The limit is beyond any pause of a busy machine; it is not waited for.
    async let end: Void = far.finish(within: .seconds(60))
    try await Task.sleep(for: .milliseconds(200))
    // The end of the stream may have made it read to the end, and close, by itself.
    try? await client.setOption(.autoRead, value: true).get()
    try await client.closeFuture.get()
    await end
    #expect(collector.bytes.withLock { $0 } == refusal.encoded().frames())
  }

  @Test func `a cancelled sender gives its turn back`() async throws {
    let link = try await Link()
    let big = Message.feed(
      Feed(
        segment: CommitSegment(
          after: 0, through: 1, digest: .zero, records: [UInt8](repeating: 1, count: 900_000), changeCount: 0), head: 0)
    )
    let stuck = Task { while true { try await link.near.send(big) } }
    try await Task.sleep(for: .milliseconds(300))
    stuck.cancel()
    await #expect(throws: TransportError.cancelled) { try await stuck.value }
    async let reading: Message? = link.far.messages.first { $0 == .ping(3) }
    try await link.near.send(.ping(3))
    #expect(try await reading == .ping(3))
  }

  @Test func `a stranger may send one small hello and nothing else`() async throws {
    let link = try await Link(establish: false)
    try await link.near.send(.ping(1))
    await #expect(throws: TransportError.protocolBroken(.unexpectedFrame(kind: 8))) {
      for try await _ in link.far.messages {}
    }
  }

  /// Addresses that no other test listens on: a port that was given back there is not taken by one of them meanwhile.
  #if os(Linux)
    private static let lonely = ["127.0.0.2", "127.0.0.3"]
  #else
    private static let lonely = ["127.0.0.1", "127.0.0.1"]
  #endif

  @Test func `a port in use is an error that says so`() async throws {
    let listener = try await Listener.bind(host: Self.lonely[0], port: 0)
    let port = listener.localPort
    await #expect(throws: TransportError.addressInUse(host: Self.lonely[0], port: port)) {
      try await Listener.bind(host: Self.lonely[0], port: port)
    }
    listener.close()
    await listener.closed()
    // A child that another test forks meanwhile holds the socket until it becomes another program.
    let again = try await Self.bind(port, for: .seconds(30))
    again.close()
  }

  /// Binds the port as soon as it is free; for so long it may be in use.
  private static func bind(_ port: Int, for patience: Duration) async throws -> Listener {
    let deadline = ContinuousClock.now + patience
    while ContinuousClock.now < deadline {
      do {
        return try await Listener.bind(host: lonely[0], port: port)
      } catch {
        guard error == .addressInUse(host: lonely[0], port: port) else { throw error }
      }
      try await Task.sleep(for: .milliseconds(20))
    }
    return try await Listener.bind(host: lonely[0], port: port)
  }

  @Test func `nobody there is an error that says so`() async throws {
    // One that the system gives to nobody who asks for any: a port that was just given back may have been given to another test.
    let port = 1
    await #expect(throws: TransportError.unreachable(host: Self.lonely[1], port: port, reason: "connection refused")) {
      try await Connection.connect(host: Self.lonely[1], port: port)
    }
    await #expect(throws: TransportError.self) {
      try await Connection.connect(host: "no-such-host.invalid", port: port, timeout: .seconds(5))
    }
  }

  @Test func `nothing waits between segments that go one after the other`() async throws {
    let link = try await Link()
    let segments = 1_000
    let message = Message.push(
      Push(
        segment: CommitSegment(
          after: 0, through: 1, digest: .zero, records: [UInt8](repeating: 7, count: 256 << 10), changeCount: 0),
        cursor: 0, confirmed: 0))
    let clock = ContinuousClock()
    let time = try await clock.measure {
      async let sending: Void = { for _ in 0..<segments { try await link.near.send(message) } }()
      var count = 0
      for try await message in link.far.messages {
        count += message.kind == .push ? 1 : 0
        if count == segments { break }
      }
      try await sending
    }
    let rate = Double(segments * (256 << 10)) / (time / .seconds(1)) / 1e6
    print("loopback: \(Int(rate)) MB/s")
    // Hundreds are usual, also in a debug build; the benchmark is where that is measured. A pause of the length of one
    // timer or delayed acknowledgement (40 ms) for each segment would make it 6, and that no busy machine does.
    #expect(rate > 10)
  }
}
