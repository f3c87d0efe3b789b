// Replicas and a hub as processes: they converge, exactly once, whatever is killed.

import Foundation
import TestSupport
import Testing

@Suite("serve, sync and verify --hub", .serialized)
struct SyncTests {
  let place: Workplace

  init() throws { place = try Workplace() }

  private func sync(_ store: String, _ hub: Hub, _ options: String...) async throws -> Outcome {
    try await place.run(Workplace.tool, ["sync", store, hub.url(), "--json"] + options, input: [])
  }

  private func number(_ name: String, _ outcome: Outcome) throws -> Int { try #require(outcome.object()[name] as? Int) }

  private func rows(_ range: Range<Int>, _ value: String, bytes: Int = 20) -> [(key: [UInt8], value: [UInt8])] {
    range.map { (Array("key/\($0)".utf8), Array("\(value) of \($0) ".utf8) + [UInt8](repeating: 0x61, count: bytes)) }
  }

  /// Synchronises both until nothing is pending; the dump that both then have.
  private func converge(_ first: String, _ second: String, _ hub: Hub) async throws -> [UInt8] {
    for _ in 0..<3 {
      for store in [first, second] {
        let outcome = try await sync(store, hub)
        #expect(outcome.status == 0, "\(outcome.messages)")
      }
    }
    let dump = try await place.run("dump", first).output
    #expect(try await place.run("dump", second).output == dump)
    for store in [first, second] {
      let verified = try await place.run("verify", store, "--hub", hub.url())
      #expect(verified.status == 0, "\(verified.messages)")
      #expect(try await number("pendingChanges", place.run("info", store, "--json")) == 0)
    }
    return dump
  }

  @Test(
    "serve prints one line when it is ready and ends with status 0 on SIGTERM and SIGINT", arguments: [SIGTERM, SIGINT])
  func serve(_ signal: Int32) async throws {
    let hub = try await Hub(place)
    #expect(hub.port > 0)
    #expect(await hub.end(signal) == 0)
    #expect(hub.process.readAll().isEmpty)
  }

  @Test("A port in use, and a hub's directory in use: status 11; a hub that holds neither still works")
  func inUse() async throws {
    let hub = try await Hub(place)
    let port = try await place.run("serve", place.file("other"), "--listen", hub.address)
    #expect(port.status == 11 && port.messages.contains(hub.address), "\(port.messages)")
    let directory = try await place.run("serve", place.file("hub"), "--listen", "127.0.0.1:0")
    #expect(directory.status == 11 && directory.messages.contains(place.file("hub")), "\(directory.messages)")
    let store = try await place.store("s", rows(0..<10, "v"))
    #expect(try await sync(store, hub).status == 0)
    #expect(await hub.end() == 0)
  }

  @Test("A foreign directory or a store is no hub's: status 10, and not a byte of it changes")
  func foreign() async throws {
    let store = try await place.store("s", rows(0..<10, "v"))
    let before = try FileManager.default.subpathsOfDirectory(atPath: store)
    for path in [store, "\(store)/kvsync.store"] {
      let outcome = try await place.run("serve", path, "--listen", "127.0.0.1:0")
      #expect(outcome.status == 10 && outcome.messages.contains(path), "\(outcome.messages)")
    }
    #expect(try FileManager.default.subpathsOfDirectory(atPath: store) == before)
  }

  @Test("Two replicas that wrote offline end up equal, the last writer wins, and the conflict is on record")
  func convergence() async throws {
    let first = try await place.store("first", rows(0..<3000, "first"))
    let second = try await place.store("second", rows(2990..<3010, "second"))
    try await place.run("put", first, "key/2999", "newest")
    try await place.run("rm", first, "key/2998")
    let hub = try await Hub(place)
    let dump = try await converge(first, second, hub)
    #expect(try await place.run("get", second, "key/2999").text == "newest")
    #expect(try await place.run("get", second, "key/2998").status == 1)
    #expect(try await place.run("get", first, "key/2990").text.hasPrefix("second"))
    var keys: Set<String> = []
    for store in [first, second] {
      for conflict in try await place.run("conflicts", store, "--json").objects() {
        keys.insert(try #require(conflict["key"] as? String))
        #expect(conflict["losingValue"] != nil)
      }
    }
    #expect(keys == Set((2990..<3000).map { "key/\($0)" }))

    // Once more moves nothing: everything was applied exactly once.
    for store in [first, second] {
      let again = try await sync(store, hub)
      #expect(try number("pushed", again) == 0 && number("pulled", again) == 0)
    }
    let third = try await place.store("third")
    let pulled = try await sync(third, hub)
    // As rows, without those that were deleted.
    #expect(try pulled.status == 0 && number("pulled", pulled) == 3009)
    #expect(try await place.run("dump", third).output == dump)
    #expect(await hub.end() == 0)
  }

  @Test("Another hub is refused with status 16 and what to do; with --adopt the store goes over, killed anywhere")
  func adopt() async throws {
    var seeded = SeededGenerator()
    let home = try await Hub(place)
    let store = try await place.store("s", rows(0..<3000, "home"))
    let other = try await place.store("o", rows(2900..<3100, "other"))
    #expect(try await sync(store, home).status == 0)
    let foreign = try await Hub(place, directory: "foreign")
    #expect(try await sync(other, foreign).status == 0)
    for pending in [0, 1] {
      if pending > 0 { try await place.run("put", store, "pending", "v") }
      let refused = try await place.run("sync", store, foreign.url())
      #expect(refused.status == 16 && refused.messages.contains("--adopt"), "\(refused.messages)")
      #expect(refused.messages.contains("1 change stays pending") == (pending > 0), "\(refused.messages)")
    }
    #expect(try await place.run("sync", store, foreign.url(), "--adopt", "--dry-run").status == 64)
    let before = try await place.run("dump", store).output
    var kills = 0
    var isAdopting = false
    while true {
      let killed = try place.start(["sync", store, foreign.url()] + (isAdopting ? [] : ["--adopt"]))
      try await Task.sleep(for: .milliseconds(Int.random(in: 0..<120, using: &seeded)))
      killed.kill(SIGKILL)
      let status = await killed.wait().status
      // What the store holds is there all along, whatever it is offered to.
      #expect(try await place.run("get", store, "key/7").status == 0)
      let standing = try await place.run("status", store, "--json").object()
      if try #require(standing["adopting"] as? Bool) { isAdopting = true }
      kills += 1
      if status == 0 || kills == 8 { break }
    }
    let last = try await sync(store, foreign, "--adopt")
    #expect(last.status == 0 && last.output.isEmpty == false, "\(last.messages)")
    _ = try await sync(other, foreign)
    _ = try await sync(store, foreign)
    let dump = try await place.run("dump", store)
    #expect(try await place.run("dump", other).output == dump.output)
    #expect(dump.lines.count == 3101 && before != dump.output)
    let standing = try await place.run("status", store, foreign.url(), "--json")
    let hubVersion = try number("hubVersion", standing)
    // One commit that was there; each row that was offered and what was pending once, but the 100 that were newer there.
    #expect(hubVersion == 1 + 2900 + 1)
    #expect(try await place.run("sync", store, home.url()).status == 16)
    await home.end()
    await foreign.end()
  }

  @Test("plan and sync --dry-run say what sync then does, and change nothing")
  func plan() async throws {
    let hub = try await Hub(place)
    let first = try await place.store("first", rows(0..<40, "old") + rows(0..<30, "new"))
    let second = try await place.store("second", rows(35..<38, "second"))
    let missing = try await place.run("plan", first, hub.url(), "--json")
    #expect(try missing.status == 0 && missing.object()["createsSpace"] as? Bool == true)
    #expect(!FileManager.default.fileExists(atPath: place.file("hub/spaces/space")))
    #expect(try await sync(first, hub).status == 0)
    for number in 0..<5 { try await place.run("put", first, "key/1", "\(number)") }
    let info = try await place.run("info", second, "--json").output
    for arguments in [["plan"], ["sync", "--dry-run"]] {
      let plan = try await place.run(
        Workplace.tool, arguments + [second, hub.url(), "--json"], input: [])
      #expect(plan.status == 3, "\(plan.messages)")
      #expect(try number("expectedConflicts", plan) == 3 && number("sendChanges", plan) == 3)
      #expect(try number("receiveChanges", plan) == 40)
    }
    #expect(try await place.run("info", second, "--json").output == info)
    let plan = try await place.run("plan", first, hub.url(), "--json")
    #expect(try number("pending", plan) == 5 && number("superseded", plan) == 4 && number("sendCommits", plan) == 1)
    let text = try await place.run("plan", first, hub.url())
    #expect(text.lines.count == 3 && text.text.contains("send     1 change in 1 commit"), "\(text.text)")
    let every = try await place.run("plan", first, hub.url(), "--json", "--history", "every", "--push")
    #expect(try number("superseded", every) == 0 && number("sendCommits", every) == 5)
    let synced = try await sync(first, hub)
    #expect(try number("pushed", synced) == 5 && number("superseded", synced) == 4)
    let pulled = try await sync(second, hub, "--pull")
    #expect(try number("pulled", pulled) == 40 && number("conflicts", pulled) == 3)
    #expect(try await place.run("sync", second, hub.url(), "--dry-run", "--continuous").status == 64)
    #expect(await hub.end() == 0)
  }

  @Test("The policy decides", arguments: [("localWins", "mine"), ("remoteWins", "theirs"), ("lastWriterWins", "mine")])
  func policies(_ policy: String, _ winner: String) async throws {
    let theirs = try await place.store("theirs")
    let mine = try await place.store("mine")
    try await place.run("put", theirs, "k", "theirs")
    try await place.run("put", mine, "k", "mine")
    let hub = try await Hub(place)
    #expect(try await sync(theirs, hub).status == 0)
    #expect(try await sync(mine, hub, "--policy", policy).status == 0)
    #expect(try await place.run("get", mine, "k").text == winner)
    #expect(try await sync(theirs, hub).status == 0)
    #expect(try await place.run("get", theirs, "k").text == winner)
    #expect(await hub.end() == 0)
  }

  @Test("--push sends and receives nothing, --pull receives and sends nothing")
  func oneDirection() async throws {
    let first = try await place.store("first", rows(0..<10, "first"))
    let second = try await place.store("second", rows(10..<20, "second"))
    let hub = try await Hub(place)
    let pushed = try await sync(first, hub, "--push")
    #expect(try pushed.status == 0 && number("pushed", pushed) == 10 && number("pulled", pushed) == 0)
    let pulled = try await sync(second, hub, "--pull")
    #expect(try pulled.status == 0 && number("pulled", pulled) == 10 && number("pushed", pulled) == 0)
    #expect(try number("pending", pulled) == 10)
    #expect(try await place.run("ls", first).lines.count == 10)
    #expect(try await place.run("ls", second).lines.count == 20)
    _ = try await converge(first, second, hub)
    #expect(await hub.end() == 0)
  }

  @Test("verify --hub names the first key that differs, with status 3, and changes nothing")
  func difference() async throws {
    let store = try await place.store("s", rows(0..<100, "v"))
    let hub = try await Hub(place)
    #expect(try await sync(store, hub).status == 0)
    #expect(try await place.run("verify", store, "--hub", hub.url()).status == 0)
    try await place.run("put", store, "key/50", "other")
    try await place.run("rm", store, "key/60")
    let outcome = try await place.run("verify", store, "--hub", hub.url())
    #expect(
      outcome.status == 3 && (outcome.text + outcome.messages).contains("key/50"), "\(outcome.text)\(outcome.messages)")
    let json = try await place.run("verify", store, "--hub", hub.url(), "--json")
    #expect(json.status == 3 && json.text.contains("key/50"))
    #expect(try await sync(store, hub).status == 0)
    #expect(try await place.run("verify", store, "--hub", hub.url()).status == 0)
    #expect(await hub.end() == 0)
  }

  @Test("A hub that is not there: status 13, and what is pending stays")
  func unreachable() async throws {
    let store = try await place.store("s", rows(0..<10, "v"))
    let hub = try await Hub(place)
    let url = hub.url()
    #expect(await hub.end() == 0)
    for command in [["sync", store, url], ["verify", store, "--hub", url]] {
      let outcome = try await place.run(Workplace.tool, command, input: [])
      #expect(outcome.status == 13 && outcome.messages.contains(hub.address), "\(command): \(outcome.messages)")
    }
    #expect(try await number("pendingChanges", place.run("info", store, "--json")) == 10)
  }

  @Test("Garbage on the hub's port harms nobody: it hangs up on that connection and serves on")
  func garbage() async throws {
    var random = SeededGenerator()
    let store = try await place.store("s", rows(0..<100, "v"))
    let hub = try await Hub(place)
    #expect(try await sync(store, hub).status == 0)
    await hub.sendRaw(Array("GET / HTTP/1.1\r\nHost: hub\r\n\r\n".utf8))
    await hub.sendRaw([])
    await hub.sendRaw([0xFF, 0xFF, 0xFF, 0xFF, 1, 0, 0, 0, 0, 0, 0, 0])
    await hub.sendRaw([UInt8](repeating: 0, count: 100_000))
    for _ in 0..<20 { await hub.sendRaw((0..<300).map { _ in UInt8.random(in: .min ... .max, using: &random) }) }
    try await place.run("put", store, "after", "garbage")
    let outcome = try await sync(store, hub)
    #expect(outcome.status == 0, "seed \(random.seed): \(outcome.messages)")
    #expect(try await place.run("verify", store, "--hub", hub.url()).status == 0)
    #expect(await hub.end() == 0)
  }

  @Test(
    "The hub is killed with SIGKILL in the middle and started again: both replicas and the hub end up equal, exactly once"
  )
  func killedHub() async throws {
    let first = try await place.store("first", rows(0..<12_000, "first", bytes: 400))
    let second = try await place.store("second", rows(11_000..<15_000, "second", bytes: 400))
    var hub = try await Hub(place)
    let address = hub.address
    var cuts = 0
    // Killed as soon as its log has grown by another third of what the replicas have to send.
    for cut in 1...2 {
      let victim = hub
      async let firstOutcome = sync(first, victim)
      async let secondOutcome = sync(second, victim)
      let deadline = ContinuousClock.now + .seconds(30)
      while logBytes() < cut * 2_200_000, ContinuousClock.now < deadline {
        try await Task.sleep(for: .milliseconds(2))
      }
      await victim.end(SIGKILL)
      for outcome in [try await firstOutcome, try await secondOutcome] {
        #expect(outcome.status == 13 || outcome.status == 0, "\(outcome.status) \(outcome.messages)")
        if outcome.status == 13 { cuts += 1 }
      }
      hub = try await Hub(place, listen: address)
    }
    #expect(cuts > 0)
    let dump = try await converge(first, second, hub)
    #expect(dump.split(separator: UInt8(ascii: "\n")).count == 15_000)
    // Twice the same change would be a commit more than the two replicas made.
    for store in [first, second] { #expect(try await place.run("verify", store).status == 0) }
    #expect(await hub.end() == 0)
  }

  /// The size of the hub's log.
  private func logBytes() -> Int {
    let names = FileManager.default.enumerator(atPath: place.file("hub"))?.compactMap { $0 as? String } ?? []
    return names.filter { $0.hasSuffix(".kvlog") }.reduce(0) { sum, name in
      let attributes = try? FileManager.default.attributesOfItem(atPath: place.file("hub/\(name)"))
      return sum + (attributes?[.size] as? Int ?? 0)
    }
  }

  @Test("sync --continuous is live, survives the hub's death, and ends with status 0 on a signal")
  func continuous() async throws {
    let first = try await place.store("first")
    let second = try await place.store("second")
    var hub = try await Hub(place)
    let live = try place.start("sync", second, hub.url(), "--continuous")
    for round in 0..<2 {
      try await place.run("put", first, "k\(round)", "live")
      #expect(try await sync(first, hub).status == 0)
      var value = ""
      for _ in 0..<1000 where value != "live" {
        try await Task.sleep(for: .milliseconds(50))
        value = try await place.run("get", second, "k\(round)").text
      }
      #expect(value == "live", "round \(round)")
      if round == 0 {
        let address = hub.address
        await hub.end(SIGKILL)
        hub = try await Hub(place, listen: address)
      }
    }
    live.kill(SIGTERM)
    #expect(await live.wait().status == 0)
    #expect(await hub.end() == 0)
  }

  @Test("A hub that lost its data is refused with what to do, and the replica keeps everything")
  func lostHub() async throws {
    let store = try await place.store("s", rows(0..<10, "v"))
    let hub = try await Hub(place)
    #expect(try await sync(store, hub).status == 0)
    #expect(await hub.end() == 0)
    try FileManager.default.removeItem(atPath: place.file("hub"))
    let empty = try await Hub(place)
    let outcome = try await sync(store, empty)
    #expect(outcome.status == 16 && !outcome.messages.isEmpty, "\(outcome.status) \(outcome.messages)")
    #expect(try await place.run("ls", store).lines.count == 10)
    #expect(await empty.end() == 0)
  }

  @Test("Spaces of one hub are apart from each other")
  func spaces() async throws {
    let first = try await place.store("first", rows(0..<10, "v"))
    let second = try await place.store("second", rows(10..<15, "v"))
    let hub = try await Hub(place)
    #expect(try await place.run("sync", first, hub.url("one")).status == 0)
    #expect(try await place.run("sync", second, hub.url("two")).status == 0)
    #expect(try await place.run("ls", first).lines.count == 10)
    #expect(try await place.run("ls", second).lines.count == 5)
    #expect(await hub.end() == 0)
  }
}
