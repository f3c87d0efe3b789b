// Bad input, full disks and foreign directories: the stated exit status, a message that says what to do, and nothing lost.

import Foundation
import TestSupport
import Testing

@Suite("Bad input")
struct BadInputTests {
  let place: Workplace

  init() throws { place = try Workplace() }

  /// The commands that work on a store, each with what it needs besides.
  static let commands: [[String]] = [
    ["put", "STORE", "k", "v"], ["get", "STORE", "k"], ["rm", "STORE", "k"], ["ls", "STORE"], ["load", "STORE"],
    ["dump", "STORE"], ["log", "STORE"], ["info", "STORE"], ["conflicts", "STORE"], ["verify", "STORE"],
    ["sync", "STORE", "kvsync://127.0.0.1:1/s"], ["verify", "STORE", "--hub", "kvsync://127.0.0.1:1/s"],
  ]

  private func run(_ command: [String], on store: String) async throws -> Outcome {
    try await place.run(Workplace.tool, command.map { $0 == "STORE" ? store : $0 }, input: [])
  }

  /// Names, sizes and contents below a directory.
  private func contents(_ path: String) throws -> [String: Data?] {
    var contents: [String: Data?] = [:]
    for name in try FileManager.default.subpathsOfDirectory(atPath: path) {
      contents[name] = FileManager.default.contents(atPath: "\(path)/\(name)")
    }
    return contents
  }

  @Test("No such store: status 10, the path and how to create one, and nothing appears there", arguments: commands)
  func noStore(_ command: [String]) async throws {
    let path = place.file("nowhere")
    let outcome = try await run(command, on: path)
    #expect(outcome.status == 10 && outcome.output.isEmpty, "\(outcome.messages)")
    #expect(outcome.messages.contains(path) && outcome.messages.contains("kvsync init"))
    #expect(!FileManager.default.fileExists(atPath: path))
  }

  @Test("A foreign directory: status 10, and not a byte of it changes", arguments: commands + [["init", "STORE"]])
  func foreign(_ command: [String]) async throws {
    let path = place.file("photos")
    try FileManager.default.createDirectory(atPath: "\(path)/log", withIntermediateDirectories: true)
    try place.write([1, 2, 3], to: "photos/holiday.jpg")
    try place.write([4], to: "photos/log/a.log")
    let before = try contents(path)
    let outcome = try await run(command, on: path)
    #expect(outcome.status == 10 && outcome.messages.contains(path), "\(outcome.messages)")
    #expect(try contents(path) == before)
    let file = try await run(command, on: "\(path)/holiday.jpg")
    #expect(file.status == 10, "\(file.messages)")
    #expect(try contents(path) == before)
  }

