// Who may come in, and stay: credentials, rights, owners, and how often one may fail.

import HubTestSupport
import KVLog
import KVProtocol
import KVTransport
import Synchronization
import TestSupport
import Testing

@testable import KVHub

@Suite(.timeLimit(.minutes(1))) struct AccessTests {
  /// Grants by token: its text is the principal, a colon and the right. May be changed while the hub serves.
  private final class Door: Sendable {
    private let revoked = Mutex<Set<String>>([])
    private let weakened = Mutex<Set<String>>([])

    func revoke(_ token: String) { _ = revoked.withLock { $0.insert(token) } }
    func weaken(_ token: String) { _ = weakened.withLock { $0.insert(token) } }

    var access: Hub.Access {
      .deciding { [self] space, token in
        let text = String(decoding: token, as: UTF8.self)
        let words = text.split(separator: ":")
        guard words.count == 2, let right = Hub.Right(rawValue: String(words[1])),
          !revoked.withLock({ $0.contains(text) })
        else { return .refused("no") }
        let isWeak = weakened.withLock { $0.contains(text) }
        return .granted(Hub.Grant(principal: String(words[0]), right: isWeak ? .read : right))
      }
    }
  }

  private func withHub(
    _ change: (inout Hub.Options) -> Void = { _ in }, _ body: (Hub, Door) async throws -> Void
  ) async throws {
    let door = Door()
    var options = Hub.Options()
    options.access = door.access
    change(&options)
    let hub = Hub(storage: InMemoryHubStorage(), options: options)
    try await hub.start()
    do { try await body(hub, door) } catch {
      await hub.shutdown()
      throw error
    }
    await hub.shutdown()
  }

  private func greeted(_ hub: Hub, _ hello: Hello, _ token: String) async throws -> TestClient {
    var hello = hello
    hello.token = Array(token.utf8)
    let client = try await TestClient(hub)
    client.welcomed = try await client.greet(hello)
    return client
  }

  private func refusal(_ hub: Hub, _ hello: Hello, _ token: String) async throws -> RefusalCode {
    var hello = hello
    hello.token = Array(token.utf8)
    let client = try await TestClient(hub)
    try await client.send(.hello(hello))
    return try await client.refusal().code
  }

  @Test func `reading is pulling and comparing, writing is pushing as well, and only an administrator makes spaces`()
    async throws
  {
    try await withHub { hub, _ in
      var a = TestReplica()
      a.put("k", "v")
      #expect(try await refusal(hub, a.hello([.push, .pull]), "a:write") == .unknownSpace)
      let first = try await greeted(hub, a.hello([.push, .pull]), "a:admin")
      #expect(try await first.push(a, after: 0, through: 1).head == 1)
      let b = TestReplica()
      for mode in [SessionMode.push, [.push, .pull]] {
        #expect(try await refusal(hub, b.hello(mode), "b:read") == .readOnly)
      }
      let reader = try await greeted(hub, b.hello([.pull, .compare]), "b:read")
      #expect(try await reader.nextFeed().segment.contents == ["1:k=v"])
      // What was not asked for in the hello is not served afterwards either.
      try await reader.send(.push(Push(segment: a.segment(after: 0, through: 1), cursor: 0, confirmed: 0)))
      #expect(try await reader.refusal().code == .violation)
      _ = try await greeted(hub, a.hello([.push, .pull]), "a:write")
    }
  }

  @Test func `a replica belongs to whoever synchronised it first; another one neither gets in nor ends a session`()
    async throws
  {
    try await withHub { hub, _ in
      var a = TestReplica()
      a.put("k", "v")
      let own = try await greeted(hub, a.hello([.push, .pull]), "alice:admin")
      for mode in [SessionMode.push, .pull] {
        #expect(try await refusal(hub, a.hello(mode), "mallory:admin") == .otherOwner)
      }
      #expect(try await own.push(a, after: 0, through: 1).head == 1)
      // A new token of the same holder is as good.
      _ = try await greeted(hub, a.hello([.push, .pull]), "alice:write")
      _ = try await greeted(hub, TestReplica().hello(.pull), "mallory:read")
    }
  }

  @Test func `who may only read begins no new epoch, whatever it claims to have seen`() async throws {
    try await withHub { hub, _ in
      var a = TestReplica()
      a.put("k", "v")
      let first = try await greeted(hub, a.hello([.push, .pull]), "a:admin")
      let head = try await first.push(a, after: 0, through: 1).head
      let epoch = try #require(
        try await greeted(hub, TestReplica().hello(.pull), "b:read").welcomed?.head.identity)
      let claim = Position(identity: epoch, version: head + 7, digest: .zero)
      func hello(_ mode: SessionMode) -> Hello {
        var hello = TestReplica().hello(mode, cursor: claim)
        hello.cursorSpace = epoch
        return hello
      }
      #expect(try await refusal(hub, hello(.pull), "b:read") == .busy)
      #expect(try await greeted(hub, TestReplica().hello(.pull), "b:read").welcomed?.head.identity == epoch)
      let other = try await greeted(hub, hello([.push, .pull]), "c:write")
      #expect(other.welcomed?.head.identity != epoch, "who may write does, as a hub that was restored needs it")
    }
  }

  @Test func `a session ends when its credential is withdrawn, and when it no longer goes as far as the session`()
    async throws
  {
    try await withHub { hub, door in
      let a = TestReplica()
      let b = TestReplica()
      let c = TestReplica()
      let forA = try await greeted(hub, a.hello([.push, .pull]), "a:admin")
      let forB = try await greeted(hub, b.hello([.push, .pull]), "b:write")
      let forC = try await greeted(hub, c.hello(.pull), "b:write")
      door.revoke("a:admin")
      door.weaken("b:write")
      let began = ContinuousClock.now
      #expect(try await forA.refusal().code == .notAuthorized)
      #expect(try await forB.refusal().code == .readOnly)
      #expect(ContinuousClock.now - began < .seconds(5))
      try await Task.sleep(for: HubLimits.accessInterval * 2)
      try await forC.send(.ping(1))
      while let message = try await forC.next(), message != .pong(1) { #expect(message.kind != .refuse) }
    }
  }

  @Test func `an address that fails too often is not listened to for a while, whatever it shows`() async throws {
    try await withHub {
      $0.failedTries = 3
      $0.failedTryInterval = .seconds(1)
    } _: { hub, _ in
      let a = TestReplica()
      for _ in 0..<3 { #expect(try await refusal(hub, a.hello(.pull), "nonsense") == .notAuthorized) }
      #expect(try await refusal(hub, a.hello(.pull), "a:admin") == .tooManyTries)
      try await Task.sleep(for: .milliseconds(1_100))
      _ = try await greeted(hub, a.hello(.pull), "a:admin")
    }
  }

  @Test func `a principal without a usable name is nobody`() async throws {
    var options = Hub.Options()
    options.access = .deciding { _, token in
      .granted(Hub.Grant(principal: String(decoding: token, as: UTF8.self), right: .admin))
    }
    let hub = Hub(storage: InMemoryHubStorage(), options: options)
    try await hub.start()
    for name in ["", "a\nb", String(repeating: "x", count: 129)] {
      #expect(try await refusal(hub, TestReplica().hello(.pull), name) == .notAuthorized)
    }
    _ = try await greeted(hub, TestReplica().hello(.pull), String(repeating: "x", count: 128))
    await hub.shutdown()
  }

  @Test func `where other machines can reach it, a hub wants a certificate and credentials, unless told otherwise`()
    async throws
  {
    let certificate = try await TestAuthority().certificate()
    let tls = Hub.TLS(certificateFile: certificate.file, keyFile: certificate.keyFile)
    let door = Door()
    for (isSecure, hasDoor) in [(false, false), (false, true), (true, false)] {
      var options = Hub.Options(host: "0.0.0.0")
      if isSecure { options.tls = tls }
      if hasDoor { options.access = door.access }
      let hub = Hub(storage: InMemoryHubStorage(), options: options)
      let error = await #expect(throws: HubError.self) { try await hub.start() }
      #expect(error?.code == .insecure)
      await hub.shutdown()
      options.allowsInsecure = true
      let open = Hub(storage: InMemoryHubStorage(), options: options)
      try await open.start()
      await open.shutdown()
    }
    var options = Hub.Options(host: "0.0.0.0")
    options.tls = tls
    options.access = door.access
    let hub = Hub(storage: InMemoryHubStorage(), options: options)
    try await hub.start()
    await hub.shutdown()
  }

  // MARK: The limiter, by itself

  @Test func `failures cost a try each, and time gives them back one by one`() {
    var limiter = FailureLimiter(burst: 3, interval: .seconds(2), capacity: 10)
    for now in [0, 0, 0] { limiter.failed("a", now: .seconds(now)) }
    #expect(!limiter.admits("a", now: .zero) && limiter.admits("b", now: .zero))
    #expect(!limiter.admits("a", now: .milliseconds(1_999)))
    #expect(limiter.admits("a", now: .seconds(2)))
    limiter.failed("a", now: .seconds(2))
    #expect(!limiter.admits("a", now: .seconds(3)))
    // Many at once lock out for no longer than the last of them alone would.
    for _ in 0..<1_000 { limiter.failed("a", now: .seconds(10)) }
    #expect(!limiter.admits("a", now: .seconds(11)) && limiter.admits("a", now: .seconds(12)))
  }

  @Test func `it remembers no more addresses than it may, and forgets those that failed least`() {
    var limiter = FailureLimiter(burst: 3, interval: .seconds(2), capacity: 10)
    for _ in 0..<3 { limiter.failed("guesser", now: .zero) }
    for number in 0..<1_000 { limiter.failed("\(number)", now: .milliseconds(number)) }
    #expect(limiter.count == 10)
    #expect(!limiter.admits("guesser", now: .seconds(1)))
  }
}
