// Every limit of a hub, held by exceeding it. Those of credentials are in `AccessTests`; the time to introduce oneself, the
// number of connections, the bytes staged and the silence on a link in `HubTests`.

import Foundation
import HubTestSupport
import KVLog
import KVProtocol
import KVTransport
import NIOCore
import NIOPosix
import TestSupport
import Testing

@testable import KVHub

@Suite(.timeLimit(.minutes(2))) struct HubLimitsTests {
  private func withHub(
    _ change: (inout Hub.Options) -> Void = { _ in }, storage: InMemoryHubStorage = InMemoryHubStorage(),
    _ body: (Hub) async throws -> Void
  ) async throws {
    var options = Hub.Options()
    change(&options)
    let hub = Hub(storage: storage, options: options)
    try await hub.start()
    do { try await body(hub) } catch {
      await hub.shutdown()
      throw error
    }
    await hub.shutdown()
  }

  /// What is closed then is closed for what it sent: else the test runs into its time limit.
  private static func neverTimeOut(_ options: inout Hub.Options) {
    options.handshakeTimeout = .seconds(3_600)
    options.heartbeatInterval = .seconds(3_600)
    options.idleLimit = .seconds(7_200)
  }

  @Test func `a frame one byte over the limit is closed at its header, one at the limit is waited for`() async throws {
    try await withHub {
      Self.neverTimeOut(&$0)
    } _: { hub in
      let hello = Message.hello(TestReplica().hello(.push)).encoded().frames()
      for (before, kind, limit) in [
        ([], MessageKind.hello, ProtocolLimits.maximumHandshakeBytes), (hello, .push, ProtocolLimits.maximumFrameBytes),
      ] as [([UInt8], MessageKind, Int)] {
        func announce(_ bytes: Int) async throws -> any Channel {
          let channel = try await RawSocket.send(before, to: hub)
          // A stranger may announce less: the hub has to have said welcome.
          if !before.isEmpty { try await Task.sleep(for: .milliseconds(400)) }
          let header = FrameHeader(kind, payloadBytes: bytes, hasMore: false, checksum: 0)
          try? await channel.writeAndFlush(ByteBuffer(bytes: header.encoded))
          return channel
        }
        try await announce(limit + 1).closeFuture.get()
        let within = try await announce(limit)
        try await Task.sleep(for: .milliseconds(100))
        #expect(within.isActive)
        try await within.close()
      }
    }
  }

  @Test func `a token, a coverage and a space's name beyond their limits are no hello`() async throws {
    let storage = InMemoryHubStorage()
    try await withHub({ Self.neverTimeOut(&$0) }, storage: storage) { hub in
      // The hello ends with a coverage of everything, one of nothing, what else is wanted of the feed, and an empty token; before
      // it stands the name.
      let plain = Message.hello(TestReplica().hello(.push, space: "x")).encoded().head
      func hello(name: [UInt8] = [0x78], intervals: Int = 0, token: Int = 0) -> [UInt8] {
        var payload = Array(plain.dropLast(21)) + [UInt8(name.count)] + name
        payload.append(littleEndian: UInt16(intervals))
        for number in 0..<intervals {
          let key = [UInt8(number >> 8), UInt8(number & 0xFF)]
          payload += [2, 0] + key + [3, 0] + key + [0]
        }
        payload += [UInt8](repeating: 0, count: 2 + 1 + 8)
        payload.append(littleEndian: UInt16(token))
        payload += [UInt8](repeating: 0x61, count: token)
        return unsafe FrameHeader(.hello, hasMore: false, payload: payload.span.bytes).encoded + payload
      }
      for bytes in [
        hello(intervals: ProtocolLimits.maximumIntervals + 1), hello(token: ProtocolLimits.maximumTokenBytes + 1),
        hello(name: [UInt8](repeating: 0x61, count: 65)), hello(name: []),
      ] {
        let channel = try await RawSocket.send(bytes, to: hub)
        try await channel.closeFuture.get()
      }
      #expect(throws: HubStorageError.unknownSpace) { try storage.space(named: "x", creating: false) }
      _ = try await RawSocket.send(
        hello(intervals: ProtocolLimits.maximumIntervals, token: ProtocolLimits.maximumTokenBytes), to: hub)
      while (try? storage.space(named: "x", creating: false)) == nil { try await Task.sleep(for: .milliseconds(5)) }
    }
  }

  @Test func `a key, a value and a commit beyond their limits end the session and change nothing`() async throws {
    let storage = InMemoryHubStorage()
    try await withHub(storage: storage) { hub in
      let long = String(repeating: "k", count: LogLimits.maximumKeyBytes)
      let large = String(repeating: "v", count: LogLimits.maximumValueBytes)
      // The last is five values of 16 MiB, more than one commit may have.
      for changes in [
        [(long + "k", "v")], [("", "v")], [("k", large + "v")], (0..<5).map { ("k\($0)", large) },
      ] as [[(String, String?)]] {
        var replica = TestReplica()
        replica.commit(changes)
        let client = try await TestClient(hub)
        try await client.greet(replica.hello(.push))
        try? await client.send(.push(Push(segment: replica.segment(after: 0, through: 1), cursor: 0, confirmed: 0)))
        #expect(try await client.refusal().code == .violation)
        let space = try storage.space(named: "notes", creating: false)
        #expect(try space.head().version == 0 && space.progress(of: replica.identity) == nil)
      }
      var replica = TestReplica()
      replica.commit([(long, large)])
      let client = try await TestClient(hub)
      try await client.greet(replica.hello(.push))
      #expect(try await client.push(replica, after: 0, through: 1).through == 1)
    }
  }

  @Test func `windows grow with use, and all together no further than the hub has room`() async throws {
    let room = 1 << 20
    try await withHub {
      $0.inFlightBytes = room
      $0.windowBytes = 1 << 20
    } _: { hub in
      var total = 0
      for number in 0..<4 {
        var replica = TestReplica()
        for count in 0..<40 { replica.put("\(number)/\(count)", String(repeating: "x", count: 100_000)) }
        let client = try await TestClient(hub)
        // What it may have on its way when nothing is.
        var window = try await client.greet(replica.hello(.push)).credit
        #expect(window == HubLimits.firstWindowBytes)
        for after in 0..<Version(40) {
          let push = Push(segment: replica.segment(after: after, through: after + 1), cursor: 0, confirmed: 0)
          window -= push.chargedBytes
          try await client.send(.push(push))
          if window > 0 { continue }
          // Nothing may be sent until something is granted.
          while window <= 0 { if case .credit(let bytes) = try await client.next() { window += bytes } }
        }
        var through: Version = 0
        while through < 40, let message = try await client.next() {
          if case .acknowledgement(let acknowledgement) = message { through = acknowledgement.through }
          if case .credit(let bytes) = message { window += bytes }
        }
        // The last grants follow the last acknowledgement.
        try await client.send(.ping(1))
        while let message = try await client.next(), message != .pong(1) {
          if case .credit(let bytes) = message { window += bytes }
        }
        if number == 0 { #expect(window > HubLimits.firstWindowBytes, "the first one has all the room") }
        #expect(window <= 1 << 20)
        total += window
        // It stays connected, and keeps what it has.
        kept.append(client)
      }
      #expect(total <= room + 4 * HubLimits.firstWindowBytes)
    }
  }

  /// Connections that a test keeps open.
  private final class Kept {
    var clients: [TestClient] = []
    func append(_ client: TestClient) { clients.append(client) }
  }
  private let kept = Kept()

  @Test func `a replica that takes nothing of what it is sent is dropped, however lively it is`() async throws {
    try await withHub {
      $0.frameLimit = .milliseconds(1_500)
    } _: { hub in
      var writer = TestReplica()
      let value = String(repeating: "x", count: 1 << 20)
      for count in 0..<24 { writer.put("k\(count)", value) }
      let forWriter = try await TestClient(hub)
      try await forWriter.greet(writer.hello(.push))
      for after in 0..<Version(24) { _ = try await forWriter.push(writer, after: after, through: after + 1) }
      var hello = TestReplica().hello(.pull)
      hello.credit = 1 << 29
      let began = ContinuousClock.now
      let address = try #require(hub.address)
      let channel = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
        .channelOption(.autoRead, value: false)
        .connect(host: address.host, port: address.port).get()
      try await channel.writeAndFlush(ByteBuffer(bytes: Message.hello(hello).encoded().frames()))
      while hub.connectionCount < 2 { try await Task.sleep(for: .milliseconds(1)) }
      // Before it is welcomed nothing but its hello is taken.
      try await Task.sleep(for: .milliseconds(100))
      // Alive, but deaf.
      for number in 0..<200 where hub.connectionCount > 1 {
        try? await channel.writeAndFlush(ByteBuffer(bytes: Message.ping(UInt64(number)).encoded().frames())).get()
        try await Task.sleep(for: .milliseconds(50))
      }
      #expect(hub.connectionCount == 1)
      #expect(ContinuousClock.now - began >= .milliseconds(1_500), "for being slow, and not for its hello")
      try? await channel.close()
      try await forWriter.send(.ping(1))
      while let message = try await forWriter.next(), message != .pong(1) {}
    }
  }

  @Test func `a replica that does not finish a frame is dropped, however it drips`() async throws {
    try await withHub {
      Self.neverTimeOut(&$0)
      $0.frameLimit = .milliseconds(400)
    } _: { hub in
      var replica = TestReplica()
      replica.put("k", String(repeating: "x", count: 4_000))
      let push = Message.push(Push(segment: replica.segment(after: 0, through: 1), cursor: 0, confirmed: 0))
      let channel = try await RawSocket.send(Message.hello(replica.hello(.push)).encoded().frames(), to: hub)
      let dripping = Task {
        for byte in push.encoded().frames() {
          try await channel.writeAndFlush(ByteBuffer(bytes: [byte])).get()
          try await Task.sleep(for: .milliseconds(20))
        }
      }
      #expect(try await RawSocket.timeUntilClosed(channel) < .seconds(20))
      dripping.cancel()
      // Somebody who is silent between two frames is not slow.
      let client = try await TestClient(hub)
      try await client.greet(replica.hello(.push))
      try await Task.sleep(for: .milliseconds(900))
      #expect(try await client.push(replica, after: 0, through: 1).through == 1)
    }
  }

  @Test func `no more spaces are made than the hub may have, and those there are go on`() async throws {
    try await withHub(storage: InMemoryHubStorage(maximumSpaces: 2)) { hub in
      for (name, isRefused) in [("a", false), ("b", false), ("c", true), ("a", false)] {
        let client = try await TestClient(hub)
        let hello = TestReplica().hello(.push, space: name)
        if isRefused {
          try await client.send(.hello(hello))
          #expect(try await client.refusal().code == .tooManySpaces)
        } else {
          try await client.greet(hello)
        }
      }
    }
  }
}
