// kvsync status and sync --budget, with real processes: what one process does, another one can read.

import Foundation
import TestSupport
import Testing

@Suite("status and sync --budget")
struct StatusCommandTests {
  let place: Workplace

  init() throws { place = try Workplace() }

  private func status(_ store: String, _ options: String...) async throws -> [String: Any] {
    let outcome = try await place.run(Workplace.tool, ["status", store, "--json"] + options, input: [])
    #expect(outcome.status == 0, "\(outcome.messages)")
    return try outcome.object()
  }

  /// Looks until the status is as wanted.
  private func eventually(_ store: String, _ isWanted: ([String: Any]) -> Bool) async throws -> [String: Any] {
    var last: [String: Any] = [:]
    for _ in 0..<400 {
      last = try await status(store)
      if isWanted(last) { return last }
      try await Task.sleep(for: .milliseconds(50))
    }
    Issue.record("it did not come about: \(last)")
    return last
  }

  @Test("A store that never met a hub: offline, with what is pending and for how long, and nothing made up")
  func alone() async throws {
    let store = try await place.store("s", [([0x61], [0x62]), ([0x63], [0x64, 0x65])])
    try await Task.sleep(for: .milliseconds(30))
    let alone = try await status(store)
    #expect(alone["state"] as? String == "offline" && alone["hubVersion"] is NSNull && alone["lagVersions"] is NSNull)
    #expect(alone["pendingChanges"] as? Int == 2 && alone["pendingBytes"] as? Int == 5)
    #expect(try #require(alone["oldestPendingSeconds"] as? Double) >= 0.02)
    #expect(
      alone["lastError"] is NSNull && alone["nextTrySeconds"] is NSNull && alone["unresolvedConflicts"] as? Int == 0)
    let text = try await place.run("status", store).text
    #expect(text.contains("offline") && text.contains("2 changes, 5 B, the oldest for") && text.contains("not known"))
    #expect(try await place.run("status", place.file("nowhere")).status == 10)
  }

  @Test(
    "Live, then without its hub, then killed: each is told by another process, the last one as it is and not as it was")
  func processes() async throws {
    let store = try await place.store("s", [([0x61], [0x62])])
    let hub = try await Hub(place)
    let live = try place.start("sync", store, hub.url(), "--continuous")
    let connected = try await eventually(store) {
      $0["state"] as? String == "live" && $0["pendingChanges"] as? Int == 0
    }
    #expect(connected["acknowledgedVersion"] as? Int == 1 && connected["hubVersion"] as? Int == 1)
    #expect(connected["hub"] as? String == hub.url())
    let level = try await eventually(store) { $0["lagVersions"] as? Int == 0 && $0["lagSeconds"] as? Double == 0 }
    #expect(level["lastError"] is NSNull)
    let address = hub.address
    await hub.end(SIGKILL)
    try await place.run("put", store, "k", "v")
    let waiting = try await eventually(store) { $0["nextTrySeconds"] is Double }
    #expect(["offline", "connecting"].contains(waiting["state"] as? String) && waiting["pendingChanges"] as? Int == 1)
    #expect(waiting["lastErrorCode"] as? String == "unreachable" && waiting["lastError"] is String)
    #expect(try #require(waiting["lagSeconds"] as? Double) > 0)
    let back = try await Hub(place, listen: address)
    _ = try await eventually(store) { $0["state"] as? String == "live" && $0["pendingChanges"] as? Int == 0 }
    // Killed, it cannot say that it is gone.
    live.kill(SIGKILL)
    _ = await live.wait()
    let dead = try await status(store)
    #expect(
      dead["state"] as? String == "offline" && dead["nextTrySeconds"] is NSNull && dead["hubVersion"] as? Int == 2)
    // What the hub has by now is asked for.
    let other = try await place.store("other", [([0x78], [0x79])])
    #expect(try await place.run("sync", other, back.url()).status == 0)
    let asked = try await status(store, back.url())
    #expect(asked["hubVersion"] as? Int == 3 && asked["lagVersions"] as? Int == 1)
    #expect(await back.end() == 0)
    let unreachable = try await place.run("status", store, back.url(), "--json")
    #expect(unreachable.status == 13 && unreachable.messages.contains("error"))
    #expect(try unreachable.object()["state"] as? String == "offline")
  }

  @Test("A note that is damaged, or none, is nobody's trouble; a store is destroyed with it")
  func notes() async throws {
    let store = try await place.store("s", [([0x61], [0x62])])
    let hub = try await Hub(place)
    #expect(try await place.run("sync", store, hub.url()).status == 0)
    #expect(try await status(store)["hubVersion"] as? Int == 1)
    var bytes = try Data(contentsOf: URL(fileURLWithPath: "\(store)/replication"))
    bytes[bytes.count - 1] ^= 1
    try bytes.write(to: URL(fileURLWithPath: "\(store)/replication"))
    #expect(try await status(store)["hubVersion"] is NSNull)
    try Data([1, 2, 3]).write(to: URL(fileURLWithPath: "\(store)/replication"))
    #expect(try await status(store)["state"] as? String == "offline")
    #expect(try await place.run("sync", store, hub.url()).status == 0)
    #expect(try await status(store)["lagVersions"] as? Int == 0)
    #expect(try await place.run("destroy", store).status == 0)
    #expect(!FileManager.default.fileExists(atPath: store))
    #expect(await hub.end() == 0)
  }

  @Test("sync --budget comes forward pass by pass, says what is left, and is refused where it makes no sense")
  func budget() async throws {
    let (store, other) = (try await place.store("s"), try await place.store("other"))
    for (path, name) in [(store, "key"), (other, "other")] {
      let lines = (0..<300).map { #"{"key":"\#(name)/\#($0)","value":"\#(String(repeating: "a", count: 100))"}"# }
      let input = Array(lines.joined(separator: "\n").utf8)
      #expect(try await place.run("load", path, "--batch", "10", input: input).status == 0)
    }
    let hub = try await Hub(place)
    #expect(try await place.run("sync", other, hub.url()).status == 0)
    var left = 300
    var passes = 0
    for pass in 0..<400 where left > 0 {
      let outcome = try await place.run("sync", store, hub.url(), "--push", "--budget", "4kB", "--json")
      #expect(outcome.status == 0, "\(outcome.messages)")
      let report = try outcome.object()
      let pending = try #require(report["pending"] as? Int)
      #expect(pending < left && (report["cutShort"] as? Bool) == (pending > 0), "pass \(pass)")
      left = pending
      passes += 1
    }
    #expect(left == 0 && passes > 5, "\(passes)")
    let text = try await place.run("sync", store, hub.url(), "--budget", "2kB", "--budget", "10s")
    #expect(text.status == 0 && text.text.contains("the budget is spent; left: 0 changes"), "\(text.text)")
    let rest = try await place.run("sync", store, hub.url(), "--budget=1GiB", "--json").object()
    #expect(rest["cutShort"] as? Bool == false && rest["remainingServerVersions"] as? Int == 0)
    for wrong in [
      ["--budget", "10"], ["--budget", "1kB", "--budget", "2kB"], ["--budget", "1s", "--continuous"],
      ["--budget", "-1kB"], ["--budget", "1e5B"], ["--budget", "kB"],
    ] {
      let outcome = try await place.run(Workplace.tool, ["sync", store, hub.url()] + wrong, input: [])
      #expect(outcome.status == 64, "\(wrong) \(outcome.messages)")
    }
    #expect(await hub.end() == 0)
  }
}
