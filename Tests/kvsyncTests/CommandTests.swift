// Each command, run as a process: what it prints where, and what it ends with.

import Foundation
import TestSupport
import Testing

@Suite("Commands")
struct CommandTests {
  let place: Workplace

  init() throws { place = try Workplace() }

  @Test("put, get, rm: a value comes back as the bytes it was, an absent key is status 1")
  func putGetRemove() async throws {
    let store = try await place.store("s")
    #expect(try await place.run("put", store, "weather/today", "rain").status == 0)
    let got = try await place.run("get", store, "weather/today")
    #expect(got.status == 0 && got.text == "rain" && got.messages.isEmpty)

    let bytes = Array(UInt8.min...UInt8.max) + [0x0A]
    #expect(try await place.run("put", store, "raw", input: bytes).status == 0)
    #expect(try await place.run("get", store, "raw").output == bytes)
    #expect(try await place.run("put", store, "empty", "").status == 0)
    #expect(try await place.run("get", store, "empty").output == [])

    #expect(try await place.run("rm", store, "raw").status == 0)
    let absent = try await place.run("get", store, "raw")
    #expect(absent.status == 1 && absent.output.isEmpty && absent.messages.contains("no key \"raw\""))
    let version = try await place.run("info", store, "--json").object()["localVersion"] as? Int
    #expect(try await place.run("rm", store, "raw").status == 1)
    #expect(try await place.run("info", store, "--json").object()["localVersion"] as? Int == version)
  }