  @Test("A store of a newer format: refused by every command, unchanged", arguments: commands + [["init", "STORE"]])
  func newerFormat(_ command: [String]) async throws {
    let store = try await place.store("s", [([1], [2])])
    let manifest = "\(store)/kvsync.store"
    let text = try String(contentsOfFile: manifest, encoding: .utf8)
    try text.replacingOccurrences(of: "format 1", with: "format 999").write(
      toFile: manifest, atomically: true, encoding: .utf8)
    let before = try contents(store)
    let outcome = try await run(command, on: store)
    #expect(
      outcome.status == 1 && outcome.messages.contains("999") && outcome.messages.contains("newer"),
      "\(outcome.messages)")
    #expect(try contents(store) == before)
    try text.write(toFile: manifest, atomically: true, encoding: .utf8)
    #expect(try await place.run("dump", store).lines.count == 1)
  }

  @Test("init on a store: refused, and the store stays as it is")
  func initialisedTwice() async throws {
    let store = try await place.store("s", [([1], [2])])
    let outcome = try await place.run("init", store)
    #expect(outcome.status == 1 && outcome.messages.contains("already"))
    #expect(try await place.run("dump", store).lines.count == 1)
  }

  @Test("A key over the limit: status 64 as an argument, a line number in a file, the limit in the message")
  func keyLimit() async throws {
    let store = try await place.store("s")
    let longest = String(repeating: "k", count: 511)
    #expect(try await place.run("put", store, longest, "v").status == 0)
    for arguments in [["put", store, longest + "k", "v"], ["get", store, longest + "k"], ["put", store, "", "v"]] {
      let outcome = try await place.run(Workplace.tool, arguments, input: [])
      #expect(outcome.status == 64 && !outcome.messages.isEmpty, "\(arguments[0]): \(outcome.messages)")
    }
    #expect(try await place.run("put", store, longest + "k", "v").messages.contains("511"))
    let load = try await place.run(
      "load", store, input: Workplace.line([1], [2]) + Workplace.line([UInt8](repeating: 1, count: 512), []))
    #expect(load.status == 1 && load.messages.contains("line 2") && load.messages.contains("511"))
    #expect(try await place.run("ls", store).lines == [longest])
  }

  @Test("A value over the limit: status 64, and the limit in the message")
  func valueLimit() async throws {
    let store = try await place.store("s")
    let most = [UInt8](repeating: 0x61, count: 16 << 20)
    #expect(try await place.run("put", store, "k", input: most).status == 0)
    let outcome = try await place.run("put", store, "k", input: most + [0x61])
    #expect(outcome.status == 64 && outcome.messages.contains("\(16 << 20)"), "\(outcome.messages)")
    #expect(try await place.run("get", store, "k").output == most)
  }

  @Test("A store that another process writes: everybody else writes and reads it too")
  func sharedStore() async throws {
    let store = try await place.store("s", [([0x61], [0x62])])
    let writer = try place.start("load", store, "--batch", "1", "--json")
    writer.write(Workplace.line([0x63], [0x64]))
    #expect(!writer.readSome().isEmpty)
    #expect(try await place.run("put", store, "k", "v").status == 0)
    #expect(try await place.run("rm", store, "a").status == 0)
    #expect(try await place.run("get", store, "c").text == "d")
    #expect(try await place.run("get", store, "k").text == "v")
    #expect(try await place.run("verify", store).status == 0)
    writer.write(Workplace.line([0x65], [0x66]))
    writer.closeInput()
    #expect(await writer.wait().status == 0)
    #expect(try await place.run("get", store, "e").text == "f")
    #expect(try await place.run("get", store, "a").status != 0)
    #expect(try await place.run("verify", store).status == 0)
  }

  @Test("A damaged manifest is status 14 for every command", arguments: commands)
  func damagedManifest(_ command: [String]) async throws {
    let store = try await place.store("s", [([1], [2])])
    let manifest = "\(store)/kvsync.store"
    var bytes = try Data(contentsOf: URL(fileURLWithPath: manifest))
    bytes[bytes.count - 30] ^= 1
    try bytes.write(to: URL(fileURLWithPath: manifest))
    let outcome = try await run(command, on: store)
    #expect(outcome.status == 14 && outcome.messages.contains("kvsync.store"), "\(outcome.messages)")
  }

  @Test("A flipped bit in the log or in the index is found by verify: status 14, and where")
  func damagedData() async throws {
    let rows = (0..<500).map { (key: Array("key/\($0)".utf8), value: [UInt8](repeating: 7, count: 200)) }
    let store = try await place.store("s", rows)
    #expect(try await place.run("verify", store).status == 0)
    let segment = try #require(
      FileManager.default.contentsOfDirectory(atPath: "\(store)/log").first { $0.hasSuffix(".kvlog") })
    for (file, pattern) in [("log/\(segment)", "key/250"), ("index.mdb", "key/250")] {
      let url = URL(fileURLWithPath: "\(store)/\(file)")
      let whole = try Data(contentsOf: url)
      let place = try #require(whole.range(of: Data(pattern.utf8))).upperBound + 40
      var damaged = whole
      damaged[place] ^= 4
      try damaged.write(to: url)
      let outcome = try await self.place.run("verify", store)
      #expect(outcome.status == 14 && outcome.messages.contains(store), "\(file): \(outcome.messages)")
      try whole.write(to: url)
      #expect(try await self.place.run("verify", store).status == 0)
    }
  }

  /// As root every file may be read: the tool is then run as the user "nobody".
  static let canBeSomebodyElse = getuid() != 0 || FileManager.default.isExecutableFile(atPath: "/usr/bin/setpriv")

  @Test(
    "A store that may not be read or written: status 12",
    .enabled(if: canBeSomebodyElse, "Needs setpriv, to become another user."))
  func notAllowed() async throws {
    let store = try await place.store("s", [([0x61], [0x62])])
    let tool = place.file("kvsync")
    // Copied by another process: were the file open for writing here, a child started meanwhile would keep it busy.
    #expect(try await place.shell(#"cp "$kvsync" "$1""#, tool).status == 0)
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: place.path)
    try FileManager.default.setAttributes([.posixPermissions: 0], ofItemAtPath: store)
    let user = getuid() == 0 ? "setpriv --reuid=65534 --regid=65534 --clear-groups " : ""
    for command in [
      "get STORE a", "put STORE a b", "info STORE", "verify STORE", "init STORE", "init /kvsync-of-nobody",
    ] {
      let text = command.replacingOccurrences(of: "STORE", with: store)
      let outcome = try await place.shell("\(user)\(tool) \(text)")
      #expect(outcome.status == 12 && !outcome.messages.isEmpty, "\(command): \(outcome.status) \(outcome.messages)")
    }
    try FileManager.default.setAttributes([.posixPermissions: 0o750], ofItemAtPath: store)
    #expect(try await place.run("get", store, "a").text == "b")
  }

  /// Mounting needs root, and not every container allows it to root.
  static let canMount: Bool = {
    guard getuid() == 0, let place = try? Workplace() else { return false }
    let mount = try? ChildProcess(
      "/bin/sh", ["-c", "mount -t tmpfs -o size=1m kvsync-test '\(place.path)' && umount '\(place.path)'"],
      errorFile: "/dev/null")
    return mount?.waitBlocking().status == 0
  }()

  @Test(
    "A full disk: status 15, every acknowledged commit stays, and with more space writing goes on",
    .enabled(if: canMount, "Needs root, and leave to mount."))
  func fullDisk() async throws {
    let disk = place.file("disk")
    try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: true)
    #expect(try await place.shell("mount -t tmpfs -o size=12m kvsync-test '\(disk)'").status == 0)
    do {
      let store = try await place.store("disk/s")
      var lines: [UInt8] = []
      for number in 0..<400 {
        lines += Workplace.line(Array("key/\(number)".utf8), [UInt8](repeating: 0x61, count: 100_000))
      }
      let full = try await place.run("load", store, "--batch", "1", "--json", input: lines)
      #expect(full.status == 15 && full.messages.contains("space"), "\(full.status) \(full.messages)")
      let acknowledged = full.lines.count { $0.hasPrefix("{\"version\"") }
      #expect(acknowledged > 5 && acknowledged < 400)
      // Reading needs no space there; nothing that was acknowledged is gone.
      let keys = Set(try await place.run("ls", store).lines)
      for number in 0..<acknowledged { #expect(keys.contains("key/\(number)")) }
      #expect(try await place.run("verify", store).status == 0)
      let put = try await place.run("put", store, "more", input: [UInt8](repeating: 0x62, count: 4 << 20))
      #expect(put.status == 15, "\(put.status) \(put.messages)")
      #expect(try await place.shell("mount -o remount,size=200m '\(disk)'").status == 0)
      #expect(try await place.run("put", store, "more", "room").status == 0)
      #expect(try await place.run("get", store, "more").text == "room")
      #expect(try await place.run("verify", store).status == 0)
    } catch {
      _ = try await place.shell("umount '\(disk)'")
      throw error
    }
    #expect(try await place.shell("umount '\(disk)'").status == 0)
  }

  @Test(
    "init on a disk without room: status 15, and it works once there is room",
    .enabled(if: canMount, "Needs root, and leave to mount."))
  func fullAtOnce() async throws {
    let disk = place.file("tiny")
    try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: true)
    #expect(try await place.shell("mount -t tmpfs -o size=32k kvsync-test '\(disk)'").status == 0)
    let full = try await place.run("init", "\(disk)/s")
    let room = try await place.shell("mount -o remount,size=20m '\(disk)'")
    let again = try await place.run("init", "\(disk)/s")
    #expect(try await place.shell("umount '\(disk)'").status == 0)
    #expect(full.status == 15 && !full.messages.isEmpty, "\(full.status) \(full.messages)")
    #expect(room.status == 0 && again.status == 0, "\(again.messages)")
  }

  @Test("A full disk under standard output: status 15")
  func fullOutput() async throws {
    let store = try await place.store("s", [([0x61], [UInt8](repeating: 0x61, count: 1 << 20))])
    let outcome = try await place.shell(#""$kvsync" dump "$1" > /dev/full"#, store)
    #expect(outcome.status == 15 && outcome.messages.contains("standard output"), "\(outcome.messages)")
  }
}
