// Spaces that are not there, hubs that are full, damaged or gone, replicas that are copies: what is said and what stays.

import Foundation
import TestSupport
import Testing

@Suite("Trouble with hubs", .serialized)
struct HubTroubleTests {
  let place: Workplace

  init() throws { place = try Workplace() }

  private func spaces() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: place.file("hub/spaces")).sorted()
  }

  /// Waits until the file that a process writes its messages to contains `text`.
  private func messages(_ process: ChildProcess, contain text: String) async throws -> Bool {
    for _ in 0..<1200 {
      if process.messages.contains(text) { return true }
      try await Task.sleep(for: .milliseconds(50))
    }
    return false
  }

  @Test("verify --hub with a space that is not there: status 1, what to do, and none is made, nor by a sync, status 16")
  func absentSpace() async throws {
    let store = try await place.store("s", [([0x61], [0x62])])
    let hub = try await Hub(place)
    for options in [[], ["--json"]] {
      let outcome = try await place.run(
        Workplace.tool, ["verify", store, "--hub", hub.url("none")] + options, input: [])
      #expect(outcome.status == 1 && outcome.messages.contains("none") && outcome.messages.contains("check its name"))
      #expect(!outcome.output.isEmpty, "the store itself was checked")
    }
    #expect(try spaces().isEmpty)
    #expect(try await place.run("sync", store, hub.url("one")).status == 0)
    let other = try await place.run("sync", store, hub.url("other"))
    #expect(other.status == 16 && other.messages.contains("other") && other.messages.contains("epoch"))
    #expect(try spaces() == ["one"])
    #expect(await hub.end() == 0)
  }

  @Test("A hub's directory and its spaces are pointed at, by whatever command is given the directory")
  func hubDirectory() async throws {
    let store = try await place.store("s", [([0x61], [0x62])])
    let hub = try await Hub(place)
    #expect(try await place.run("sync", store, hub.url("notes")).status == 0)
    #expect(await hub.end() == 0)
    let directory = place.file("hub")
    for arguments in [["info", directory], ["get", directory, "a"], ["verify", directory], ["init", directory]] {
      let outcome = try await place.run(Workplace.tool, arguments, input: [])
      #expect(outcome.status == 10 && outcome.messages.contains("\(directory)/spaces/notes"), "\(outcome.messages)")
    }
    #expect(try await place.run("get", "\(directory)/spaces/notes", "a").text == "b")
  }

  @Test("verify --hub of a copy says what sync mends first; of a store that is merely behind, that sync helps")
  func copy() async throws {
    let store = try await place.store("s", [([0x61], [0x62])])
    let hub = try await Hub(place)
    #expect(try await place.run("sync", store, hub.url()).status == 0)
    #expect(try await place.shell(#"cp -a "$1" "$2""#, store, place.file("copy")).status == 0)
    try await place.run("put", store, "a", "mine")
    let behind = try await place.run("verify", store, "--hub", hub.url())
    #expect(behind.status == 3 && behind.text.contains("kvsync sync makes them equal"))
    #expect(try await place.run("sync", store, hub.url()).status == 0)
    try await place.run("put", place.file("copy"), "a", "other")
    let copied = try await place.run("verify", place.file("copy"), "--hub", hub.url())
    #expect(copied.status == 3 && copied.text.contains("goes on as a new incarnation"), "\(copied.text)")
    let json = try await place.run("verify", place.file("copy"), "--hub", hub.url(), "--json")
    #expect(try json.status == 3 && (json.object()["obstacle"] as? String)?.contains("copied") == true)
    #expect(try await place.run("sync", place.file("copy"), hub.url()).status == 0)
    #expect(try await place.run("sync", store, hub.url()).status == 0)
    #expect(try await place.run("verify", store, "--hub", hub.url()).status == 0)
    #expect(await hub.end() == 0)
  }

  @Test("A hub whose copy of a space is damaged: status 14, and it serves the others")
  func damaged() async throws {
    let (first, second) = (try await place.store("first"), try await place.store("second"))
    var hub = try await Hub(place)
    #expect(try await place.run("sync", first, hub.url("one")).status == 0)
    #expect(await hub.end() == 0)
    try place.write(Array("kvsync store\nformat 1\n".utf8), to: "hub/spaces/one/kvsync.store")
    hub = try await Hub(place)
    for command in [["sync", first, hub.url("one")], ["verify", first, "--hub", hub.url("one")]] {
      let outcome = try await place.run(Workplace.tool, command, input: [])
      #expect(outcome.status == 14 && outcome.messages.contains("hub's copy"), "\(outcome.messages)")
    }
    #expect(try await place.run("sync", second, hub.url("two")).status == 0)
    #expect(
      hub.process.messages.components(separatedBy: "the store of a space").count == 2,
      "told once: \(hub.process.messages)")
    #expect(await hub.end() == 0)
  }

  @Test(
    "sync --continuous tells once when it loses the hub, and when it has caught up again",
    arguments: [(false, SIGKILL), (false, SIGTERM), (true, SIGKILL)])
  func news(_ json: Bool, _ signal: Int32) async throws {
    let store = try await place.store("s", [([0x61], [0x62])])
    var hub = try await Hub(place)
    let address = hub.address
    let arguments = ["sync", store, hub.url(), "--continuous"] + (json ? ["--json"] : [])
    let live = try ChildProcess(Workplace.tool, arguments, errorFile: place.file("live.err"))
    #expect(try await messages(live, contain: json ? #"{"event":"caughtUp","pushed":1,"# : "caught up with kvsync://"))
    await hub.end(signal)
    let loss = signal == SIGKILL ? "hub unreachable (" : "hub unavailable (the hub shut down"
    #expect(try await messages(live, contain: json ? #"{"event":"retrying","reason":"unreachable","# : loss))
    try await Task.sleep(for: .seconds(2))
    hub = try await Hub(place, listen: address)
    let again = json ? #""caughtUp","pushed":0,"# : "pushed 0 changes, pulled 0; going on"
    #expect(try await messages(live, contain: again))
    live.kill(SIGINT)
    #expect(await live.wait().status == 0)
    let lines = live.messages.split(separator: "\n")
    #expect(lines.count == 3, "\(lines)")
    if json {
      for line in lines { #expect(try JSONSerialization.jsonObject(with: Data(line.utf8)) is [String: Any]) }
    } else {
      #expect(lines[1].contains("retrying in "))
    }
    #expect(await hub.end() == 0)
  }

  @Test(
    "A hub on a full disk: status 15 and a summary; it says so once, and with room everything goes on by itself",
    .enabled(if: BadInputTests.canMount, "Needs root, and leave to mount."))
  func fullHub() async throws {
    let disk = place.file("hub")
    try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: true)
    #expect(try await place.shell("mount -t tmpfs -o size=14m kvsync-test '\(disk)'").status == 0)
    do {
      let rows = (0..<200).map { (key: Array("key/\($0)".utf8), value: [UInt8](repeating: 0x61, count: 100_000)) }
      let store = try await place.store("s")
      let lines = rows.flatMap { Workplace.line($0.key, $0.value) }
      #expect(try await place.run("load", store, "--batch", "1", input: lines).status == 0)
      let hub = try await Hub(place, directory: "hub/h")
      for attempt in 0..<3 {
        let outcome = try await place.run("sync", store, hub.url(), "--json")
        #expect(outcome.status == 15 && outcome.messages.contains("the hub has no space left"), "\(outcome.messages)")
        let summary = try outcome.object()
        let (pushed, pending) = (try #require(summary["pushed"] as? Int), try #require(summary["pending"] as? Int))
        #expect(pending > 0 && pending < 200 && (attempt > 0 || pushed + pending == 200))
      }
      let live = try ChildProcess(
        Workplace.tool, ["sync", store, hub.url(), "--continuous"], errorFile: place.file("live.err"))
      #expect(try await messages(live, contain: "the hub has no space left"))
      // What the hub folds meanwhile may give it room for some more, so that the disk is full a second time.
      let told = hub.process.messages.components(separatedBy: "no space left:").count - 1
      let ended = hub.process.messages.components(separatedBy: "pushes are stored again").count - 1
      #expect(told == ended + 1, "\(hub.process.messages)")
      #expect(try await place.shell("mount -o remount,size=200m '\(disk)'").status == 0)
      #expect(try await messages(live, contain: "caught up with"))
      live.kill(SIGTERM)
      #expect(await live.wait().status == 0)
      #expect(live.messages.components(separatedBy: "no space left").count == 2, "told once: \(live.messages)")
      #expect(try await place.run("verify", store, "--hub", hub.url()).status == 0)
      #expect(hub.process.messages.contains("pushes are stored again"))
      #expect(await hub.end() == 0)
    } catch {
      _ = try await place.shell("umount -l '\(disk)'")
      throw error
    }
    #expect(try await place.shell("umount '\(disk)'").status == 0)
  }
}
