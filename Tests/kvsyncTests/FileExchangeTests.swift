// Replicas and a hub without a network, as processes with files.

import Foundation
import TestSupport
import Testing

@Suite("export and import", .serialized)
struct FileExchangeTests {
  let place: Workplace

  init() throws { place = try Workplace() }

  private func rows(_ range: Range<Int>, _ value: String, bytes: Int = 20) -> [(key: [UInt8], value: [UInt8])] {
    range.map { (Array("key/\($0)".utf8), Array("\(value) of \($0) ".utf8) + [UInt8](repeating: 0x61, count: bytes)) }
  }

  private func number(_ name: String, _ outcome: Outcome) throws -> Int { try #require(outcome.object()[name] as? Int) }

  /// A hub's directory that no process serves.
  private func hub() async throws -> String {
    let hub = try await Hub(place)
    #expect(await hub.end() == 0)
    return place.file("hub/space")
  }

  /// Export, import with an answer, import of the answer: what the last one printed.
  private func carry(_ store: String, _ space: String, _ name: String) async throws -> Outcome {
    let (out, back) = (place.file("\(name).out"), place.file("\(name).back"))
    for arguments in [["export", store, out], ["import", space, out, "--answer", back]] {
      let outcome = try await place.run(Workplace.tool, arguments, input: [])
      #expect(outcome.status == 0, "\(outcome.messages)")
    }
    return try await place.run("import", store, back, "--json")
  }

  @Test("Two replicas and a hub stay in sync with a stick and no network; twice is once")
  func withoutNetwork() async throws {
    let space = try await hub()
    let first = try await place.store("first", rows(0..<2_000, "first"))
    let second = try await place.store("second", rows(1_990..<2_010, "second"))
    try await place.run("put", first, "key/1", "newest")
    #expect(try await number("acknowledged", carry(first, space, "1")) == 2_001)
    let conflicting = try await carry(second, space, "2")
    #expect(try number("pulled", conflicting) == 2_000 && number("conflicts", conflicting) == 10)
    _ = try await carry(second, space, "3")
    _ = try await carry(first, space, "4")
    let dump = try await place.run("dump", first).output
    #expect(try await place.run("dump", second).output == dump)
    for (store, name) in [(first, "1"), (second, "2"), (first, "4"), (second, "3")] {
      let again = try await place.run("import", space, place.file("\(name).out"), "--json")
      #expect(try again.status == 0 && number("commits", again) == 0, "\(again.messages)")
      let back = try await place.run("import", store, place.file("\(name).back"), "--json")
      #expect(try back.status == 0 && number("pulled", back) == 0 && number("acknowledged", back) == 0)
      #expect(try await number("pendingChanges", place.run("info", store, "--json")) == 0)
    }
    #expect(try await place.run("dump", first).output == dump)
    // With a network again nothing moves.
    let served = try await Hub(place)
    for store in [first, second] {
      let synced = try await place.run("sync", store, served.url(), "--json")
      #expect(try synced.status == 0 && number("pushed", synced) == 0 && number("pulled", synced) == 0)
      #expect(try await place.run("verify", store, "--hub", served.url()).status == 0)
    }
    let served11 = try await place.run("import", space, place.file("1.out"))
    #expect(served11.status == 11, "a hub that serves has its directory for itself: \(served11.messages)")
    #expect(await served.end() == 0)
  }

  @Test("What cannot be imported or exported says why, with a status, and changes nothing")
  func refusals() async throws {
    let space = try await hub()
    let store = try await place.store("s", rows(0..<50, "v"))
    let other = try await place.store("other", rows(0..<5, "v"))
    let out = place.file("s.out")
    #expect(try await place.run("export", store, out).status == 0)
    let taken = try await place.run("export", store, out)
    #expect(taken.status == 1 && taken.messages.contains("already"), "\(taken.messages)")
    var bytes = try [UInt8](Data(contentsOf: URL(fileURLWithPath: out)))
    bytes[bytes.count / 2] ^= 1
    try place.write(bytes, to: "flipped")
    try place.write(Array(bytes.prefix(bytes.count / 3)), to: "cut")
    for (name, status, text) in [("flipped", Int32(14), "damaged"), ("cut", 14, "cut off")] {
      let outcome = try await place.run("import", space, place.file(name))
      #expect(outcome.status == status && outcome.messages.contains(text), "\(outcome.messages)")
    }
    let text = try await place.run("import", space, "\(store)/kvsync.store")
    #expect(text.status == 10 && text.messages.contains("kvsync export"), "\(text.messages)")
    #expect(try await place.run("import", space, place.file("nothing")).status == 10)
    #expect(try await place.run("import", place.file("nothing"), out).status == 10)
    #expect(try await place.run("import", store, out).status == 10)
    #expect(try await place.run("export", space, place.file("x")).status == 64)
    #expect(try await place.run("export", store, place.file("x"), "--for", out).status == 64)
    #expect(try await place.run("import", store, out, "--answer", place.file("x")).status == 64)
    #expect(try await place.run("import", space, out, "--answer", place.file("back")).status == 0)
    let foreign = try await place.run("import", other, place.file("back"))
    #expect(foreign.status == 10 && foreign.messages.contains("is for the store"), "\(foreign.messages)")
    #expect(try await number("pendingChanges", place.run("info", other, "--json")) == 5)
    #expect(try await number("pendingChanges", place.run("info", store, "--json")) == 50)
    #expect(try await place.run("import", store, place.file("back")).status == 0)
    #expect(try await number("pendingChanges", place.run("info", store, "--json")) == 0)
    let names = try FileManager.default.contentsOfDirectory(atPath: place.path)
    #expect(!names.contains { $0.hasPrefix(".") }, "no draft is left: \(names)")
  }

  @Test("On a hub with tokens an import needs a holder who may write: status 12 without")
  func holder() async throws {
    let space = try await hub()
    let store = try await place.store("s", rows(0..<5, "v"))
    #expect(try await place.run("export", store, place.file("out")).status == 0)
    for (name, rights) in [("alice", "write"), ("bob", "read"), ("carol", "write")] {
      #expect(try await place.run("token", "create", place.file("hub"), name, "--rights", rights).status == 0)
    }
    for options in [[], ["--holder", "bob"], ["--holder", "mallory"]] {
      let refused = try await place.run(Workplace.tool, ["import", space, place.file("out")] + options, input: [])
      #expect(refused.status == 12, "\(refused.messages)")
    }
    #expect(try await place.run("import", space, place.file("out"), "--holder", "alice").status == 0)
    let other = try await place.run("import", space, place.file("out"), "--holder", "carol")
    #expect(other.status == 1 && other.messages.contains("another holder"), "\(other.messages)")
    #expect(try await place.run("import", store, place.file("out"), "--holder", "alice").status == 64)
  }

  @Test("Killed at any moment, an import at the hub is finished by importing again", arguments: [5, 20, 60])
  func killed(milliseconds: Int) async throws {
    let space = try await hub()
    let store = try await place.store("s", rows(0..<12_000, "v", bytes: 300))
    #expect(try await place.run("export", store, place.file("out")).status == 0)
    let importing = try place.start("import", space, place.file("out"))
    try await Task.sleep(for: .milliseconds(milliseconds))
    importing.kill(SIGKILL)
    _ = await importing.wait()
    let outcome = try await carry(store, space, "again")
    #expect(try number("acknowledged", outcome) == 12_000)
    let served = try await Hub(place)
    #expect(try await place.run("verify", store, "--hub", served.url()).status == 0)
    #expect(await served.end() == 0)
  }

  @Test(
    "A full medium: status 15, no file and no rest of one, and nothing is lost",
    .enabled(if: BadInputTests.canMount, "Needs root, and leave to mount."))
  func fullMedium() async throws {
    let space = try await hub()
    let stick = place.file("stick")
    try FileManager.default.createDirectory(atPath: stick, withIntermediateDirectories: true)
    #expect(try await place.shell("mount -t tmpfs -o size=2m kvsync-test '\(stick)'").status == 0)
    do {
      let store = try await place.store("s", rows(0..<12_000, "v", bytes: 300))
      let full = try await place.run("export", store, "\(stick)/out")
      #expect(full.status == 15 && full.messages.contains("space"), "\(full.messages)")
      #expect(try FileManager.default.contentsOfDirectory(atPath: stick).isEmpty)
      #expect(try await number("pendingChanges", place.run("info", store, "--json")) == 12_000)
      #expect(try await place.shell("mount -o remount,size=40m '\(stick)'").status == 0)
      #expect(try await place.run("export", store, "\(stick)/out").status == 0)
      let imported = try await place.run(
        "import", space, "\(stick)/out", "--answer", "\(stick)/back", "--json")
      #expect(try imported.status == 0 && imported.objects().first?["changes"] as? Int == 12_000)
    } catch {
      _ = try await place.shell("umount '\(stick)'")
      throw error
    }
    #expect(try await place.shell("umount '\(stick)'").status == 0)
  }
}
