// TLS between a listener and connections over loopback, with certificates made for each test.

import Foundation
import KVLog
import KVProtocol
import KVTransport
import NIOCore
import NIOPosix
import NIOSSL
import Synchronization
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(2))) struct TLSTests {
  private static func listener(
    _ certificate: TestAuthority.Certificate, clientAuthority: String? = nil,
    report: @escaping @Sendable (CertificateSource.News) -> Void = { _ in }
  ) async throws -> Listener {
    let files = ServerTLS(
      certificateFile: certificate.file, keyFile: certificate.keyFile, clientAuthorityFile: clientAuthority)
    return try await Listener.bind(
      host: "127.0.0.1", port: 0, tls: try CertificateSource(files, report: report))
  }

  /// Says hello over a fresh link, and whether it arrived and was answered.
  private static func exchange(
    _ listener: Listener, _ tls: ClientTLS, at host: String = "localhost"
  ) async throws -> Bool {
    let near = try await Connection.connect(host: host, port: listener.localPort, tls: tls)
    let replica = Identity.random()
    let hello = Message.hello(
      Hello(
        mode: .pull, replica: replica, space: "notes", cursor: nil, lastVersion: 0,
        shipped: .start(of: replica)))
    try await near.send(hello)
    // Before it, there may be those whose handshake failed.
    for await far in listener.connections {
      guard let message = try? await far.messages.first(where: { _ in true }) else { continue }
      try await far.send(.pong(7))
      let answer = try await near.messages.first { _ in true }
      await near.finish()
      return message == hello && answer == .pong(7)
    }
    return false
  }

  /// Why a link does not come about.
  private static func failure(
    _ listener: Listener, _ tls: ClientTLS?, at host: String = "localhost"
  ) async -> TransportError? {
    await #expect(throws: TransportError.self) {
      let near = try await Connection.connect(host: host, port: listener.localPort, tls: tls)
      try await near.send(.ping(1))
      for try await _ in near.messages {}
      throw TransportError.closed
    }
  }

  @Test func `messages go both ways over TLS, to a name and to an address`() async throws {
    let authority = try await TestAuthority()
    let listener = try await Self.listener(try await authority.certificate())
    for host in ["localhost", "127.0.0.1"] {
      #expect(try await Self.exchange(listener, ClientTLS(authorityFile: authority.file), at: host))
    }
  }

  @Test func `a certificate that has expired, is for another name or of an unknown authority is told apart`()
    async throws
  {
    let authority = try await TestAuthority()
    let other = try await TestAuthority()
    let trusting = ClientTLS(authorityFile: authority.file)
    let good = try await Self.listener(try await authority.certificate())
    let peer = "localhost:\(good.localPort)"
    #expect(await Self.failure(good, ClientTLS(authorityFile: other.file)) == .tls(.unknownAuthority, peer: peer))
    #expect(await Self.failure(good, ClientTLS()) == .tls(.unknownAuthority, peer: peer))
    let old = try await Self.listener(try await authority.certificate("old", days: -1))
    #expect(await Self.failure(old, trusting) == .tls(.expired, peer: "localhost:\(old.localPort)"))
    let elsewhere = try await Self.listener(try await authority.certificate("other", for: "DNS:hub.example.com"))
    for host in ["localhost", "127.0.0.1"] {
      let error = await Self.failure(elsewhere, trusting, at: host)
      #expect(error == .tls(.otherName, peer: "\(host):\(elsewhere.localPort)"))
    }
    // Nor does it help whoever answers for the name to have a certificate for the address that he made it lead to.
    let address = try await Self.listener(try await authority.certificate("address", for: "IP:127.0.0.1,IP:::1"))
    #expect(await Self.failure(address, trusting) == .tls(.otherName, peer: "localhost:\(address.localPort)"))
    let starred = try await Self.listener(try await authority.certificate("star", for: "DNS:*.example.com"))
    for (name, isRight) in [("hub.EXAMPLE.com", true), ("example.com", false), ("a.hub.example.com", false)] {
      let tls = ClientTLS(authorityFile: authority.file, hubName: name)
      if isRight {
        #expect(try await Self.exchange(starred, tls))
      } else {
        #expect(await Self.failure(starred, tls) == .tls(.otherName, peer: "localhost:\(starred.localPort)"))
      }
    }
    var named = trusting
    named.hubName = "hub.example.com"
    #expect(try await Self.exchange(elsewhere, named, at: "127.0.0.1"))
  }

  @Test func `a hub that wants a certificate gets one of its authority, or no session`() async throws {
    let authority = try await TestAuthority()
    let clients = try await TestAuthority()
    let listener = try await Self.listener(try await authority.certificate(), clientAuthority: clients.file)
    var tls = ClientTLS(authorityFile: authority.file)
    guard case .tls(.certificateRequired, _) = await Self.failure(listener, tls) else {
      Issue.record("a replica without a certificate was taken in, or not told why not")
      return
    }
    let stranger = try await authority.certificate("stranger")
    (tls.certificateFile, tls.keyFile) = (stranger.file, stranger.keyFile)
    guard case .tls(.certificateRefused, _) = await Self.failure(listener, tls) else {
      Issue.record("a certificate of another authority was accepted, or its holder not told why not")
      return
    }
    let own = try await clients.certificate("replica")
    (tls.certificateFile, tls.keyFile) = (own.file, own.keyFile)
    #expect(try await Self.exchange(listener, tls))
  }

  @Test func `plaintext to a TLS port and TLS to a plaintext port are told for what they are`() async throws {
    let authority = try await TestAuthority()
    let secure = try await Self.listener(try await authority.certificate())
    #expect(await Self.failure(secure, nil) == .protocolBroken(.tlsSpoken))

    let plain = try await Listener.bind(host: "127.0.0.1", port: 0)
    async let seen: TransportError? = {
      var connections = plain.connections.makeAsyncIterator()
      guard let far = await connections.next() else { return nil }
      defer { far.close() }
      return await #expect(throws: TransportError.self) { for try await _ in far.messages {} }
    }()
    let error = await Self.failure(plain, ClientTLS(authorityFile: authority.file))
    #expect(error == .tls(.closed, peer: "localhost:\(plain.localPort)"))
    #expect(await seen == .protocolBroken(.tlsSpoken))
  }

  @Test func `whoever speaks no more than TLS 1.2 is turned away`() async throws {
    let authority = try await TestAuthority()
    let listener = try await Self.listener(try await authority.certificate())
    var configuration = TLSConfiguration.makeClientConfiguration()
    configuration.maximumTLSVersion = .tlsv12
    configuration.certificateVerification = .none
    let context = try NIOSSLContext(configuration: configuration)
    let channel = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(NIOSSLClientHandler(context: context, serverHostname: nil))
        }
      }
      .connect(host: "127.0.0.1", port: listener.localPort).get()
    try await channel.closeFuture.get()
    var connections = listener.connections.makeAsyncIterator()
    let far = try #require(await connections.next())
    let error = await #expect(throws: TransportError.self) { for try await _ in far.messages {} }
    #expect(error == .tls(.tooOld, peer: far.remoteAddress))
    #expect(try await Self.exchange(listener, ClientTLS(authorityFile: authority.file)))
  }

  @Test func `without TLS a link stays on this machine, unless that is allowed`() async throws {
    let error = await #expect(throws: TransportError.self) { try await Listener.bind(host: "0.0.0.0", port: 0) }
    #expect(error == .plaintextListenRefused(host: "0.0.0.0", port: 0))
    for host in ["127.0.0.1", "localhost"] { try await Listener.bind(host: host, port: 0).close() }
    let listener = try await Listener.bind(host: "0.0.0.0", port: 0, allowsPlaintext: true)
    let own = try #require(
      try System.enumerateDevices().compactMap { $0.address?.ipAddress }
        .first { !$0.hasPrefix("127.") && !$0.contains(":") }, "the machine has an address")
    let refused = await #expect(throws: TransportError.self) {
      try await Connection.connect(host: own, port: listener.localPort)
    }
    #expect(refused == .plaintextRefused(host: own, port: listener.localPort))
    _ = try await Connection.connect(host: own, port: listener.localPort, allowsPlaintext: true)
    _ = try await Connection.connect(host: "127.0.0.1", port: listener.localPort)
    let authority = try await TestAuthority()
    let certificate = try await authority.certificate(for: "IP:\(own)")
    let files = ServerTLS(certificateFile: certificate.file, keyFile: certificate.keyFile)
    let secure = try await Listener.bind(host: "0.0.0.0", port: 0, tls: try CertificateSource(files) { _ in })
    #expect(try await Self.exchange(secure, ClientTLS(authorityFile: authority.file), at: own))
  }

  @Test func `a new certificate is used from the next connection on, and one of no use is reported once`() async throws
  {
    let former = try await TestAuthority()
    let later = try await TestAuthority()
    let used = try await former.certificate()
    let news = Mutex<[String]>([])
    let listener = try await Self.listener(used) { item in
      news.withLock { news in
        switch item {
        case .renewed: news.append("renewed")
        case .kept(let error): news.append("\(error)")
        }
      }
    }
    let (old, new) = (ClientTLS(authorityFile: former.file), ClientTLS(authorityFile: later.file))
    #expect(try await Self.exchange(listener, old))
    try Data("no certificate".utf8).write(to: URL(fileURLWithPath: used.file))
    for _ in 0..<2 { #expect(try await Self.exchange(listener, old)) }
    #expect(news.withLock { $0.count == 1 && $0[0].contains(used.file) && $0[0].contains("no certificate") })
    // The certificate is there before its key.
    let renewed = try await later.certificate()
    try Data(contentsOf: URL(fileURLWithPath: renewed.file)).write(to: URL(fileURLWithPath: used.file))
    #expect(try await Self.exchange(listener, old))
    #expect(news.withLock { $0.count == 2 && $0[1].contains("does not go with the key") })
    try Data(contentsOf: URL(fileURLWithPath: renewed.keyFile)).write(to: URL(fileURLWithPath: used.keyFile))
    #expect(try await Self.exchange(listener, new))
    #expect(news.withLock { $0.last == "renewed" && $0.count == 3 })
    #expect(await Self.failure(listener, old) == .tls(.unknownAuthority, peer: "localhost:\(listener.localPort)"))
  }

  @Test func `a file that is of no use is named, with the reason`() async throws {
    let authority = try await TestAuthority()
    let scratch = try Scratch()
    let good = try await authority.certificate()
    try Data().write(to: URL(fileURLWithPath: scratch.path("empty")))
    for (file, key, reason) in [
      (scratch.path("none"), good.keyFile, "no such file"), (scratch.path, good.keyFile, "directory"),
      (scratch.path("empty"), good.keyFile, "empty"), (good.keyFile, good.keyFile, "no certificate"),
      (good.file, good.file, "no private key"), (authority.file, good.keyFile, "does not go with the key"),
    ] {
      let error = #expect(throws: TransportError.self) {
        try CertificateSource(ServerTLS(certificateFile: file, keyFile: key)) { _ in }
      }
      #expect("\(error as Any)".contains(reason) || error?.description.contains(reason) == true)
    }
    let error = await #expect(throws: TransportError.self) {
      try await Connection.connect(host: "localhost", port: 1, tls: ClientTLS(authorityFile: scratch.path("none")))
    }
    #expect(error == .badTLSFile(path: scratch.path("none"), reason: "there is no such file"))
  }

  @Test func `a hub that never answers the handshake is given up in time`() async throws {
    let listener = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
      .bind(host: "127.0.0.1", port: 0).get()
    let port = try #require(listener.localAddress?.port)
    let error = await #expect(throws: TransportError.self) {
      try await Connection.connect(host: "127.0.0.1", port: port, tls: ClientTLS(), timeout: .milliseconds(300))
    }
    #expect(error == .connectTimedOut(host: "127.0.0.1", port: port))
    try await listener.close()
  }
}
