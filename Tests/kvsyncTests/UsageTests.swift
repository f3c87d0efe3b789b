// Wrong usage, closed descriptors, readers that go away: the tool says what is wrong and never does something else.

import Foundation
import Testing

@Suite("Usage")
struct UsageTests {
  let place: Workplace

  init() throws { place = try Workplace() }

  private func error(_ outcome: Outcome) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(outcome.messages.utf8)) as? [String: Any])
  }

  @Test(
    "An argument that begins with a dash and is no option: status 64, the way to write it, nothing written",
    arguments: ["-dash", "-h1", "-help", "-1", "-xyz", "--frob", "-ha"])
  func dashes(_ word: String) async throws {
    let store = try await place.store("s")
    for arguments in [
      ["put", store, "k", word], ["put", store, word, "v"], ["get", store, word], ["rm", store, word],
    ] {
      let outcome = try await place.run(Workplace.tool, arguments, input: [])
      #expect(outcome.status == 64 && outcome.output.isEmpty, "\(arguments)")
      #expect(
        outcome.messages.contains(word) && outcome.messages.contains(" -- ")
          && outcome.messages.contains("Usage: kvsync"),
        "\(outcome.messages)")
      let json = try await place.run(Workplace.tool, arguments + ["--json"], input: [])
      let object = try error(json)
      #expect(json.status == 64 && object["exitStatus"] as? Int == 64)
      #expect(object["command"] as? String == arguments[0] && (object["remedy"] as? String)?.contains("--") == true)
    }
    #expect(try await place.run("ls", store).output.isEmpty)
    #expect(try await place.run("put", store, "--", word, "v").status == 0)
    #expect(try await place.run("get", store, "--", word).text == "v")
    #expect(try await place.run("ls", store, "--prefix=\(word)").lines == [word])
    let prefix = try await place.run("ls", store, "--prefix", word)
    #expect(prefix.status == 64 && prefix.messages.contains("--prefix=-x"), "\(prefix.messages)")
  }

  @Test("Help is for those who ask for it: status 0, on standard output; for an unknown command it is an error")
  func help() async throws {
    for arguments in [["--help"], ["-h"], ["help"], ["help", "put"], ["put", "--help"], ["put", "-h"]] {
      let outcome = try await place.run(Workplace.tool, arguments, input: [])
      #expect(outcome.status == 0 && outcome.messages.isEmpty && outcome.text.contains("USAGE: kvsync"), "\(arguments)")
    }
    for arguments in [["help", "nothing"], ["nothing"], ["nothing", "--help"]] {
      let outcome = try await place.run(Workplace.tool, arguments, input: [])
      #expect(outcome.status == 64 && outcome.output.isEmpty && outcome.messages.contains("nothing"), "\(arguments)")
    }
  }

  @Test("A failure names the whole command, that of a subcommand too, in words and in JSON")
  func names() async throws {
    let store = try await place.store("s")
    let hub = place.file("hub")
    let commands = [
      ["scopes", "remove", store, "absent"], ["parked", "show", store, "9"],
      ["parked", "retry", store, "9"], ["parked", "drop", store, "9"], ["parked", "export", store, "9"],
      ["conflicts", "show", store, "9.0"], ["token", "revoke", hub, "absent"],
      ["scopes", "list", "nothing"], ["scopes", "add", "nothing", "x"], ["parked", "list", "nothing"],
      ["conflicts", "list", "nothing"], ["conflicts", "revert", "nothing", "9.0"],
      ["conflicts", "resolve", "nothing", "9.0", "--with", "local"],
    ]
    for arguments in commands {
      let name = arguments[...1].joined(separator: " ")
      let outcome = try await place.run(Workplace.tool, arguments, input: [])
      #expect(outcome.status != 0 && outcome.messages.hasPrefix("kvsync \(name): "), "\(outcome.messages)")
      let json = try await place.run(Workplace.tool, arguments + ["--json"], input: [])
      #expect(try error(json)["command"] as? String == name)
    }
  }

  @Test("An empty path is wrong usage, not the working directory")
  func emptyPath() async throws {
    for arguments in [["info", ""], ["init", ""], ["put", "", "k", "v"], ["serve", "", "--listen", "127.0.0.1:0"]] {
      let outcome = try await place.run(Workplace.tool, arguments, input: [])
      #expect(outcome.status == 64 && outcome.messages.contains("empty"), "\(arguments): \(outcome.messages)")
    }
  }

  @Test("A path that is not UTF-8 is refused, and no other one is made in its place")
  func pathOfBytes() async throws {
    let store = try await place.store("s")
    let before = try FileManager.default.contentsOfDirectory(atPath: place.path).filter { !$0.hasSuffix("in") }
    for command in ["init d", "get d k", "serve d --listen 127.0.0.1:0", "load '\(store)' d"] {
      let line = command.replacingOccurrences(of: " d", with: " \"$d\"")
      let outcome = try await place.shell(#"cd "$1"; d=$(printf 'd\377'); "$kvsync" \#(line)"#, place.path)
      #expect(outcome.status == 64 && outcome.messages.contains("not UTF-8"), "\(command): \(outcome.messages)")
    }
    let after = try FileManager.default.contentsOfDirectory(atPath: place.path)
    #expect(after.allSatisfy { before.contains($0) || $0.hasSuffix(".in") || $0.hasSuffix(".err") }, "\(after)")
  }

  @Test("What cannot be listened on is told apart, with the part that is wrong")
  func listen() async throws {
    for (listen, status, word) in [
      ("127.0.0.1", 64, "port"), ("127.0.0.1:99999", 64, "65535"), ("::1:0", 64, "brackets"), ("*:0", 64, "0.0.0.0"),
      (":1", 64, "host"), ("192.0.2.1:0", 1, "no such address"), ("256.256.256.256:0", 1, "name is unknown"),
    ] {
      let outcome = try await place.run("serve", place.file("hub"), "--insecure", "--listen", listen)
      #expect(outcome.status == status && outcome.messages.contains(word), "\(listen): \(outcome.messages)")
      #expect(!outcome.messages.contains("SocketAddressError"))
    }
  }

  /// Whether some ports are kept from users who are not root.
  static let hasPrivilegedPorts: Bool = {
    let start = try? String(contentsOfFile: "/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding: .utf8)
    return BadInputTests.canBeSomebodyElse && (Int(start?.filter(\.isNumber) ?? "") ?? 1024) > 81
  }()

  @Test(
    "A port that this user may not listen on: status 12, and which ports are free",
    .enabled(if: hasPrivilegedPorts, "Needs a user for whom some ports are kept."))
  func privilegedPort() async throws {
    let tool = place.file("kvsync")
    #expect(try await place.shell(#"cp "$kvsync" "$1"; chmod 777 "$2""#, tool, place.path).status == 0)
    let user = getuid() == 0 ? "setpriv --reuid=65534 --regid=65534 --clear-groups " : ""
    let outcome = try await place.shell("\(user)\(tool) serve \(place.file("h")) --listen 127.0.0.1:81")
    #expect(outcome.status == 12 && outcome.messages.contains("1024"), "\(outcome.status) \(outcome.messages)")
  }

  @Test("With standard descriptors closed, nothing that a command prints or reads ends up in or comes from the store")
  func closedDescriptors() async throws {
    let store = try await place.store("s", [([0x61], [0x62])])
    for command in ["ls", "info --json", "dump", "log", "verify --json", "put K V --json", "rm a --json"] {
      let words = command.split(separator: " ").map(String.init)
      let line = ([words[0], "'\(store)'"] + words.dropFirst()).joined(separator: " ")
      let outcome = try await place.shell(#""$kvsync" \#(line) >&- 2>"$1""#, place.file("err"))
      #expect(outcome.status == 1, "\(command)")
      #expect(try String(contentsOfFile: place.file("err"), encoding: .utf8).contains("standard output"))
    }
    for command in ["put '\(store)' k", "load '\(store)'"] {
      let outcome = try await place.shell(#""$kvsync" \#(command) <&-"#)
      #expect(outcome.status == 1 && outcome.messages.contains("standard input"), "\(outcome.messages)")
    }
    #expect(try await place.shell(#""$kvsync" get "$1" nothing 2>&-"#, store).status == 1)
    #expect(try await place.shell(#""$kvsync" put "$1" last one <&- >&- 2>&-"#, store).status == 0)
    #expect(try await place.run("verify", store).status == 0)
    #expect(try await place.run("ls", store).lines == ["K", "last"])
  }

  @Test("A reader that goes away ends no work: load loads all, and a failure keeps its status")
  func workWithoutReader() async throws {
    let store = try await place.store("s")
    let lines = (0..<3000).map { #"{"key":"\#($0)","value":"v"}"# }.joined(separator: "\n")
    try place.write(Array(lines.utf8), to: "rows")
    let load = try await place.shell(
      #"{ "$kvsync" load "$1" "$2" --batch 1 --json; echo "status $?" >&2; } | head -n 1"#, store, place.file("rows"))
    #expect(load.lines.count == 1 && load.messages == "status 0\n", "\(load.messages)")
    #expect(try await place.run("ls", store).lines.count == 3000)
    let sync = try await place.shell(
      #"{ sleep 0.3; "$kvsync" sync "$1" kvsync://127.0.0.1:1/s; echo "status $?" >&2; } | true"#, store)
    #expect(sync.messages.contains("status 13"), "\(sync.messages)")
  }

  @Test("A load that fails midway prints its summary, with what is durable, and the message says how far that goes")
  func loadMidway() async throws {
    let store = try await place.store("s")
    let lines = Array(((1...5).map { #"{"key":"k\#($0)","value":"v"}"# } + ["", "bad"]).joined(separator: "\n").utf8)
    let json = try await place.run("load", store, "--batch", "2", "--json", input: lines)
    #expect(json.status == 1)
    let summary = try json.objects().last
    #expect(summary?["loaded"] as? Int == 4 && summary?["commits"] as? Int == 2 && summary?["lines"] as? Int == 4)
    #expect(try error(json)["error"] as? String == "standard input, line 7: not JSON at byte 1: expected '{'")
    #expect((try error(json)["remedy"] as? String)?.contains("4 changes in 2 commits, through line 4") == true)
    #expect(try await place.run("ls", store).lines == ["k1", "k2", "k3", "k4"])
    let nothing = try await place.run("load", store, input: Array("bad".utf8))
    #expect(
      nothing.status == 1 && nothing.messages.contains("line 1") && nothing.messages.contains("Nothing was written"))
  }

  @Test("A failure in JSON has a remedy or none, never an empty one")
  func remedies() async throws {
    let store = try await place.store("s")
    for arguments in [
      ["put", store, "", "v"], ["get", place.file("nowhere"), "k"], ["get", store, "k"],
      ["sync", store, "kvsync://127.0.0.1:1/s"], ["load", store, place.file("nothing")], ["init", store],
    ] {
      let outcome = try await place.run(Workplace.tool, arguments + ["--json"], input: [])
      let object = try error(outcome)
      #expect(outcome.status != 0 && (object["remedy"] as? String) != "", "\(arguments)")
      #expect(object["error"] as? String != "", "\(arguments)")
    }
  }

  @Test(
    "init that runs out of space can be run again, whatever it had made by then",
    .enabled(if: BadInputTests.canMount, "Needs root, and leave to mount."))
  func initMidway() async throws {
    let disk = place.file("disk")
    try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: true)
    for kilobytes in [16, 80, 112, 160, 300, 500] {
      #expect(try await place.shell("mount -t tmpfs -o size=\(kilobytes)k kvsync-test '\(disk)'").status == 0)
      let full = try await place.run("init", "\(disk)/s")
      let absent = try await place.run("get", "\(disk)/s", "k")
      let room = try await place.shell("mount -o remount,size=20m '\(disk)'")
      let again = try await place.run("init", "\(disk)/s")
      let put = try await place.run("put", "\(disk)/s", "k", "v")
      let twice = try await place.run("init", "\(disk)/s")
      #expect(try await place.shell("umount '\(disk)'").status == 0)
      #expect(full.status == 15 && absent.status == 10 && room.status == 0, "\(kilobytes): \(full.messages)")
      #expect(again.status == 0 && put.status == 0, "\(kilobytes): \(again.messages)")
      #expect(twice.status == 1 && twice.messages.contains("already"))
    }
  }
}
