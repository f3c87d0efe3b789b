// What the storage on disk does beyond what every storage must do.

import Foundation
import HubTestSupport
import KVHub
import KVHubEmbedded
import KVLog
import KVProtocol
import KVStore
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(2))) struct EmbeddedHubStorageTests {
  private let scratch: Scratch
  private var directory: String { scratch.path }

  init() throws { scratch = try Scratch() }

  @Test func `what was acknowledged is there after the storage was opened again`() async throws {
    var a = TestReplica()
    var b = TestReplica()
    a.put("x", "a")
    b.put("x", "b")
    b.put("y", "b")
    var heads: [Position] = []
    for _ in 0..<3 {
      let storage = try EmbeddedHubStorage(directory: directory)
      let space = try await storage.space(named: "notes")
      if heads.isEmpty {
        _ = try await space.admit(a.push(after: 0), from: a)
        _ = try await space.admit(b.push(after: 0), from: b)
      }
      heads.append(try space.head())
      let stale = CommitException(version: 1, reason: .stale(hubVersion: 1))
      #expect(
        try space.progress(of: b.identity)
          == ReplicaProgress(
            replica: b.identity, lastApplied: 2, digest: b.digests[2],
            unconfirmed: [stale]))
      let feed = try #require(try space.feed(after: 0, excluding: .zero, maximumBytes: 1 << 20))
      #expect(try feed.contents == ["1:x=a", "2:y=b"])
      try await storage.close()
    }
    #expect(Set(heads).count == 1)
    #expect(heads[0].version == 2)
  }

  @Test func `whose a replica is survives, and a line that a crash cut off is as if it had never been`() async throws {
    let replicas = (0..<3).map { _ in Identity.random() }
    for (round, replica) in replicas.enumerated() {
      let storage = try EmbeddedHubStorage(directory: directory)
      let space = try await storage.space(named: "notes")
      for earlier in replicas[..<round] { #expect(try space.owner(of: earlier, claimedBy: "mallory") == "alice") }
      #expect(try space.owner(of: replica, claimedBy: "alice") == "alice")
      try await storage.close()
      let file = try #require(FileHandle(forWritingAtPath: directory + "/owners/notes"))
      try file.seekToEnd()
      try file.write(contentsOf: Data("\(Identity.random()) mallory".utf8))
      try file.close()
    }
    let storage = try EmbeddedHubStorage(directory: directory)
    let space = try await storage.space(named: "notes")
    for replica in replicas { #expect(try space.owner(of: replica, claimedBy: "mallory") == "alice") }
    try await storage.close()
    try "not a line\n".write(toFile: directory + "/owners/notes", atomically: true, encoding: .utf8)
    let damaged = try EmbeddedHubStorage(directory: directory)
    let other = try await damaged.space(named: "notes")
    #expect(throws: HubStorageError.self) { try other.owner(of: replicas[0], claimedBy: "mallory") }
    try await damaged.close()
  }

  @Test func `no more spaces are made than there may be, counting those that are on disk already`() async throws {
    for round in 0..<2 {
      let storage = try EmbeddedHubStorage(directory: directory, maximumSpaces: 2)
      for name in ["a", "b"] { _ = try await storage.space(named: name) }
      await #expect(throws: HubStorageError.tooManySpaces) { try await storage.space(named: "c\(round)") }
      try await storage.close()
    }
    #expect(EmbeddedHubStorage.spaceNames(at: directory) == ["a", "b"])
  }

  @Test func `what is not a hub's directory is refused and left as it is`() async throws {
    let file = directory + "/letter.txt"
    try "dear".write(toFile: file, atomically: true, encoding: .utf8)
    #expect(throws: StoreError.self) { try EmbeddedHubStorage(directory: directory) }
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory) == ["letter.txt"])
    #expect(#expect(throws: StoreError.self) { try EmbeddedHubStorage(directory: file) }?.code == .foreign)
    let store = try await Store.open(at: directory + "/store")
    try await store.close()
    let error = #expect(throws: StoreError.self) { try EmbeddedHubStorage(directory: directory + "/store") }
    #expect(error?.code == .foreign)
  }

  @Test func `a hub of a newer format is refused`() async throws {
    let storage = try EmbeddedHubStorage(directory: directory)
    try await storage.close()
    try "kvsync hub 2\n".write(toFile: directory + "/kvsync-hub", atomically: true, encoding: .utf8)
    let error = #expect(throws: StoreError.self) { try EmbeddedHubStorage(directory: directory) }
    #expect(error?.code == .newerFormat)
  }

  @Test func `looking for a space leaves nothing behind, and a creation that was cut off is no space`() async throws {
    let storage = try EmbeddedHubStorage(directory: directory)
    _ = try? await storage.space(named: "none", creating: false)
    let spaces = directory + "/spaces"
    #expect(try FileManager.default.contentsOfDirectory(atPath: spaces).isEmpty)
    try FileManager.default.createDirectory(atPath: spaces + "/half", withIntermediateDirectories: false)
    await #expect(throws: HubStorageError.unknownSpace) {
      _ = try await storage.space(named: "half", creating: false)
    }
    _ = try await storage.space(named: "half")
    _ = try await storage.space(named: "b")
    #expect(EmbeddedHubStorage.spaceNames(at: directory) == ["b", "half"])
    #expect(EmbeddedHubStorage.spaceNames(at: spaces) == nil)
    try await storage.close()
  }

  @Test func `a space whose manifest is damaged is corrupt, and the others are served`() async throws {
    var storage = try EmbeddedHubStorage(directory: directory)
    for name in ["bad", "good"] { _ = try await storage.space(named: name) }
    try await storage.close()
    try "kvsync store\nformat 1\n".write(
      toFile: directory + "/spaces/bad/kvsync.store", atomically: true, encoding: .utf8)
    storage = try EmbeddedHubStorage(directory: directory)
    let error = await #expect(throws: HubStorageError.self) { _ = try await storage.space(named: "bad") }
    guard case .corrupt = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    _ = try await storage.space(named: "good")
    try await storage.close()
  }

  @Test func `a directory has one hub`() async throws {
    let storage = try EmbeddedHubStorage(directory: directory)
    let error = #expect(throws: StoreError.self) { try EmbeddedHubStorage(directory: directory) }
    #expect(error?.code == .inUse)
    try await storage.close()
    let again = try EmbeddedHubStorage(directory: directory)
    try await again.close()
  }

  @Test func `a creation that was cut off is finished by the next one`() async throws {
    try FileManager.default.createDirectory(atPath: directory + "/spaces", withIntermediateDirectories: false)
    try "".write(toFile: directory + "/kvsync-hub.new", atomically: true, encoding: .utf8)
    let storage = try EmbeddedHubStorage(directory: directory)
    try await storage.close()
  }

  @Test func `spaces can be limited to those that exist`() async throws {
    let storage = try EmbeddedHubStorage(directory: directory)
    _ = try await storage.space(named: "old")
    try await storage.close()
    let limited = try EmbeddedHubStorage(directory: directory, createsSpaces: false)
    _ = try await limited.space(named: "old")
    await #expect(throws: HubStorageError.unknownSpace) { _ = try await limited.space(named: "new") }
    try await limited.close()
  }

  @Test func `a closed storage gives no space and wakes whoever waits`() async throws {
    let storage = try EmbeddedHubStorage(directory: directory)
    let space = try await storage.space(named: "notes")
    let waiting = Task { try await space.advance(beyond: 0) }
    try await Task.sleep(for: .milliseconds(20))
    try await storage.close()
    await #expect(throws: HubStorageError.closed) { try await waiting.value }
    await #expect(throws: HubStorageError.closed) { _ = try await storage.space(named: "notes") }
  }
}
