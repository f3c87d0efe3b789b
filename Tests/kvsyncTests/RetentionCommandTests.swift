// How long a store may stay away, and what it keeps until a backup of its hub covers it, from the command line.

import Foundation
import KVLog
import KVStore
import TestSupport
import Testing

@Suite("away from a hub that forgets, and backups that are announced", .serialized)
struct RetentionCommandTests {
  let place: Workplace

  init() throws { place = try Workplace() }

  /// As if store and hub had had the same so many days ago.
  private func level(_ path: String, daysAgo: Int64) async throws {
    let store = try await Store.open(at: path)
    let state = store.replicaState()
    var contact = state.contact
    contact.levelTime = UInt64(Int64(Store.clockMilliseconds) - daysAgo * 86_400_000)
    try await store.note(contact, epoch: try #require(state.cursor).identity)
    try await store.close()
  }

  @Test("status says until when the hub keeps what is new, with no hub at hand; sync says so when it fails late")
  func status() async throws {
    let path = try await place.store("store", [(Array("k".utf8), Array("v".utf8))])
    let never = try await place.run("status", path, "--json").object()
    #expect(never["lastCaughtUp"] is NSNull && never["isRunningOut"] as? Bool == false)
    let hub = try await Hub(place, options: ["--retention", "30"])
    #expect(try await place.run("sync", path, hub.url()).status == 0)
    let url = hub.url()
    #expect(await hub.end() == 0)

    let level = try await place.run("status", path, "--json").object()
    #expect(level["hubRetentionSeconds"] as? Double == 30 * 86_400 && level["isRunningOut"] as? Bool == false)
    #expect((level["keptForSeconds"] as? Double).map { $0 > 29.9 * 86_400 && $0 <= 30 * 86_400 } == true)
    #expect((level["lastCaughtUp"] as? String)?.hasSuffix("Z") == true)
    #expect(try await place.run("status", path).text.contains("what is new for 30 days; after 2"))

    try await self.level(path, daysAgo: 25)
    let late = try await place.run("status", path, "--json").object()
    #expect(late["isRunningOut"] as? Bool == true)
    #expect(try await place.run("status", path).text.contains("(in 5 days: sync before)"))
    let failed = try await place.run("sync", path, url)
    #expect(failed.status == 13 && failed.messages.contains("stops keeping what this store lacks in 5 days"))

    try await self.level(path, daysAgo: 31)
    #expect(try await place.run("status", path, "--json").object()["keptForSeconds"] as? Double == 0)
    #expect(try await place.run("status", path).text.contains("may come back through a snapshot"))
    try await self.level(path, daysAgo: -3)
    let back = try await place.run("status", path, "--json").object()
    #expect(back["keptForSeconds"] is NSNull && back["isRunningOut"] as? Bool == true)
    #expect(try await place.run("status", path).text.contains("clock was set back"))
  }

  @Test("A backup of a space that a hub is serving is announced, and the replicas hear of it with their next sync")
  func announced() async throws {
    let path = try await place.store("store", [(Array("k".utf8), Array("v".utf8))])
    let hub = try await Hub(place)
    #expect(try await place.run("sync", path, hub.url(), "--until-backup", "100").status == 0)
    let space = place.file("hub/spaces/space")
    let plain = try await place.run("backup", space, place.file("plain"), "--json")
    #expect(try plain.object()["announced"] as? Bool == false)
    #expect(try await place.run("sync", path, hub.url()).status == 0)
    func backedUp() async throws -> Version {
      let store = try await Store.open(at: path)
      let version = store.replicaState().contact.backedUp
      try await store.close()
      return version
    }
    #expect(try await backedUp() == 0)
    let copied = try await place.run("backup", space, place.file("copy"), "--announce")
    #expect(copied.status == 0 && copied.messages.contains("the hub tells its replicas"), "\(copied.messages)")
    try await Task.sleep(for: .milliseconds(1_100))
    #expect(try await place.run("sync", path, hub.url()).status == 0)
    #expect(try await backedUp() == 1)
    #expect(try await place.run("sync", path, hub.url(), "--until-backup", "-1").status == 64)
    #expect(await hub.end() == 0)
  }
}
