// Certificates and tokens, with the tool as it is used: processes, files and signals.

import Foundation
import TestSupport
import Testing

@Suite("TLS and tokens", .serialized, .timeLimit(.minutes(3)))
struct SecurityTests {
  let place: Workplace

  init() throws { place = try Workplace() }

  private func run(_ arguments: [String]) async throws -> Outcome {
    try await place.run(Workplace.tool, arguments, input: [])
  }

  /// Creates a token and puts it into a file; its id.
  private func token(_ file: String, _ options: String..., hub: String = "hub") async throws -> String {
    let outcome = try await run(["token", "create", place.file(hub), "alice", "--json"] + options)
    #expect(outcome.status == 0, "\(outcome.messages)")
    let object = try outcome.object()
    try place.write(Array((try #require(object["token"] as? String) + "\n").utf8), to: file)
    return try #require(object["id"] as? String)
  }

  private func sync(_ store: String, _ hub: Hub, _ options: String...) async throws -> Outcome {
    try await run(["sync", store, hub.url()] + options)
  }

  private func pending(_ store: String) async throws -> Int {
    try #require(try await place.run("info", store, "--json").object()["pendingChanges"] as? Int)
  }

  /// Waits until the process has said it, so often.
  private func says(_ process: ChildProcess, _ words: String, times: Int = 1) async throws {
    let deadline = ContinuousClock.now + .seconds(30)
    while process.messages.components(separatedBy: words).count <= times {
      try #require(ContinuousClock.now < deadline, "it did not say \"\(words)\", but: \(process.messages)")
      try await Task.sleep(for: .milliseconds(10))
    }
  }

  @Test("As soon as there is a token, nobody is admitted without; whoever was in without one is out")
  func firstToken() async throws {
    let store = try await place.store("s", [([1], [2])])
    let other = try await place.store("t")
    let hub = try await Hub(place)
    #expect(try await sync(store, hub).status == 0)
    let live = try place.start("sync", other, hub.url(), "--continuous")
    try await says(live, "caught up")
    let id = try await token("token")
    try await says(live, "without a token")
    let refused = try await sync(store, hub)
    #expect(refused.status == 12 && refused.messages.contains("kvsync token create"), "\(refused.messages)")
    #expect(try await sync(store, hub, "--token-file", place.file("token")).status == 0)
    let byVariable = try await place.shell(
      #"KVSYNC_TOKEN=$(cat "$1") "$kvsync" sync "$2" "$3""#, place.file("token"), store, hub.url())
    #expect(byVariable.status == 0, "\(byVariable.messages)")
    for (file, words) in [("missing", "No such file"), ("empty", "is empty")] {
      try place.write([], to: "empty")
      let outcome = try await sync(store, hub, "--token-file", place.file(file))
      #expect(outcome.status == 12 && outcome.messages.contains(words), "\(outcome.messages)")
    }
    let listed = try await place.run("token", "list", place.file("hub"), "--json").objects()
    #expect(listed.map { $0["id"] as? String } == [id] && listed[0]["state"] as? String == "active")
    live.kill(SIGTERM)
    #expect(await live.wait().status == 0)
    #expect(await hub.end() == 0)
  }

  @Test("Revoking a token ends its sessions within two seconds, and a new one in the file goes on where that ended")
  func revocation() async throws {
    let store = try await place.store("s", [([1], [2])])
    let hub = try await Hub(place)
    let id = try await token("token", "--rights", "admin")
    let live = try place.start("sync", store, hub.url(), "--continuous", "--token-file", place.file("token"))
    try await says(live, "caught up")
    let revoked = ContinuousClock.now
    let outcome = try await place.run("token", "revoke", place.file("hub"), id)
    #expect(outcome.status == 0 && outcome.text == "revoked \(id) of alice\n")
    try await says(live, "the token \(id) was revoked")
    // Twice the promise, for a machine that is busy with other tests.
    #expect(ContinuousClock.now - revoked < .seconds(4))
    try await place.run("put", store, "written", "meanwhile")
    #expect(try await pending(store) == 1)
    _ = try await token("token")
    try await says(live, "caught up", times: 2)
    while try await pending(store) > 0 { try await Task.sleep(for: .milliseconds(20)) }
    live.kill(SIGTERM)
    #expect(await live.wait().status == 0)
    let again = try await place.run("token", "revoke", place.file("hub"), "01234567")
    #expect(again.status == 1 && again.messages.contains("kvsync token revoke: the hub has no token 01234567"))
    #expect(await hub.end() == 0)
  }

  @Test("A token that expires ends its sessions; what is written then stays pending and is sent with the next one")
  func expiry() async throws {
    let store = try await place.store("s", [([1], [2])])
    let hub = try await Hub(place)
    _ = try await token("token", "--rights", "admin", "--expires-in", "2s")
    let live = try place.start("sync", store, hub.url(), "--continuous", "--token-file", place.file("token"))
    try await says(live, "caught up")
    try await says(live, "has expired")
    for count in 0..<5 { try await place.run("put", store, "\(count)", "v") }
    #expect(try await pending(store) == 5)
    let refused = try await sync(place.store("t"), hub, "--token-file", place.file("token"))
    #expect(refused.status == 12 && refused.messages.contains("has expired"), "\(refused.messages)")
    _ = try await token("token")
    while try await pending(store) > 0 { try await Task.sleep(for: .milliseconds(20)) }
    live.kill(SIGTERM)
    #expect(await live.wait().status == 0)
    #expect(await hub.end() == 0)
  }

  @Test("A token that may read pulls and compares, and pushes nothing")
  func readOnly() async throws {
    let writer = try await place.store("w", [([1], [2])])
    let reader = try await place.store("r")
    let hub = try await Hub(place)
    _ = try await token("writing", "--space", "space")
    _ = try await token("reading", "--rights", "read", "--space", "space")
    let file = place.file("reading")
    #expect(try await sync(writer, hub, "--token-file", place.file("writing")).status == 0)
    let other = try await run(["sync", writer, hub.url("other"), "--adopt", "--token-file", place.file("writing")])
    #expect(other.status == 12 && other.messages.contains("not for space \"other\""), "\(other.messages)")
    #expect(try await sync(reader, hub, "--pull", "--token-file", file).status == 0)
    #expect(try await run(["verify", reader, "--hub", hub.url(), "--token-file", file]).status == 0)
    for options in [[], ["--push"]] {
      let outcome = try await run(["sync", reader, hub.url(), "--token-file", file] + options)
      #expect(outcome.status == 12 && outcome.messages.contains("may only read"), "\(outcome.messages)")
    }
    #expect(await hub.end() == 0)
  }

  @Test("A token that names no space makes none, and says what does; one of an administrator does")
  func makingSpaces() async throws {
    let store = try await place.store("s", [([1], [2])])
    let hub = try await Hub(place)
    _ = try await token("token")
    let refused = try await sync(store, hub, "--token-file", place.file("token"))
    #expect(refused.status == 1 && refused.messages.contains("a token that names the space"), "\(refused.messages)")
    _ = try await token("admin", "--rights", "admin")
    #expect(try await sync(store, hub, "--token-file", place.file("admin")).status == 0)
    _ = try await token("naming", "--space", "other")
    let other = try await place.store("o")
    #expect(try await run(["sync", other, hub.url("other"), "--token-file", place.file("naming")]).status == 0)
    #expect(await hub.end() == 0)
  }

  @Test("A key of any kind in use will do", arguments: ["ed25519", "rsa:2048", "ec -pkeyopt ec_paramgen_curve:P-384"])
  func keys(algorithm: String) async throws {
    let authority = try await TestAuthority()
    let certificate = try await authority.certificate(
      for: "IP:127.0.0.1", algorithm: algorithm.split(separator: " ").map(String.init))
    let store = try await place.store("s", [([1], [2])])
    let hub = try await Hub(
      place, options: ["--tls-certificate", certificate.file, "--tls-key", certificate.keyFile])
    let outcome = try await sync(store, hub, "--ca-file", authority.file)
    #expect(outcome.status == 0, "\(outcome.messages)")
    #expect(await hub.end() == 0)
  }

  @Test("With TLS: whom a replica does not know as the hub it does not speak to, and each failure says what to do")
  func tls() async throws {
    let authority = try await TestAuthority()
    let certificate = try await authority.certificate(for: "IP:127.0.0.1")
    let store = try await place.store("s", [([1], [2])])
    let hub = try await Hub(
      place, options: ["--tls-certificate", certificate.file, "--tls-key", certificate.keyFile])
    let outcome = try await sync(store, hub, "--ca-file", authority.file)
    #expect(outcome.status == 0, "\(outcome.messages)")
    #expect(try await run(["verify", store, "--hub", hub.url(), "--ca-file", authority.file]).status == 0)
    let stranger = try await sync(store, hub)
    #expect(stranger.status == 12 && stranger.messages.contains("authority"), "\(stranger.messages)")
    let wrongName = try await run([
      "sync", store, hub.url().replacing("127.0.0.1", with: "localhost"), "--ca-file", authority.file,
    ])
    #expect(wrongName.status == 12 && wrongName.messages.contains("another name"), "\(wrongName.messages)")
    let plain = try await run(["sync", store, hub.url().replacing("kvsyncs", with: "kvsync")])
    #expect(plain.status == 1 && plain.messages.contains("kvsyncs://"), "\(plain.messages)")
    let missing = try await sync(store, hub, "--ca-file", place.file("none"))
    #expect(missing.status == 64 && missing.messages.contains("no such file"), "\(missing.messages)")
    // The certificate is renewed, by another authority, without a restart.
    let later = try await TestAuthority()
    let renewed = try await later.certificate(for: "IP:127.0.0.1")
    for (from, to) in [(renewed.file, certificate.file), (renewed.keyFile, certificate.keyFile)] {
      try Data(contentsOf: URL(fileURLWithPath: from)).write(to: URL(fileURLWithPath: to))
    }
    #expect(try await sync(store, hub, "--ca-file", later.file).status == 0)
    try Data("broken".utf8).write(to: URL(fileURLWithPath: certificate.file))
    #expect(try await sync(store, hub, "--ca-file", later.file).status == 0)
    #expect(hub.process.messages.contains("the former certificate stays in use"), "\(hub.process.messages)")
    #expect(await hub.end() == 0)
  }

  @Test("A hub that asks for certificates admits those of its authority alone")
  func mutualTLS() async throws {
    let authority = try await TestAuthority()
    let certificate = try await authority.certificate(for: "IP:127.0.0.1")
    let replicas = try await TestAuthority()
    let store = try await place.store("s", [([1], [2])])
    let hub = try await Hub(
      place,
      options: [
        "--tls-certificate", certificate.file, "--tls-key", certificate.keyFile, "--tls-client-ca", replicas.file,
      ])
    let none = try await sync(store, hub, "--ca-file", authority.file)
    #expect(none.status == 12 && none.messages.contains("certificate is required"), "\(none.messages)")
    for (signer, status) in [(authority, 12), (replicas, 0)] as [(TestAuthority, Int32)] {
      let own = try await signer.certificate("replica")
      let outcome = try await sync(
        store, hub, "--ca-file", authority.file, "--client-certificate", own.file, "--client-key", own.keyFile)
      #expect(outcome.status == status, "\(outcome.messages)")
    }
    #expect(await hub.end() == 0)
  }

  @Test("Where other machines can reach it a hub wants a certificate and a token, unless told otherwise")
  func reachable() async throws {
    let authority = try await TestAuthority()
    let certificate = try await authority.certificate(for: "IP:127.0.0.1")
    let tls = ["--tls-certificate", certificate.file, "--tls-key", certificate.keyFile]
    for (options, words) in [([], "certificate"), (tls, "token")] {
      let outcome = try await run(["serve", place.file("hub"), "--listen", "0.0.0.0:0"] + options)
      #expect(outcome.status == 12 && outcome.messages.contains(words), "\(outcome.messages)")
    }
    let open = try await Hub(place, listen: "0.0.0.0:0", options: ["--insecure"])
    #expect(await open.end() == 0)
    _ = try await token("token")
    let hub = try await Hub(place, listen: "0.0.0.0:0", options: tls)
    #expect(await hub.end() == 0)
    let half = try await run(["serve", place.file("hub"), "--listen", "127.0.0.1:0", "--tls-key", certificate.keyFile])
    #expect(half.status == 64 && half.messages.contains("go together"))
    let store = try await place.store("s")
    let outside = try await run(["sync", store, "kvsync://192.0.2.1/space"])
    #expect(outside.status == 12 && outside.messages.contains("kvsyncs://"), "\(outside.messages)")
  }

  @Test("The token commands say what is wrong, make a hub's directory, and list for people and programs")
  func tokenCommands() async throws {
    let hub = place.file("hub")
    let first = try await run(["token", "create", hub, "alice", "--space", "notes", "--expires-in", "90d"])
    #expect(first.status == 0 && first.text.hasPrefix("kvsync_") && first.lines.count == 1)
    #expect(first.messages.contains("not shown again") && !first.messages.contains(first.lines[0]))
    #expect(try await run(["token", "create", hub, "bob of the field", "--rights", "read"]).status == 0)
    let lines = try await run(["token", "list", hub]).lines.map { $0.components(separatedBy: "\t") }
    #expect(lines.map { $0[1] } == ["active", "active"] && lines.map { $0[2] } == ["write", "read"])
    #expect(lines.map { $0[3] } == ["alice", "bob of the field"] && lines.map { $0[4] } == ["notes", "all spaces"])
    #expect(lines[0][5].hasPrefix("until ") && lines[1][5] == "for ever")
    for (arguments, words) in [
      (["create", hub, "alice", "--rights", "all"], "read, write or admin"),
      (["create", hub, "alice", "--expires-in", "soon"], "90d"),
      (["create", hub, "alice", "--space", "../x"], "a-z"), (["create", hub, ""], "128"), (["create", hub], "holder"),
      (["create", "", "alice"], "empty"),
    ] {
      let outcome = try await run(["token"] + arguments)
      #expect(outcome.status == 64 && outcome.messages.contains(words), "\(arguments): \(outcome.messages)")
    }
    let store = try await place.store("s")
    #expect(try await run(["token", "create", store, "alice"]).status == 10)
    // What nobody could read is worth nothing.
    let unread = try await place.shell(#""$kvsync" token create "$1" carol >/dev/full"#, hub)
    #expect(unread.status != 0)
    #expect(try await run(["token", "list", hub]).lines.last?.contains("revoked") == true)
  }
}
