// Parts of a space, and replicas that were away for too long, as processes and from the command line.

import Foundation
import KVStore
import TestSupport
import Testing

@Suite("scopes, and a hub that forgets", .serialized)
struct SnapshotCommandTests {
  let place: Workplace

  init() throws { place = try Workplace() }

  private func sync(_ store: String, _ hub: Hub) async throws -> Outcome {
    try await place.run("sync", store, hub.url(), "--json")
  }

  private func number(_ name: String, _ outcome: Outcome) throws -> Int { try #require(outcome.object()[name] as? Int) }

  private func rows(_ prefix: String, _ count: Int, _ value: String = "v") -> [(key: [UInt8], value: [UInt8])] {
    (0..<count).map { (Array("\(prefix)\($0)".utf8), Array(value.utf8)) }
  }

  @Test(
    "scopes add, list and remove, before and between syncs: what is asked for comes, and the rest stays where it is")
  func scopes() async throws {
    let first = try await place.store("first", rows("a/", 30) + rows("b/", 20) + rows("c/", 10))
    let second = try await place.store("second")
    let hub = try await Hub(place)
    #expect(try await sync(first, hub).status == 0)
    #expect(try await place.run("scopes", "list", second, "--json").objects().first?["everything"] as? Bool == true)
    #expect(try await place.run("scopes", "add", second, "a/").text == "a/\n")
    #expect(try await number("pulled", sync(second, hub)) == 30)
    #expect(try await place.run("scopes", "add", second, "b/", "--json").objects().count == 2)
    #expect(try await number("pulled", sync(second, hub)) == 20)
    #expect(try await place.run("verify", second, "--hub", hub.url()).status == 0)
    let removed = try await place.run("scopes", "remove", second, "a/", "--evict")
    #expect(removed.status == 0 && removed.messages.contains("30 keys"), "\(removed.messages)")
    #expect(try await place.run("ls", second).lines.count == 20)
    #expect(try await number("pulled", sync(second, hub)) == 0)
    #expect(try await sync(first, hub).status == 0)
    #expect(try await place.run("ls", first).lines.count == 60)
    #expect(try await place.run("scopes", "remove", second, "x/").status == 1)
    #expect(try await place.run("scopes", "add", second).status == 64)
    #expect(try await place.run("scopes", "add", second, "--all").status == 0)
    #expect(try await sync(second, hub).status == 0)
    let dump = try await place.run("dump", first).output
    #expect(try await place.run("dump", second).output == dump)
    // A prefix is bytes.
    let bytes = try await place.shell(
      #""$kvsync" scopes add "$1" "$(printf '\377')" && "$kvsync" scopes list "$1" --json"#, second)
    #expect(bytes.status == 0 && bytes.text.contains("/w=="), "\(bytes.text)\(bytes.messages)")
    #expect(await hub.end() == 0)
  }

  @Test(
    "What is written over what had come with a scope is no conflict once the scope is removed",
    arguments: ["manual", "remoteWins"])
  func afterTheScope(policy: String) async throws {
    let first = try await place.store("first", [(Array("old/k".utf8), Array("first".utf8))])
    let second = try await place.store("second")
    let hub = try await Hub(place)
    #expect(try await sync(first, hub).status == 0)
    #expect(try await place.run("scopes", "add", second, "new/", "old/").status == 0)
    #expect(try await sync(second, hub).status == 0)
    #expect(try await place.run("scopes", "remove", second, "old/").status == 0)
    #expect(try await place.run("put", second, "old/k", "second").status == 0)
    let known = try await place.run("sync", second, hub.url(), "--policy", policy, "--json")
    #expect(try known.status == 0 && number("conflicts", known) == 0)
    #expect(try await sync(first, hub).status == 0)
    for store in [first, second] { #expect(try await place.run("get", store, "old/k").text == "second") }
    // What came to be on the hub since is not known.
    #expect(try await place.run("put", first, "old/l", "first").status == 0)
    #expect(try await sync(first, hub).status == 0)
    #expect(try await place.run("put", second, "old/l", "second").status == 0)
    let unknown = try await place.run("sync", second, hub.url(), "--policy", policy, "--json")
    #expect(try number("conflicts", unknown) == 1)
    #expect(await hub.end() == 0)
  }

  @Test("While a snapshot is not here as a whole, status says so")
  func loading() async throws {
    let first = try await place.store("first", rows("a/", 3_000, String(repeating: "v", count: 100)))
    let second = try await place.store("second")
    let hub = try await Hub(place)
    #expect(try await sync(first, hub).status == 0)
    #expect(try await place.run("status", second, "--json").object()["loadingSnapshot"] as? Bool == false)
    _ = try await place.run("sync", second, hub.url(), "--budget", "20kB")
    #expect(try await place.run("status", second, "--json").object()["loadingSnapshot"] as? Bool == true)
    #expect(try await place.run("status", second).text.contains("not all of the hub's keys"))
    #expect(try await sync(second, hub).status == 0)
    #expect(try await place.run("status", second, "--json").object()["loadingSnapshot"] as? Bool == false)
    #expect(await hub.end() == 0)
  }

  @Test("Away for longer than the hub keeps its log: told as a repair, what is pending stays, what was deleted is gone")
  func lapsed() async throws {
    let first = try await place.store("first", rows("key/", 20, "old"))
    let second = try await place.store("second")
    let hub = try await Hub(place, options: ["--retention", "0"])
    #expect(try await sync(first, hub).status == 0)
    #expect(try await number("pulled", sync(second, hub)) == 20)
    try await place.run("put", second, "key/5", "pending")
    try await place.run("rm", first, "key/1")
    // Until the hub has let the segment go that the second store would need.
    let log = place.file("hub/spaces/space/log")
    let oldest = String(repeating: "0", count: 19) + "1.kvlog"
    let value = [UInt8](repeating: 0x78, count: 4 << 20)
    for round in 0..<12 where FileManager.default.fileExists(atPath: "\(log)/\(oldest)") {
      let store = try await Store.open(at: first)
      for number in 0..<8 { try await store.put(value + [UInt8(round)], for: "large/\(number)", durability: .relaxed) }
      try await store.close()
      #expect(try await sync(first, hub).status == 0)
    }
    #expect(!FileManager.default.fileExists(atPath: "\(log)/\(oldest)"))
    let outcome = try await sync(second, hub)
    let repairs = try #require(outcome.object()["repairs"] as? [[String: Any]])
    #expect(outcome.status == 0 && repairs.map { $0["cause"] as? String } == ["lapsed"], "\(outcome.messages)")
    #expect(try await place.run("status", second).text.contains("longer than the hub keeps"))
    #expect(try await place.run("get", second, "key/1").status == 1)
    #expect(try await place.run("get", second, "key/5").text == "pending")
    #expect(try await sync(first, hub).status == 0)
    #expect(try await place.run("get", first, "key/5").text == "pending")
    let dump = try await place.run("dump", first).output
    #expect(try await place.run("dump", second).output == dump)
    #expect(await hub.end() == 0)
  }
}
