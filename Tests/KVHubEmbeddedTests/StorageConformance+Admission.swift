// What every hub storage must do with what replicas push: admit it once, in order, and keep its decisions.

import HubTestSupport
import KVHub
import KVLog
import KVProtocol
import Testing

extension StorageConformance {
  @Test(arguments: StorageKind.allCases)
  func `a push sent again changes nothing and is acknowledged again`(kind: StorageKind) async throws {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      var a = TestReplica()
      for count in 1...4 { a.put("k\(count)", "v") }
      let first = try await space.admit(a.push(after: 0, through: 2), from: a)
      let again = try await space.admit(a.push(after: 0, through: 2), from: a)
      #expect(first == again)
      let whole = try await space.admit(a.push(after: 0, through: 4), from: a)
      #expect(whole == Acknowledgement(through: 4, exceptions: [], head: 4))
      let old = try await space.admit(a.push(after: 0, through: 1), from: a)
      #expect(old == Acknowledgement(through: 4, exceptions: [], head: 4))
      let feed = try #require(try space.feed(after: 0, excluding: .zero, maximumBytes: 1 << 20))
      #expect(try feed.contents == ["1:k1=v", "2:k2=v", "3:k3=v", "4:k4=v"])
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `a straddling push applies what is new of it, once`(kind: StorageKind) async throws {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      var a = TestReplica()
      for count in 1...6 { a.put("k\(count)", "v") }
      _ = try await space.admit(a.push(after: 0, through: 4), from: a)
      let rest = try await space.admit(a.push(after: 2, through: 6), from: a)
      #expect(rest == Acknowledgement(through: 6, exceptions: [], head: 6))
      #expect(try space.progress(of: a.identity)?.digest == a.digests[6])
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `a gap is refused with what was expected, and changes nothing`(kind: StorageKind) async throws {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      var a = TestReplica()
      for count in 1...5 { a.put("k\(count)", "v") }
      await #expect(throws: HubStorageError.gap(expected: 0)) { try await space.admit(a.push(after: 1), from: a) }
      _ = try await space.admit(a.push(after: 0, through: 2), from: a)
      await #expect(throws: HubStorageError.gap(expected: 2)) { try await space.admit(a.push(after: 3), from: a) }
      #expect(try space.head().version == 2)
      #expect(try space.progress(of: a.identity)?.lastApplied == 2)
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `versions without a commit of the replica's own are covered all the same`(kind: StorageKind) async throws {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      var a = TestReplica()
      for count in 1...3 { a.put("k\(count)", "v") }
      var push = a.push(after: 0, through: 3)
      push.segment.records = a.segment(after: 1, through: 2).records
      push.segment.changeCount = 1
      let acknowledgement = try await space.admit(push, from: a)
      #expect(acknowledgement == Acknowledgement(through: 3, exceptions: [], head: 1))
      #expect(try space.progress(of: a.identity)?.lastApplied == 3)
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `a commit that touches what another replica wrote beyond the cursor is stale as a whole`(kind: StorageKind)
    async throws
  {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      var a = TestReplica()
      var b = TestReplica()
      a.put("x", "a")
      a.put("y", "a")
      _ = try await space.admit(a.push(after: 0), from: a)
      b.commit([("z", "b"), ("x", "b"), ("y", "b")])
      b.commit([("z", "b2")])
      let first = try await space.admit(b.push(after: 0, cursor: 1), from: b)
      #expect(first.exceptions == [CommitException(version: 1, reason: .stale(hubVersion: 2))])
      #expect(first.through == 2)
      #expect(first.head == 3)
      let feed = try #require(try space.feed(after: 2, excluding: .zero, maximumBytes: 1 << 20))
      #expect(try feed.contents == ["3:z=b2"])
      // The same key again, now knowing of it.
      b.put("x", "b3")
      let second = try await space.admit(b.push(after: 2, cursor: 2), from: b, confirmed: 1)
      #expect(second == Acknowledgement(through: 3, exceptions: [], head: 4))
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `a deletion makes later commits stale like a put does`(kind: StorageKind) async throws {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      var a = TestReplica()
      var b = TestReplica()
      a.put("x", "a")
      a.commit([("x", nil)])
      _ = try await space.admit(a.push(after: 0), from: a)
      b.put("x", "b")
      let stale = try await space.admit(b.push(after: 0, cursor: 1), from: b)
      #expect(stale.exceptions == [CommitException(version: 1, reason: .stale(hubVersion: 2))])
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `a replica's own newer rows do not make its commits stale`(kind: StorageKind) async throws {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      var a = TestReplica()
      for count in 1...5 { a.put("x", "\(count)") }
      _ = try await space.admit(a.push(after: 0, through: 2), from: a)
      let rest = try await space.admit(a.push(after: 2), from: a)
      #expect(rest == Acknowledgement(through: 5, exceptions: [], head: 5))
      // But what somebody else wrote in between does, and after the replica has seen it, no longer.
      var b = TestReplica()
      b.put("x", "b")
      _ = try await space.admit(b.push(after: 0, cursor: 5), from: b)
      a.put("x", "6")
      let stale = try await space.admit(a.push(after: 5, cursor: 5), from: a)
      #expect(stale.exceptions == [CommitException(version: 6, reason: .stale(hubVersion: 6))])
      a.put("x", "7")
      let fine = try await space.admit(a.push(after: 6, cursor: 6), from: a, confirmed: 6)
      #expect(fine == Acknowledgement(through: 7, exceptions: [], head: 7))
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `of keys that a replica does not have it has seen nothing, however far its cursor is`(kind: StorageKind)
    async throws
  {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      var a = TestReplica()
      var b = TestReplica()
      a.put("a/1", "theirs")
      a.put("b/1", "theirs")
      _ = try await space.admit(a.push(after: 0), from: a)
      b.put("b/1", "outside")
      b.put("b/2", "outside, and new")
      b.put("a/1", "inside")
      var push = b.push(after: 0, cursor: 2)
      push.coverage = Coverage(prefixes: [Array("a/".utf8)])
      let acknowledgement = try await space.admit(push, from: b)
      #expect(acknowledgement.exceptions == [CommitException(version: 1, reason: .stale(hubVersion: 2))])
      let feed = try #require(try space.feed(after: 2, excluding: .zero, maximumBytes: 1 << 20))
      #expect(try feed.contents == ["3:b/2=outside, and new", "4:a/1=inside"])
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `exceptions are kept until they are confirmed`(kind: StorageKind) async throws {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      var a = TestReplica()
      var b = TestReplica()
      a.put("x", "a")
      _ = try await space.admit(a.push(after: 0), from: a)
      b.put("x", "b")
      b.put("x", "b")
      b.put("y", "b")
      _ = try await space.admit(b.push(after: 0, through: 2), from: b)
      let stale = [1, 2].map { CommitException(version: $0, reason: .stale(hubVersion: 1)) }
      #expect(try space.progress(of: b.identity)?.unconfirmed == stale)
      let again = try await space.admit(b.push(after: 0, through: 2), from: b)
      #expect(again.exceptions == stale)
      let next = try await space.admit(b.push(after: 2, through: 3), from: b, confirmed: 1)
      #expect(next.exceptions == [stale[1]])
      #expect(try space.progress(of: b.identity)?.unconfirmed == [stale[1]])
      #expect(try space.progress(of: b.identity)?.confirmed == 1)
      b.put("y", "b")
      _ = try await space.admit(b.push(after: 3, through: 4), from: b, confirmed: 3)
      #expect(try space.progress(of: b.identity)?.unconfirmed == [])
      #expect(try space.progress(of: b.identity)?.confirmed == 2, "the last of them, and no commit that was taken")
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `a push that breaks the rules is refused whole`(kind: StorageKind) async throws {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      var a = TestReplica()
      var b = TestReplica()
      a.put("a", "1")
      a.put("b", "2")
      b.put("b", "1")
      var cut = a.push(after: 0)
      cut.segment.records.removeLast()
      var foreign = a.push(after: 0)
      foreign.segment.records = b.segment(after: 0, through: 1).records
      foreign.segment.changeCount = 1
      var beyond = a.push(after: 0)
      beyond.segment.through = 1
      for push in [cut, foreign, beyond] {
        await #expect(throws: HubStorageError.self) { try await space.admit(push, from: a) }
      }
      #expect(try space.head().version == 0)
      #expect(try space.progress(of: a.identity) == nil)
      let fine = try await space.admit(a.push(after: 0), from: a)
      #expect(fine == Acknowledgement(through: 2, exceptions: [], head: 2))
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `a refused commit is consumed and not applied, stale or not, and its reason is kept until it is confirmed`(
    kind: StorageKind
  ) async throws {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      var a = TestReplica()
      var b = TestReplica()
      b.put("k", "theirs")
      _ = try await space.admit(b.push(after: 0), from: b)
      a.put("a", "1")
      a.put("k", "refused and stale")
      a.put("k", "stale")
      a.put("a", "2")
      var push = a.push(after: 0)
      push.refusals = [
        CommitRefusal(version: 2, code: 100, message: "no"),
        CommitRefusal(version: 4, code: 7, message: String(repeating: "é", count: 2_000)),
      ]
      let exceptions = [
        CommitException(version: 2, reason: .refused(code: 100, message: "no")),
        CommitException(version: 3, reason: .stale(hubVersion: 1)),
        CommitException(version: 4, reason: .refused(code: 7, message: String(repeating: "é", count: 512))),
      ]
      #expect(
        try await space.admit(push, from: a) == Acknowledgement(through: 4, exceptions: exceptions, head: 2))
      #expect(try space.progress(of: a.identity)?.unconfirmed == exceptions)
      #expect(try space.feed(after: 0, excluding: .zero, maximumBytes: 1 << 20)?.contents == ["1:k=theirs", "2:a=1"])
      // Sent again, with another opinion: the decision stands.
      push.refusals = [CommitRefusal(version: 1, code: 9, message: "now this")]
      #expect(
        try await space.admit(push, from: a) == Acknowledgement(through: 4, exceptions: exceptions, head: 2))
      a.put("b", "3")
      let confirming = try await space.admit(a.push(after: 4), from: a, confirmed: 3)
      #expect(confirming == Acknowledgement(through: 5, exceptions: [exceptions[2]], head: 3))
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `of the reasons of many refusals only so much is kept as a welcome can carry; the codes all are`(
    kind: StorageKind
  ) async throws {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      var a = TestReplica()
      for number in 0..<3_000 { a.put("k\(number)", "v") }
      for after in stride(from: Version(0), to: 3_000, by: 1_000) {
        var push = a.push(after: after, through: after + 1_000)
        push.refusals = (after + 1...after + 1_000).map {
          CommitRefusal(version: $0, code: 100, message: String(repeating: "m", count: 1_000))
        }
        _ = try await space.admit(push, from: a)
      }
      let unconfirmed = try #require(try space.progress(of: a.identity)).unconfirmed
      #expect(unconfirmed.map(\.version) == Array(1...3_000))
      let lengths = unconfirmed.map { exception in
        if case .refused(100, let message) = exception.reason { message.utf8.count } else { -1 }
      }
      #expect(lengths.reduce(0, +) == 1 << 20)
      #expect(lengths.first == 1_000 && lengths.last == 0)
    }
  }
}