  @Test("A key of any bytes can be given as an argument")
  func binaryArguments() async throws {
    let store = try await place.store("s")
    let put = try await place.shell(
      #"k=$(printf 'a\377\300z'); "$kvsync" put "$1" "$k" "$k" && "$kvsync" get "$1" "$k""#, store)
    #expect(put.status == 0 && put.output == [0x61, 0xFF, 0xC0, 0x7A])
    #expect(try await place.run("ls", store).output == [0x61, 0xFF, 0xC0, 0x7A, 0x0A])
  }

  @Test("ls lists keys in order, by prefix, up to a limit, one a line whatever is in them")
  func list() async throws {
    let keys = ["a", "b/1", "b/2", "b/\n", "c"]
    let store = try await place.store("s", keys.map { (Array($0.utf8), [1, 2, 3]) })
    #expect(try await place.run("ls", store).lines == ["a", #"b/\n"#, "b/1", "b/2", "c"])
    #expect(try await place.run("ls", store, "--prefix", "b/", "--limit", "2").lines == [#"b/\n"#, "b/1"])
    #expect(try await place.run("ls", store, "--limit", "0").output.isEmpty)
    #expect(try await place.run("ls", store, "--prefix", "nothing").status == 0)
    let rows = try await place.run("ls", store, "--prefix", "c", "--json").objects()
    #expect(rows.count == 1 && rows[0]["key"] as? String == "c" && rows[0]["valueBytes"] as? Int == 3)
  }

  @Test("info --json has every number that scripts rely on")
  func info() async throws {
    let store = try await place.store("s")
    #expect(
      try await place.run(
        "load", store, "--batch", "2",
        input: Array(
          #"""
          {"key":"a","value":"1"}
          {"key":"b","value":"22"}
          {"key":"a","deleted":true}

          """#.utf8)
      ).status == 0)
    let information = try await place.run("info", store, "--json").object()
    let expected = [
      "localVersion": 2, "serverVersion": 0, "acknowledgedVersion": 0, "pendingChanges": 3, "pendingBytes": 6,
      "keys": 1,
      "conflicts": 0, "logSegments": 1,
    ]
    for (name, value) in expected { #expect(information[name] as? Int == value, "\(name)") }
    #expect(try #require(information["logBytes"] as? Int) > 0)
    let text = try await place.run("info", store)
    #expect(text.status == 0 && text.text.contains("local version"))
  }

  @Test("info names the process that has read for the longest, for how long, and what it holds back, while it lives")
  func infoOldestReader() async throws {
    let rows = (0..<3_000).map { (key: Array("key \($0)".utf8), value: [UInt8](repeating: 0x61, count: 200)) }
    let store = try await place.store("s", rows)
    func information() async throws -> [String: Any] { try await place.run("info", store, "--json").object() }
    let quiet = try await information()
    for name in ["oldestReaderProcess", "oldestReaderSeconds", "oldestReaderHeldBytes"] {
      #expect(quiet[name] is NSNull, "\(name)")
    }
    // Nobody takes more of what it prints: it waits in the middle of its snapshot.
    let reader = try place.start("dump", store)
    try #require(!reader.readSome().isEmpty)
    let writer = try place.start("load", store)
    let lines = rows.flatMap { Workplace.line($0.key, $0.value) }
    for _ in 0..<4 { try #require(writer.write(lines)) }
    let deadline = ContinuousClock.now + .seconds(30)
    var held = try await information()
    while held["oldestReaderSeconds"] as? Int ?? 0 < 1, ContinuousClock.now < deadline {
      try await Task.sleep(for: .milliseconds(100))
      held = try await information()
    }
    #expect(held["oldestReaderProcess"] as? Int == Int(reader.identifier))
    #expect(try #require(held["oldestReaderSeconds"] as? Int) >= 1)
    #expect(try #require(held["oldestReaderHeldBytes"] as? Int) > 100_000)
    let text = try await place.run("info", store).text
    #expect(text.contains("oldest reader") && text.contains("process \(reader.identifier), for "))
    reader.kill(SIGKILL)
    _ = await reader.wait()
    while !(try await information()["oldestReaderProcess"] is NSNull) {
      try #require(ContinuousClock.now < deadline, "a reader that is dead holds nothing back")
      try await Task.sleep(for: .milliseconds(100))
    }
    writer.closeInput()
    #expect(await writer.wait().status == 0)
  }

  @Test("log prints every change in order, from a version on")
  func log() async throws {
    let store = try await place.store("s")
    for value in ["1", "2", "3"] { try await place.run("put", store, "k\(value)", value) }
    try await place.run("rm", store, "k2")
    let changes = try await place.run("log", store, "--json").objects()
    #expect(changes.compactMap { $0["version"] as? Int } == [1, 2, 3, 4])
    #expect(changes.compactMap { $0["key"] as? String } == ["k1", "k2", "k3", "k2"])
    #expect(changes[0]["value"] as? String == "1" && changes[3]["deleted"] as? Bool == true)
    #expect(try await place.run("log", store, "--since", "3").lines.count == 1)
    #expect(try await place.run("log", store, "--since", "4").lines.isEmpty)
  }

  @Test("load tells in JSON of each commit, and refuses a bad line with its number while the commits before it stay")
  func load() async throws {
    let store = try await place.store("s")
    let good = (1...5).map { #"{"key":"k\#($0)","value":"v"}"# }.joined(separator: "\n")
    let loaded = try await place.run("load", store, "--batch", "2", "--json", input: Array(good.utf8))
    let lines = try loaded.objects()
    #expect(lines.dropLast().compactMap { $0["changes"] as? Int } == [2, 2, 1])
    #expect(lines.last?["loaded"] as? Int == 5 && lines.last?["commits"] as? Int == 3)

    try place.write(Array("x1\t1\nx2\t2\nx3\t3\nbad\n".utf8), to: "rows.tsv")
    let bad = try await place.run("load", store, place.file("rows.tsv"), "--format", "tsv", "--batch", "2")
    #expect(bad.status == 1 && bad.messages.contains("line 4"))
    #expect(try await place.run("ls", store, "--prefix", "x").lines == ["x1", "x2"])
    #expect(try await place.run("load", store, place.file("nothing")).status == 1)
    #expect(try await place.run("load", store, place.path).status == 1)
    #expect(try await place.run("load", store, input: []).status == 0)
  }

  @Test("load closes a commit at 8 MiB, so that memory stays bounded with large values")
  func largeCommits() async throws {
    let store = try await place.store("s")
    var lines: [UInt8] = []
    for number in 0..<5 { lines += Workplace.line([UInt8(number)], [UInt8](repeating: 0x61, count: 3 << 20)) }
    let summary = try await place.run("load", store, "--json", input: lines).objects().last
    #expect(summary?["loaded"] as? Int == 5 && summary?["commits"] as? Int == 2)
  }

  @Test("Data goes to standard output only, messages to standard error only")
  func streams() async throws {
    let store = try await place.store("s")
    let load = try await place.run("load", store, input: Array(#"{"key":"a","value":"b"}"#.utf8))
    #expect(load.output.isEmpty && load.messages.contains("loaded 1 change (23 B) in 1 commit:"))
    #expect(!load.messages.contains("\u{1B}"))
    let dump = try await place.run("dump", store)
    #expect(dump.text == "{\"key\":\"a\",\"value\":\"b\"}\n" && dump.messages.isEmpty)
    #expect(try await place.run("conflicts", store).status == 0)
  }

  @Test("A reader that goes away ends the command quietly")
  func brokenPipe() async throws {
    let rows = (0..<40_000).map { (key: Array("key/\($0)".utf8), value: Array("some value of \($0)".utf8)) }
    let store = try await place.store("s", rows)
    for command in ["dump", "ls", "log"] {
      let outcome = try await place.shell(
        #"{ "$kvsync" "$2" "$1"; echo "status $?" >&2; } | head -n 1"#, store, command)
      #expect(outcome.lines.count == 1 && outcome.messages == "status 0\n", "\(command): \(outcome.messages)")
    }
  }

  @Test(
    "Wrong usage is status 64, with a hint",
    arguments: [
      [], ["frobnicate"], ["get"], ["get", "s"], ["put", "s", "k", "v", "more"], ["ls", "s", "--limit", "x"],
      ["ls", "s", "--limit", "-1"], ["load", "s", "--batch", "0"], ["load", "s", "--format", "xml"],
      ["log", "s", "--since", "-1"], ["serve", "d"], ["serve", "d", "--listen", "nowhere"], ["sync", "s"],
      ["sync", "s", "http://h:1/s"], ["sync", "s", "kvsync://h:1/s", "--push", "--pull"],
      ["sync", "s", "kvsync://h:1/s", "--policy", "coin"], ["verify"], ["info", "s", "--frob"],
    ])
  func usage(_ arguments: [String]) async throws {
    let outcome = try await place.run(Workplace.tool, arguments, input: [])
    #expect(outcome.status == (arguments.isEmpty ? 0 : 64), "\(arguments): \(outcome.messages)")
    #expect(outcome.output.isEmpty != arguments.isEmpty)
  }

  @Test(
    "Every command explains itself with an example, and knows --json",
    arguments: [
      "init", "put", "get", "rm", "ls", "load", "dump", "log", "info", "serve", "sync", "verify", "backup",
      "compact", "destroy", "plan", "status", "export", "import", "conflicts list", "conflicts show",
      "conflicts resolve",
      "conflicts revert", "parked list", "parked show", "parked retry", "parked drop", "parked export",
    ])
  func help(_ command: String) async throws {
    let words = command.split(separator: " ").map(String.init)
    let outcome = try await place.run(Workplace.tool, words + ["--help"], input: [])
    #expect(outcome.status == 0)
    #expect(outcome.text.contains("Example: kvsync \(command)") && outcome.text.contains("--json"))
    let long = outcome.lines.filter { $0.count > 80 && !$0.hasPrefix("USAGE:") }
    #expect(long.isEmpty, "\(long)")
  }

  @Test("--version names the version")
  func version() async throws {
    let outcome = try await place.run("--version")
    #expect(outcome.status == 0 && outcome.text.hasPrefix("kvsync "))
  }

  @Test("Errors are JSON with --json: what, and what to do")
  func jsonErrors() async throws {
    let outcome = try await place.run("get", place.file("nowhere"), "k", "--json")
    #expect(outcome.status == 10)
    let error = try JSONSerialization.jsonObject(with: Data(outcome.messages.utf8)) as? [String: Any]
    #expect(error?["exitStatus"] as? Int == 10 && (error?["error"] as? String)?.contains("nowhere") == true)
  }
}
