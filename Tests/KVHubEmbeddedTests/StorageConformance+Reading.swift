// What every hub storage must show of a space: its commits as a feed, its rows as a snapshot and in key order.

import HubTestSupport
import KVHub
import KVLog
import KVProtocol
import Testing

extension StorageConformance {
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
  func `a replica is fed its own commits that others brought back, and those through a version that it names`(
    kind: StorageKind
  ) async throws {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      var a = TestReplica()
      for key in ["a1", "a2", "a3"] { a.put(key, "a") }
      _ = try await space.admit(a.push(after: 0, through: 2), from: a)
      let own = FeedRequest(after: 0, excluding: a.identity)
      #expect(try space.feed(own, maximumBytes: 1 << 20)?.contents == [])
      var named = own
      named.ownThrough = 1
      #expect(try space.feed(named, maximumBytes: 1 << 20)?.contents == ["1:a1=a"])
      try await space.beginEpoch(after: try space.head().identity, through: 2)
      var segment = a.segment(after: 2, through: 3)
      // The version that the hub had once given it stands behind that of who brings it.
      segment.records[16] = 9
      let outcome = try await space.restore(Restoration(segment: segment, cursor: 2))
      #expect(outcome.declined.isEmpty)
      #expect(try space.feed(own, maximumBytes: 1 << 20)?.contents == ["3:a3=a"])
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
}
