// What every hub storage must do; one run for each of them.

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
      b.put("y", "b")
      _ = try await space.admit(b.push(after: 3, through: 4), from: b, confirmed: 3)
      #expect(try space.progress(of: b.identity)?.unconfirmed == [])
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `a replica's feed leaves its own commits out and yet passes them`(kind: StorageKind) async throws {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      var a = TestReplica()
      var b = TestReplica()
      a.put("a1", "a")
      b.put("b1", "b")
      a.put("a2", "a")
      _ = try await space.admit(a.push(after: 0, through: 1), from: a)
      _ = try await space.admit(b.push(after: 0), from: b)
      _ = try await space.admit(a.push(after: 1, through: 2), from: a)
      let forA = try #require(try space.feed(after: 0, excluding: a.identity, maximumBytes: 1 << 20))
      #expect(try forA.contents == ["2:b1=b"])
      #expect(forA.through == 3)
      #expect(try space.digest(at: 3) == forA.digest)
      let tail = try #require(try space.feed(after: 2, excluding: a.identity, maximumBytes: 1 << 20))
      #expect(tail.records.isEmpty)
      #expect(tail.through == 3)
      let forB = try #require(try space.feed(after: 0, excluding: b.identity, maximumBytes: 1 << 20))
      #expect(try forB.contents == ["1:a1=a", "3:a2=a"])
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `a feed is cut at commits by bytes, and one commit is never too large`(kind: StorageKind) async throws {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      var a = TestReplica()
      let value = String(repeating: "v", count: 1_000)
      for count in 1...9 { a.put("k\(count)", value) }
      a.put("large", String(repeating: "v", count: 100_000))
      _ = try await space.admit(a.push(after: 0), from: a)
      var cursor: Version = 0
      var contents: [String] = []
      while let feed = try space.feed(after: cursor, excluding: .zero, maximumBytes: 3_000) {
        #expect(feed.after == cursor)
        #expect(feed.through > cursor)
        #expect(feed.through == 10 || feed.records.count <= 4_200)
        #expect(try space.digest(at: feed.through) == feed.digest)
        contents += try feed.contents
        cursor = feed.through
      }
      #expect(contents.count == 10)
      #expect(cursor == 10)
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
  func `a snapshot has each row once, of one range after the other, and says what of a replica is in it`(
    kind: StorageKind
  ) async throws {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      let all = KeyInterval(from: [], end: nil)
      let empty = try space.page(of: all, for: .zero, deletions: true, maximumBytes: 100)
      #expect(try empty.record.isEmpty && empty.interval == all && empty.position == space.head())
      var a = TestReplica()
      for count in 100...199 { a.put("k\(count)", "v\(count)") }
      for count in stride(from: 100, through: 199, by: 4) { a.commit([("k\(count)", nil)]) }
      _ = try await space.admit(a.push(after: 0), from: a)
      for deletions in [false, true] {
        var rest: KeyInterval? = KeyInterval(from: Array("k110".utf8), end: Array("k190".utf8))
        var found: [String] = []
        while let interval = rest {
          let page = try space.page(of: interval, for: a.identity, deletions: deletions, maximumBytes: 300)
          try page.check()
          #expect(try page.applied == a.version && page.position == space.head())
          #expect(page.interval.from == interval.from)
          let commit = try #require(try page.commit())
          let bytes = page.record.bytes
          var changes = ChangeCursor(commit)
          var origins = RowOriginCursor(commit, in: bytes)
          while let change = try changes.next(in: bytes) {
            let origin = try origins.next(in: bytes)
            #expect(origin.author == a.identity && origin.time.rawValue == origin.serverVersion)
            found.append(
              String(decoding: bytes.extracting(change.key).copied(), as: UTF8.self) + (change.isDeletion ? "-" : ""))
          }
          rest = page.interval.end == interval.end ? nil : KeyInterval(from: page.interval.end ?? [], end: interval.end)
        }
        let expected = (110..<190).compactMap { $0 % 4 == 0 ? deletions ? "k\($0)-" : nil : "k\($0)" }
        #expect(found == expected)
      }
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `a feed of some keys has excerpts of commits, and ends where it is to`(kind: StorageKind) async throws {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      var a = TestReplica()
      a.commit([("a/1", "1"), ("b/1", "1")])
      a.put("b/2", "2")
      a.put("a/2", "2")
      a.put("a/3", "3")
      _ = try await space.admit(a.push(after: 0), from: a)
      let some = Coverage(prefixes: [Array("a/".utf8)])
      let feed = try #require(
        try space.feed(FeedRequest(after: 0, through: 3, excluding: .zero, within: some), maximumBytes: 1 << 20))
      #expect(feed.through == 3 && feed.changeCount == 2)
      #expect(try feed.contents == ["1:a/1=1", "3:a/2=2"])
      #expect(try feed.digest == space.digest(at: 3))
      try feed.checkFed()
      #expect(try space.feed(FeedRequest(after: 3, through: 3, excluding: .zero), maximumBytes: 100) == nil)
      let nothing = try #require(
        try space.feed(FeedRequest(after: 0, excluding: .zero, within: .none), maximumBytes: 100))
      #expect(nothing.through == 4 && nothing.records.isEmpty)
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `rows come in key order, page by page, without the deleted ones`(kind: StorageKind) async throws {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      #expect(try space.rows(after: nil, maximumBytes: 100).isLast)
      var a = TestReplica()
      var expected: [RowHash] = []
      for count in 100...299 {
        let value = Array("v\(count)".utf8)
        a.put("k\(count)", "v\(count)")
        if count % 3 == 0 {
          a.commit([("k\(count)", nil)])
        } else {
          expected.append(RowHash(key: Array("k\(count)".utf8), hash: unsafe checksum128(value.span.bytes)))
        }
      }
      _ = try await space.admit(a.push(after: 0), from: a)
      var rows: [RowHash] = []
      var pages = 0
      while true {
        let page = try space.rows(after: rows.last?.key, maximumBytes: 500)
        #expect(page.version == a.version)
        #expect(try page.digest == space.head().digest)
        rows += page.rows
        pages += 1
        if page.isLast { break }
        try #require(!page.rows.isEmpty)
      }
      #expect(rows == expected)
      #expect(pages > 3)
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
