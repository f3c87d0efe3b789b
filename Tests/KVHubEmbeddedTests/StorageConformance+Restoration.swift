// What every hub storage must do after its space was put back to an older state: replicas bring back what was lost.

import HubTestSupport
import KVHub
import KVLog
import Testing

extension StorageConformance {
  @Test(arguments: StorageKind.allCases)
  func `an epoch is left once, however many replicas find out that the space was restored`(kind: StorageKind)
    async throws
  {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      var a = TestReplica()
      a.put("a", "1")
      _ = try await space.admit(a.push(after: 0), from: a)
      let start = try space.head()
      for _ in 0..<2 { try await space.beginEpoch(after: start.identity, through: 1) }
      let next = try space.head()
      #expect(next.identity != start.identity && next.version == 1)
      #expect(try space.formerEpochs().map(\.identity) == [start.identity])
      try await space.beginEpoch(after: next.identity, through: 1)
      #expect(try space.formerEpochs().map(\.identity) == [start.identity, next.identity])
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `what was never lost is neither taken nor declined, and a lost commit is taken once`(kind: StorageKind)
    async throws
  {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      var a = TestReplica()
      a.put("x", "overwritten")
      a.put("x", "2")
      a.put("y", "3")
      _ = try await space.admit(a.push(after: 0), from: a)
      a.put("z", "lost")
      try await space.beginEpoch(after: try space.head().identity, through: 3)
      let restoration = Restoration(segment: a.segment(after: 0, through: 4), cursor: 3)
      for _ in 0..<2 {
        #expect(try await space.restore(restoration) == RestorationOutcome(through: 4, declined: [], head: 4))
        #expect(try space.head().version == 4 && space.progress(of: a.identity)?.lastApplied == 4)
      }
      #expect(try space.feed(after: 3, excluding: .zero, maximumBytes: 1 << 20)?.contents == ["4:z=lost"])
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `an author who was restored as well has written other commits: those stay, and the lost ones are declined`(
    kind: StorageKind
  ) async throws {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      var a = TestReplica()
      a.put("x", "1")
      _ = try await space.admit(a.push(after: 0), from: a)
      var restored = TestReplica(copying: a)
      restored.put("x", "1")
      a.put("y", "lost")
      a.put("y", "lost too")
      try await space.beginEpoch(after: try space.head().identity, through: 1)
      restored.put("z", "in its place")
      _ = try await space.admit(restored.push(after: 1, cursor: 1), from: restored)
      let outcome = try await space.restore(Restoration(segment: a.segment(after: 1, through: 3), cursor: 1))
      #expect(outcome == RestorationOutcome(through: 3, declined: [2, 3], head: 2))
      #expect(try space.head().version == 2 && space.progress(of: a.identity)?.lastApplied == 2)
      #expect(try space.feed(after: 1, excluding: .zero, maximumBytes: 1 << 20)?.contents == ["2:z=in its place"])
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `of what the hub has a part of, the whole is declined`(kind: StorageKind) async throws {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      let a = TestReplica()
      var (whole, part) = (a, a)
      whole.commit([("x", "1"), ("y", "lost a conflict since, with what was lost")])
      part.commit([("x", "1")])
      try await space.beginEpoch(after: try space.head().identity, through: 0)
      _ = try await space.admit(part.push(after: 0), from: part)
      for (bringer, declined) in [(whole, [1]), (part, [])] as [(_, [Version])] {
        let outcome = try await space.restore(
          Restoration(segment: bringer.segment(after: 0, through: 1, former: 3), cursor: 1))
        #expect(outcome == RestorationOutcome(through: 1, declined: declined, head: 1))
      }
    }
  }

  @Test(arguments: StorageKind.allCases)
  func `former versions of two epochs do not bring what is older over what is newer`(kind: StorageKind) async throws {
    try await kind.withStorage { storage in
      let space = try await storage.space(named: "notes")
      // Their times go with their versions.
      var (first, second, third) = (TestReplica(), TestReplica(), TestReplica())
      first.put("k", "first")
      for value in ["", "second"] { second.put("k", value) }
      for value in ["", "", "third"] { third.put("k", value) }
      try await space.beginEpoch(after: try space.head().identity, through: 0)
      for (bringer, former, isTaken) in [(second, 6, true), (first, 7, false), (third, 8, true)] as [(_, Version, _)] {
        let last = bringer.version
        let lost = Restoration(segment: bringer.segment(after: last - 1, through: last, former: former), cursor: 0)
        #expect(try await space.restore(lost).declined == (isTaken ? [] : [last]))
      }
    }
  }
}
