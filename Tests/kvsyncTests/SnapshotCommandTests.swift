// Parts of a space, and replicas that were away for too long, as processes and from the command line.

import Foundation
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
    #expect(await hub.end() == 0)
  }
}
