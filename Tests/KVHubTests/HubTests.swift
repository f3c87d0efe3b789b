import Foundation
import HubTestSupport
import KVHub
import KVLog
import KVProtocol
import KVTransport
import NIOCore
import Synchronization
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(3))) struct HubTests {
  /// Runs the body beside a serving hub.
  func withHub(
    _ change: (inout Hub.Options) -> Void = { _ in }, storage: InMemoryHubStorage = InMemoryHubStorage(),
    _ body: (Hub) async throws -> Void
  ) async throws {
    var options = Hub.Options()
    change(&options)
    let hub = Hub(storage: storage, options: options)
    try await hub.start()
    do {
      try await body(hub)
    } catch {
      await hub.shutdown()
      throw error
    }
    await hub.shutdown()
  }

  /// Whether the hub still serves a replica from hello to acknowledgement.
  func expectServing(_ hub: Hub, space: String = "alive") async throws {
    var replica = TestReplica()
    replica.put("a", "1")
    let client = try await TestClient(hub)
    try await client.greet(replica.hello(.push, space: space))
    let acknowledgement = try await client.push(replica, after: 0, through: 1)
    #expect(acknowledgement.through == 1)
    client.connection.close()
  }

  // MARK: Sessions

  @Test func `what one replica pushes the other is fed, live and without its own`() async throws {
    try await withHub { hub in
      var a = TestReplica()
      var b = TestReplica()
      a.put("a1", "1")
      let forA = try await TestClient(hub)
      let forB = try await TestClient(hub)
      let welcome = try await forA.greet(a.hello([.push, .pull]))
      try await forB.greet(b.hello([.push, .pull]))
      #expect(welcome.head.version == 0)
      #expect(try await forA.push(a, after: 0, through: 1).head == 1)
      #expect(try await forB.nextFeed().segment.contents == ["1:a1=1"])
      let own = try await forA.nextFeed()
      #expect(own.segment.records.isEmpty && own.segment.through == 1)
      b.put("b1", "2")
      #expect(
        try await forB.push(b, after: 0, through: 1, cursor: 1) == Acknowledgement(through: 1, exceptions: [], head: 2))
      let feed = try await forA.nextFeed()
      #expect(try feed.segment.contents == ["2:b1=2"])
      #expect(feed.segment.after == 1)
    }
  }

  @Test func `a lost acknowledgement is made good by the next welcome`() async throws {
    try await withHub { hub in
      var a = TestReplica()
      for count in 1...3 { a.put("k\(count)", "v") }
      let first = try await TestClient(hub)
      try await first.greet(a.hello(.push))
      // Wait for the acknowledgement so that it is certain, and pretend not to have it.
      _ = try await first.push(a, after: 0, through: 2)
      first.connection.close()
      let second = try await TestClient(hub)
      let welcome = try await second.greet(a.hello(.push))
      #expect(welcome.lastApplied == 2)
      #expect(welcome.appliedDigest == a.digests[2])
      // A replica that resends all the same changes nothing.
      #expect(try await second.push(a, after: 0, through: 3) == Acknowledgement(through: 3, exceptions: [], head: 3))
    }
  }

  @Test func `a commit of many frames arrives whole and is fed whole`() async throws {
    try await withHub { hub in
      var a = TestReplica()
      let b = TestReplica()
      let value = String(repeating: "x", count: 5_000_000)
      a.commit((0..<4).map { ("k\($0)", value) })
      let forA = try await TestClient(hub)
      try await forA.greet(a.hello(.push))
      #expect(try await forA.push(a, after: 0, through: 1).head == 1)
      let forB = try await TestClient(hub)
      try await forB.greet(b.hello(.pull))
      let feed = try await forB.nextFeed()
      #expect(feed.segment.records.count > 20_000_000)
      try feed.segment.checkFed()
    }
  }

  @Test func `a replica that does not read its feed gets no more of it than its credit`() async throws {
    try await withHub { hub in
      var a = TestReplica()
      let b = TestReplica()
      let value = String(repeating: "x", count: 50_000)
      for count in 0..<100 { a.put("k\(count)", value) }
      let forA = try await TestClient(hub)
      try await forA.greet(a.hello(.push))
      _ = try await forA.push(a, after: 0, through: 100)
      let forB = try await TestClient(hub)
      var hello = b.hello(.pull)
      hello.credit = 500_000
      try await forB.greet(hello)
      try await Task.sleep(for: .milliseconds(200))
      // The credit, and the feed that overdrew it.
      #expect(forB.connection.receivedBytes < 500_000 + 400_000)
      var cursor: Version = 0
      while cursor < 100 {
        let feed = try await forB.nextFeed()
        #expect(feed.segment.after == cursor)
        cursor = feed.segment.through
        try await forB.send(.credit(Message.feed(feed).chargedBytes))
      }
    }
  }

  @Test func `many replicas, spaces and broken links: everything arrives once`() async throws {
    var random = SeededGenerator()
    let seed = random.seed
    try await withHub { hub in
      let plans = (0..<6).map { _ in
        (0..<12).map { _ in (Int.random(in: 1...6, using: &random), Bool.random(using: &random)) }
      }
      try await withThrowingTaskGroup { group in
        for (number, plan) in plans.enumerated() {
          group.addTask {
            var replica = TestReplica()
            let space = "space\(number % 2)"
            for (commits, isCut) in plan {
              for _ in 0..<commits { replica.put("\(number) \(replica.version)", "v") }
              let client = try await TestClient(hub)
              // Claims to have recorded nothing, as if every acknowledgement had been lost.
              let welcome = try await client.greet(replica.hello(.push, space: space))
              let after = Version.random(in: 0...welcome.lastApplied)
              if isCut {
                try await client.send(
                  .push(
                    Push(segment: replica.segment(after: after, through: replica.version), cursor: 0, confirmed: 0)))
                client.connection.close()
              } else {
                _ = try await client.push(replica, after: after, through: replica.version)
                await client.connection.finish()
              }
            }
            let client = try await TestClient(hub)
            let welcome = try await client.greet(replica.hello(.push, space: space))
            if welcome.lastApplied < replica.version {
              _ = try await client.push(replica, after: welcome.lastApplied, through: replica.version)
            }
          }
        }
        try await group.waitForAll()
      }
      for space in ["space0", "space1"] {
        let client = try await TestClient(hub)
        var fed: [String] = []
        let head = try await client.greet(TestReplica().hello(.pull, space: space)).head.version
        while fed.count < head {
          let feed = try await client.nextFeed()
          fed += try feed.segment.contents.map { String($0.drop { $0 != ":" }) }
          try await client.send(.credit(Message.feed(feed).chargedBytes))
        }
        let written = plans.enumerated().filter { "space\($0.offset % 2)" == space }
          .map { $0.element.reduce(0) { $0 + $1.0 } }.reduce(0, +)
        #expect(fed.count == written, "seed \(seed)")
        #expect(Set(fed).count == written, "seed \(seed)")
      }
    }
  }

  @Test func `rows are compared page by page`() async throws {
    try await withHub { hub in
      var a = TestReplica()
      for count in 100..<900 { a.put("k\(count)", "v\(count)") }
      let client = try await TestClient(hub)
      try await client.greet(a.hello([.push, .compare]))
      _ = try await client.push(a, after: 0, through: a.version)
      var rows: [RowHash] = []
      while true {
        try await client.send(.rowsRequest(RowsRequest(after: rows.last?.key, maximumBytes: 5_000)))
        var page: Rows?
        while page == nil {
          if case .rows(let answer) = try await client.next() { page = answer }
        }
        rows += page?.rows ?? []
        if page?.isLast ?? true { break }
      }
      #expect(rows.map(\.key) == (100..<900).map { Array("k\($0)".utf8) })
    }
  }

  @Test func `a newer connection of a replica ends the older one`() async throws {
    try await withHub { hub in
      let a = TestReplica()
      let older = try await TestClient(hub)
      try await older.greet(a.hello([.push, .pull]))
      let newer = try await TestClient(hub)
      try await newer.greet(a.hello([.push, .pull]))
      #expect(try await older.refusal().code == .replaced)
      #expect(try await older.next() == nil)
      try await newer.send(.ping(5))
      while let message = try await newer.next(), message != .pong(5) {}
    }
  }

  // MARK: What is refused

  /// What is closed then is closed for what it sent: else the test runs into its time limit.
  private static func neverTimeOut(_ options: inout Hub.Options) {
    options.handshakeTimeout = .seconds(3_600)
    options.heartbeatInterval = .seconds(3_600)
    options.idleLimit = .seconds(7_200)
  }

  @Test func `whoever may not come in is told so`() async throws {
    try await withHub {
      $0.maximumConnections = 2
      $0.access = .deciding { space, token in
        space != "private" || token == [1, 2, 3]
          ? .granted(Hub.Grant(principal: nil, right: .admin)) : .refused("another token is needed")
      }
    } _: { hub in
      let a = TestReplica()
      var hello = a.hello(.push, space: "private")
      let first = try await TestClient(hub)
      try await first.send(.hello(hello))
      #expect(try await first.refusal().code == .notAuthorized)
      hello.token = [1, 2, 3]
      let second = try await TestClient(hub)
      try await second.greet(hello)
      hello.protocols = 200...201
      let third = try await TestClient(hub)
      try await third.send(.hello(hello))
      #expect(try await third.refusal().code == .unsupportedProtocol)
      while hub.connectionCount > 1 { try await Task.sleep(for: .milliseconds(5)) }
      let fourth = try await TestClient(hub)
      try await fourth.greet(TestReplica().hello(.push))
      let fifth = try await TestClient(hub)
      try await fifth.send(.hello(TestReplica().hello(.push)))
      #expect(try await fifth.refusal().code == .busy)
    }
  }

  @Test func `garbage is closed and never stops the hub`() async throws {
    var random = SeededGenerator()
    let replica = TestReplica()
    try await withHub { hub in
      let hello = Message.hello(replica.hello([.push, .pull])).encoded().frames()
      for _ in 0..<25 {
        let blobs = (0..<40).map { count -> [UInt8] in
          let noise = random.bytes(1...600)
          // A frame's header with a plausible length, a hello with damage, a hello followed by noise, or noise.
          switch count % 4 {
          case 0:
            let announced = UInt32.random(in: 8...20_000, using: &random)
            return (0..<4).map { UInt8(truncatingIfNeeded: announced >> (8 * $0)) } + noise
          case 1:
            var damaged = hello
            damaged[Int.random(in: 0..<damaged.count, using: &random)] ^= UInt8.random(in: 1...255, using: &random)
            return damaged + noise
          case 2: return hello + noise
          default: return noise
          }
        }
        try await withThrowingTaskGroup { group in
          for blob in blobs {
            group.addTask {
              let channel = try await RawSocket.send(blob, to: hub)
              // A blob that breaks off where the hub waits for more: end it here.
              try? await channel.close(mode: .output)
              try? await channel.close()
            }
          }
          try await group.waitForAll()
        }
      }
      while hub.connectionCount > 0 { try await Task.sleep(for: .milliseconds(10)) }
      try await expectServing(hub)
    }
  }

  @Test func `garbage is closed by the hub, not left to the stranger`() async throws {
    try await withHub {
      Self.neverTimeOut(&$0)
    } _: { hub in
      for bytes in [Array("GET / HTTP/1.1\r\nHost: hub\r\n\r\n".utf8), [UInt8](repeating: 0xFF, count: 100)] {
        let channel = try await RawSocket.send(bytes, to: hub)
        try await channel.closeFuture.get()
      }
    }
  }

  @Test func `a frame over the limit is closed at its header`() async throws {
    try await withHub {
      Self.neverTimeOut(&$0)
    } _: { hub in
      for payload in [ProtocolLimits.maximumHandshakeBytes + 1, 1 << 30, Int(UInt32.max) - 8] {
        let header = FrameHeader(.hello, payloadBytes: payload, hasMore: false, checksum: 0)
        // Only the header is sent: a hub that waited for the rest would wait for ever.
        let channel = try await RawSocket.send(header.encoded, to: hub)
        try await channel.closeFuture.get()
      }
      let session = try await RawSocket.send(
        Message.hello(TestReplica().hello(.push)).encoded().frames()
          + FrameHeader(.push, payloadBytes: 1 << 30, hasMore: false, checksum: 0).encoded, to: hub)
      try await session.closeFuture.get()
      try await expectServing(hub)
    }
  }

  @Test func `a slow handshake is closed, however it dawdles`() async throws {
    try await withHub {
      $0.handshakeTimeout = .milliseconds(300)
    } _: { hub in
      let silent = try await RawSocket.send([], to: hub)
      // Well before the time that a hub gives by default.
      #expect(try await RawSocket.timeUntilClosed(silent) < .seconds(8))
      let hello = Message.hello(TestReplica().hello(.push)).encoded().frames()
      let dawdling = try await RawSocket.send([], to: hub)
      let dripping = Task {
        for byte in hello {
          try await dawdling.writeAndFlush(ByteBuffer(bytes: [byte])).get()
          try await Task.sleep(for: .milliseconds(200))
        }
      }
      // Long before the hello was complete.
      #expect(try await RawSocket.timeUntilClosed(dawdling) < .milliseconds(200 * hello.count / 2))
      dripping.cancel()
      try await expectServing(hub)
    }
  }

  @Test func `fragments beyond the staging limit are refused as busy`() async throws {
    try await withHub {
      $0.stagedBytes = 3 << 20
    } _: { hub in
      var a = TestReplica()
      a.put("k", String(repeating: "x", count: 8 << 20))
      let client = try await TestClient(hub)
      try await client.greet(a.hello(.push))
      try? await client.send(.push(Push(segment: a.segment(after: 0, through: 1), cursor: 0, confirmed: 0)))
      #expect(try await client.refusal().code == .busy)
      while hub.connectionCount > 0 { try await Task.sleep(for: .milliseconds(10)) }
      try await expectServing(hub)
    }
  }

  @Test func `a silent link is pinged, and given up`() async throws {
    try await withHub {
      $0.heartbeatInterval = .milliseconds(300)
      $0.idleLimit = .milliseconds(3_000)
    } _: { hub in
      let client = try await TestClient(hub)
      try await client.greet(TestReplica().hello(.push))
      #expect(try await client.next() == .ping(1))
      while let message = try await client.next() { #expect(message.kind == .ping) }
    }
  }

  // MARK: Spaces

  @Test func `comparing makes no space, synchronising does, and who knew a space that is gone gets no other`()
    async throws
  {
    let storage = InMemoryHubStorage()
    try await withHub(storage: storage) { hub in
      let replica = TestReplica()
      let known = Position(identity: .random(), version: 0, digest: .zero)
      for (hello, code) in [
        (replica.hello(.compare), RefusalCode.unknownSpace),
        (replica.hello(.compare, cursor: known), .differentEpoch),
        (replica.hello([.push, .pull], cursor: known), .differentEpoch),
      ] {
        let client = try await TestClient(hub)
        try await client.send(.hello(hello))
        let refusal = try await client.refusal()
        #expect(refusal.code == code && refusal.message.contains("\"notes\""))
        #expect(throws: HubStorageError.unknownSpace) { try storage.space(named: "notes", creating: false) }
      }
      try await TestClient(hub).greet(replica.hello(.pull))
      try await TestClient(hub).greet(replica.hello(.compare))
    }
  }

  // MARK: Beginning and end

  @Test func `why a port cannot be bound is told apart`() {
    func error(_ number: CInt, port: Int = 80) -> HubError {
      HubError(TransportError(listeningOn: "h", port: port, IOError(errnoCode: number, reason: "bind")))
    }
    #expect(error(EADDRINUSE).code == .portInUse)
    #expect(error(EACCES).code == .notAllowed && error(EACCES).message.contains("1024"))
    #expect(error(EPERM, port: 5000).code == .notAllowed && !error(EPERM, port: 5000).message.contains("1024"))
    #expect(error(EADDRNOTAVAIL).code == .cannotListen && error(EADDRNOTAVAIL).message.contains("no such address"))
  }

  @Test func `a name that is unknown cannot be listened on, and the message says so`() async {
    let hub = Hub(storage: InMemoryHubStorage(), options: Hub.Options(host: "256.256.256.256"))
    let error = await #expect(throws: HubError.self) { try await hub.start() }
    #expect(error?.code == .cannotListen && error?.message.contains("the name is unknown") == true)
    await hub.shutdown()
  }

  @Test func `a port in use is an error, and the hub can be started elsewhere`() async throws {
    try await withHub { hub in
      var options = Hub.Options()
      options.port = try #require(hub.address).port
      let other = Hub(storage: InMemoryHubStorage(), options: options)
      let error = await #expect(throws: HubError.self) { try await other.start() }
      #expect(error?.code == .portInUse)
      #expect(other.address == nil)
      await other.shutdown()
    }
  }

  @Test func `a shutdown says goodbye, frees the port and forgets no acknowledgement`() async throws {
    let storage = InMemoryHubStorage()
    let hub = Hub(storage: storage)
    let address = try await hub.start()
    var a = TestReplica()
    for count in 0..<2_000 { a.put("k\(count)", "v") }
    let client = try await TestClient(hub)
    try await client.greet(a.hello(.push))
    for after in stride(from: 0 as Version, to: 2_000, by: 10) {
      try await client.send(.push(Push(segment: a.segment(after: after, through: after + 10), cursor: 0, confirmed: 0)))
    }
    let space = try await storage.space(named: "notes")
    await hub.shutdown()
    var acknowledged: Version = 0
    var last: Message?
    while let message = try? await client.next() {
      if case .acknowledgement(let acknowledgement) = message { acknowledged = acknowledgement.through }
      last = message
    }
    #expect(last == .goodbye)
    #expect(try space.progress(of: a.identity)?.lastApplied ?? 0 == acknowledged)
    #expect(hub.connectionCount == 0)
    #expect(hub.address == nil)
    let again = try await Listener.bind(host: address.host, port: address.port)
    again.close()
    await #expect(throws: HubError.self) { try await hub.start() }
  }

  @Test func `as a service it serves until it is told to end`() async throws {
    let hub = Hub(storage: InMemoryHubStorage())
    let service = Task { try await hub.run() }
    while hub.address == nil { try await Task.sleep(for: .milliseconds(5)) }
    try await expectServing(hub)
    service.cancel()
    try await service.value
    #expect(hub.address == nil)
  }

  @Test func `a refusal arrives even when the replica is in the middle of sending`() async throws {
    try await withHub { hub in
      for _ in 0..<20 {
        var a = TestReplica()
        a.put("k", String(repeating: "x", count: 100_000))
        a.put("k", String(repeating: "x", count: 100_000))
        let client = try await TestClient(hub)
        try await client.greet(a.hello(.push))
        let gap = Message.push(Push(segment: a.segment(after: 1, through: 2), cursor: 0, confirmed: 0))
        let sending = Task { [connection = client.connection] in while true { try await connection.send(gap) } }
        #expect(try await client.refusal().code == .gap)
        client.connection.close()
        _ = await sending.result
      }
    }
  }
}
