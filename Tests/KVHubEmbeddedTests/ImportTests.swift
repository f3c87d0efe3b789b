// Files that a replica's program never wrote: well formed, with checksums that are right, and lying. What they claim is held
// against the space, as it is in a session.

import Foundation
import HubTestSupport
import KVHub
import KVHubEmbedded
import KVLog
import KVProtocol
import KVStore
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(2))) struct ImportTests {
  private let scratch: Scratch
  private let storage: EmbeddedHubStorage
  /// Has written versions 1 and 2 of the space.
  private let author: TestReplica

  init() async throws {
    scratch = try Scratch()
    storage = try EmbeddedHubStorage(directory: scratch.path("hub"))
    var author = TestReplica()
    author.put("a/1", "first")
    author.put("b/1", "second")
    let space = try await storage.space(named: "notes")
    _ = try await space.admit(author.push(after: 0), from: author)
    self.author = author
  }

  /// A file with what somebody says who knows the format.
  private func file(_ hello: Hello, _ pushes: [PushSegment]) throws -> String {
    let path = scratch.path("\(UUID())")
    let preamble = ExchangeFilePreamble(.replica, replica: hello.replica, epoch: hello.cursor?.identity ?? .zero)
    let writer = try ExchangeFileWriter(preamble, path: path, process: 1)
    try writer.append(.hello(hello))
    for push in pushes {
      try writer.append(.push(Push(segment: push.segment, cursor: push.cursor, confirmed: hello.shipped.version)))
    }
    _ = try writer.finish()
    return path
  }

  /// Expects the file to be refused as a whole.
  private func expectRefused(
    _ code: StoreError.Code, _ text: String, _ hello: Hello, _ pushes: [PushSegment],
    _ sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let space = try await storage.space(named: "notes")
    let before = try (space.head(), space.progress(of: hello.replica))
    let path = try file(hello, pushes)
    let error = await #expect(throws: StoreError.self, sourceLocation: sourceLocation) {
      try await storage.importChanges(from: path, into: "notes")
    }
    #expect(
      error?.code == code && error?.message.contains(text) == true, "\(error as Any)", sourceLocation: sourceLocation)
    let after = try (space.head(), space.progress(of: hello.replica))
    #expect(after == before, sourceLocation: sourceLocation)
  }

  @Test func `a file that has seen more than there is, lacks what lies before, or is another's is refused`()
    async throws
  {
    var replica = TestReplica()
    replica.put("a/1", "mine")
    replica.put("c", "mine")
    let hello = replica.hello([.push, .pull])
    try await expectRefused(.replication, "ends at 2", hello, [replica.push(after: 0, cursor: 3)])
    try await expectRefused(.replication, "begins after version 1", hello, [replica.push(after: 1)])
    try await expectRefused(
      .corrupt, "a part is missing", hello, [replica.push(after: 0, through: 1), replica.push(after: 0, through: 2)])
    try await expectRefused(.corrupt, "malformed push", hello, [author.push(after: 0)])
    // Another history under the author's name, as long as what the hub has of it.
    var copy = TestReplica(copying: author)
    copy.put("a/1", "other")
    copy.put("b/1", "other")
    copy.put("c", "other")
    try await expectRefused(
      .replication, "differ at version 2", copy.hello([.push, .pull]),
      [copy.push(after: 0, through: 2), copy.push(after: 2)])
    try await storage.close()
  }

  @Test func `of what others brought back of a replica no file decides, and what lies beyond it is taken`() async throws
  {
    var replica = TestReplica()
    for key in ["c", "d", "e"] { replica.put(key, "mine") }
    let space = try await storage.space(named: "notes")
    let restoration = Restoration(segment: replica.segment(after: 1, through: 2, former: 4), cursor: 2)
    #expect(try await space.restore(restoration).declined == [])
    let hello = replica.hello([.push, .pull])
    for parts in [[replica.push(after: 0)], [replica.push(after: 0, through: 2), replica.push(after: 2)]] {
      try await expectRefused(.replication, "others brought back", hello, parts)
    }
    let report = try await storage.importChanges(from: try file(hello, [replica.push(after: 2)]), into: "notes")
    #expect(report.commits == 1 && report.hubVersion == 4)
    try await storage.close()
  }

  @Test func `who follows a restored hub is answered with its own commits too`() async throws {
    let space = try await storage.space(named: "notes")
    for (ownThrough, commits) in [(0, 0), (1, 1), (2, 2)] as [(Version, Int)] {
      var hello = author.hello([.push, .pull], cursor: .start(of: try space.head().identity), shipped: 2)
      hello.cursorSpace = try space.head().identity
      hello.ownThrough = ownThrough
      let answer = scratch.path("\(UUID())")
      let report = try await storage.exportAnswer(to: answer, for: try file(hello, []), of: "notes")
      #expect(report.commits == commits)
    }
    try await storage.close()
  }

  @Test func `what a part claims to have seen beyond where its replica stands counts for nothing`() async throws {
    var replica = TestReplica()
    replica.put("b/1", "mine")
    let space = try await storage.space(named: "notes")
    var hello = replica.hello([.push, .pull], cursor: .start(of: try space.head().identity))
    hello.cursorSpace = try space.head().identity
    let report = try await storage.importChanges(
      from: try file(hello, [replica.push(after: 0, cursor: 2)]), into: "notes")
    #expect(report.stale == 1 && report.hubVersion == 2)
    try await storage.close()
  }

  @Test func `of keys that a file's replica does not have, it has seen nothing`() async throws {
    var replica = TestReplica()
    replica.put("b/1", "outside")
    replica.put("a/1", "inside")
    let space = try await storage.space(named: "notes")
    var hello = replica.hello([.push, .pull], cursor: try space.head())
    hello.cursorSpace = try space.head().identity
    hello.covered = Coverage(prefixes: [Array("a/".utf8)])
    let report = try await storage.importChanges(
      from: try file(hello, [replica.push(after: 0, cursor: 2)]), into: "notes")
    #expect(report.commits == 2 && report.stale == 1 && report.hubVersion == 3)
    let feed = try #require(try space.feed(after: 2, excluding: .zero, maximumBytes: 1 << 20))
    #expect(try feed.contents == ["3:a/1=inside"])
    try await storage.close()
  }
}
