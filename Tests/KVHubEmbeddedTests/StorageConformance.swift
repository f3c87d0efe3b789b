// What every hub storage must do; one run for each of them. Here what concerns its spaces as such: their names, their
// owners, their order, and many at once. What it admits, what it shows of it, and how it gets back what it had lost stand
// in files of their own.

import HubTestSupport
import KVHub
import KVLog
import KVProtocol
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(2))) struct StorageConformance {
  @Test(arguments: StorageKind.allCases)
  func `commits get the versions of the space in order, and the feed shows them under these`(kind: StorageKind)
    async throws
  {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      let start = try space.head()
      #expect(start.version == 0)
      #expect(start.identity != .zero)
      var a = TestReplica()
      a.commit([("a", "1"), ("b", "2")])
      a.commit([("a", nil)])
      let acknowledgement = try await space.admit(a.push(after: 0), from: a)
      #expect(acknowledgement == Acknowledgement(through: 2, exceptions: [], head: 2))
      let feed = try #require(try space.feed(after: 0, excluding: .zero, maximumBytes: 1 << 20))
      #expect(try feed.contents == ["1:a=1 b=2", "2:a-"])
      #expect(feed.changeCount == 3)
      #expect(feed.through == 2)
      #expect(try space.head() == Position(identity: start.identity, version: 2, digest: feed.digest))
      #expect(try space.digest(at: 2) == feed.digest)
      #expect(try space.digest(at: 3) == nil)
      #expect(try space.feed(after: 2, excluding: .zero, maximumBytes: 1 << 20) == nil)
      try feed.checkFed()
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `a replica is whose it was first, and nobody has more of them than he may`(kind: StorageKind) async throws {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      let other = try await storage.space(named: "other")
      let replica = Identity.random()
      #expect(try space.owner(of: replica, claimedBy: "alice b") == "alice b")
      #expect(try space.owner(of: replica, claimedBy: "bob") == "alice b")
      #expect(try other.owner(of: replica, claimedBy: "bob") == "bob")
      // Without a disk, which would be waited for with each of them.
      guard kind == .inMemory else { return }
      for _ in 1..<HubLimits.replicasOfPrincipal { _ = try space.owner(of: .random(), claimedBy: "alice b") }
      #expect(throws: HubStorageError.tooManyReplicas) { try space.owner(of: .random(), claimedBy: "alice b") }
      #expect(try space.owner(of: replica, claimedBy: "alice b") == "alice b")
      #expect(try space.owner(of: .random(), claimedBy: "bob") == "bob")
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `the core of a commit is the same on every hop`(kind: StorageKind) async throws {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      var a = TestReplica()
      a.put("a", "1")
      _ = try await space.admit(a.push(after: 0), from: a)
      let sent = a.segment(after: 0, through: 1)
      let fed = try #require(try space.feed(after: 0, excluding: .zero, maximumBytes: 1 << 20))
      // Record header and envelope have 24 bytes.
      #expect(sent.records.dropFirst(24) == fed.records.dropFirst(24))
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `spaces share nothing`(kind: StorageKind) async throws {
    try await kind.withStorage { storage in
      let one = try await storage.space(named: "one")
      let two = try await storage.space(named: "two")
      #expect(try one.head().identity != two.head().identity)
      var a = TestReplica()
      a.put("a", "1")
      _ = try await one.admit(a.push(after: 0), from: a)
      #expect(try two.head().version == 0)
      #expect(try two.progress(of: a.identity) == nil)
      let again = try await storage.space(named: "one")
      #expect(try again.head() == one.head())
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `a space that is not there is not made unless that is asked for`(kind: StorageKind) async throws {
    try await kind.withStorage { storage in
      for _ in 0..<2 {
        await #expect(throws: HubStorageError.unknownSpace) {
          _ = try await storage.space(named: "one", creating: false)
        }
      }
      let made = try await storage.space(named: "one", creating: true)
      #expect(try await storage.space(named: "one", creating: false).head() == made.head())
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `a name that is no space's name is refused`(kind: StorageKind) async throws {
    try await kind.withStorage { storage in
      for name in ["", "..", ".x", "a/b", "/etc", "A"] {
        await #expect(throws: HubStorageError.self, "\(name)") { _ = try await storage.space(named: name) }
      }
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `whoever waits for the head hears of it, whoever is cancelled does not wait`(kind: StorageKind) async throws {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      var a = TestReplica()
      a.put("a", "1")
      async let first = space.advance(beyond: 0)
      let push = a.push(after: 0)
      _ = try await space.admit(push, from: a)
      #expect(try await first == 1)
      #expect(try await space.advance(beyond: 0) == 1)
      let waiting = Task { try await space.advance(beyond: 1) }
      try await Task.sleep(for: .milliseconds(20))
      waiting.cancel()
      await #expect(throws: (any Error).self) { try await waiting.value }
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `many replicas at once: every commit is decided once, and each replica's in order`(kind: StorageKind)
    async throws
  {
    var random = SeededGenerator()
    let seed = random.seed
    let plans = (0..<8).map { _ in (0..<40).map { _ in Int.random(in: 0...30, using: &random) } }
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      let results = try await withThrowingTaskGroup(of: (TestReplica, Int).self) { group in
        for plan in plans {
          group.addTask {
            var replica = TestReplica()
            for key in plan { replica.put("key\(key)", "\(replica.identity) \(replica.version)") }
            var stale = 0
            var sent: Version = 0
            while sent < replica.version {
              let through = min(sent + 7, replica.version)
              let cursor = try space.head().version
              // Every push twice: the second time must not count.
              let push = replica.push(after: sent, through: through, cursor: cursor)
              let first = try await space.admit(push, from: replica, confirmed: sent)
              let second = try await space.admit(push, from: replica, confirmed: sent)
              #expect(first.exceptions == second.exceptions)
              stale += first.exceptions.count
              sent = through
            }
            return (replica, stale)
          }
        }
        return try await group.reduce(into: []) { $0.append($1) }
      }
      let stale = results.reduce(0) { $0 + $1.1 }
      let head = try space.head().version
      #expect(Int(head) == 8 * 40 - stale, "seed \(seed)")
      for (replica, _) in results {
        let progress = try #require(try space.progress(of: replica.identity))
        #expect(progress.lastApplied == 40)
        #expect(progress.digest == replica.digests[40])
      }
    }
  }
}
