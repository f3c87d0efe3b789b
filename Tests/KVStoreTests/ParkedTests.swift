// Commits that the hub refuses: kept, counted, in nobody's way, and decided about by the program.

import Foundation
import KVLog
import TestSupport
import Testing

@testable import KVStore

@Suite struct ParkedTests {
  private let fixture: HubFixture
  private var scratch: Scratch { fixture.scratch }
  private var hub: Store { fixture.hub }
  private var exchange: Exchange { fixture.exchange }

  init() async throws {
    var fixture = try await HubFixture()
    fixture.exchange.refusal = { key, value in
      if value.map({ $0.starts(with: Array("bad".utf8)) }) == true { return (100, "not \(text(key) ?? "")") }
      return text(key)?.hasPrefix("forbidden") == true ? (101, "forbidden") : nil
    }
    self.fixture = fixture
  }

  private func replica(_ name: String = "replica", _ options: Store.Options = Store.Options()) throws -> Store {
    try fixture.replica(name, options)
  }

  @Test("A refused commit is parked whole, with its reason, and what was written before and after it is shipped")
  func parks() async throws {
    let replica = try replica()
    try await replica.put("good", for: "a")
    let refused = try await replica.write { transaction in
      try transaction.put("fine by itself", for: "b")
      try transaction.put("bad", for: "c")
      try transaction.delete("d")
    }
    try await replica.put("good", for: "e")
    try await exchange.settle([replica], policy: .lastWriterWins)
    #expect(try contents(hub).keys.map { text($0) }.sorted { $0! < $1! } == ["a", "e"])
    let counters = replica.counters()
    #expect(counters.pendingChanges == 0 && counters.pendingBytes == 0)
    #expect(counters.parkedCommits == 1 && counters.parkedBytes == 20)
    let parked = try #require(try replica.parkedCommits().first)
    #expect(parked.id == refused.version && parked.code == 100 && parked.reason == "not c")
    #expect(parked.changeCount == 3 && parked.byteCount == 20 && parked.parkedTime > parked.time)
    #expect(try replica.parkedCommit(refused.version) == parked)
    let changes = try replica.parkedChanges(of: refused.version)
    #expect(changes.map { text($0.key) } == ["b", "c", "d"])
    #expect(changes.map { text($0.value) } == ["fine by itself", "bad", nil])
    #expect(changes.map(\.isCurrent) == [true, true, true])
    // The program still sees what it wrote.
    #expect(text(try replica.value(for: "c")) == "bad")
    try await replica.close()
    _ = try Store.verify(at: scratch.path("replica"))
  }

  @Test("A receipt says that its commit is parked and why, follows a retry, and says when it was dropped")
  func receipts() async throws {
    let replica = try replica()
    let refused = try await replica.put("bad", for: "a")
    let dropped = try await replica.put("bad", for: "b")
    let emptied = try await replica.put("bad", for: "c")
    let waiting = Task { try await refused.acknowledged() }
    try await exchange.settle([replica], policy: .lastWriterWins)
    #expect(try await waiting.value == .parked(code: 100, reason: "not a"))
    #expect(try await refused.acknowledged() == .parked(code: 100, reason: "not a"))
    // Still bad: parked under its new version. Then not: applied.
    try await replica.retryParked(refused.version)
    let again = Task { try await refused.acknowledged() }
    try await exchange.settle([replica], policy: .lastWriterWins)
    #expect(try await again.value == .parked(code: 100, reason: "not a"))
    let retried = try #require(try replica.parkedCommits().last?.id)
    try await replica.retryParked(retried) { transaction, _ in try transaction.put("good", for: "a") }
    let mended = Task { try await refused.acknowledged() }
    try await exchange.settle([replica], policy: .lastWriterWins)
    #expect(try await mended.value == .applied)
    try await replica.dropParked(dropped.version)
    #expect(try await dropped.acknowledged() == .dropped)
    try await replica.retryParked(emptied.version) { _, _ in }
    #expect(try await emptied.acknowledged() == .dropped)
    #expect(replica.counters().pendingChanges == 0)
  }

  @Test("What carries a commit on is known after a restart, a compaction and in a backup")
  func successorsTravel() async throws {
    let replica = try replica()
    let refused = try await replica.put("bad", for: "a")
    try await exchange.settle([replica], policy: .lastWriterWins)
    let retried = try await replica.retryParked(refused.version).version
    try await replica.backup(to: scratch.path("copy"))
    try await replica.close()
    try Store.compact(at: scratch.path("replica"))
    for name in ["replica", "copy"] {
      let again = try self.replica(name)
      #expect(try again.core().fate(of: refused.version).successors == [retried], "\(name)")
      try await again.close()
    }
  }

  @Test("A parked commit outlives its log, a restart, a kill, a backup and a compaction")
  func outlivesTheLog() async throws {
    var replica = try replica("replica", Expiry.options)
    let value = Array("bad".utf8) + [UInt8](repeating: 7, count: 100_000)
    let refused = try await replica.put(value, for: "k")
    try await exchange.settle([replica], policy: .lastWriterWins)
    try await Expiry(hub: hub).expire(replica, beyond: refused.version)
    func expectParked(_ store: Store, _ comment: Comment) throws {
      #expect(try store.parkedCommits().map(\.id) == [refused.version], comment)
      #expect(try store.parkedChanges(of: refused.version).map(\.value) == [value], comment)
      #expect(store.counters().parkedCommits == 1 && store.counters().parkedBytes == value.count + 1, comment)
    }
    try expectParked(replica, "truncated")
    try replica.backupBlocking(to: scratch.path("copy"))
    try await replica.close()
    try Store.compact(at: scratch.path("replica"))
    replica = try self.replica("replica", Expiry.options)
    try expectParked(replica, "compacted")
    try await replica.dropParked(refused.version)
    try await replica.close()
    try Store.compact(at: scratch.path("replica"))
    replica = try self.replica("replica", Expiry.options)
    #expect(try replica.parkedCommits().isEmpty)
    #expect(replica.counters().parkedCommits == 0 && replica.counters().parkedBytes == 0)
    try await replica.close()
    let copy = try self.replica("copy")
    try expectParked(copy, "copied")
    try await copy.close()
    for name in ["replica", "copy"] { _ = try Store.verify(at: scratch.path(name)) }
  }

  @Test("Retried, a commit is written and shipped once more and is parked no longer; refused again, it is parked anew")
  func retries() async throws {
    let replica = try replica()
    let first = try await replica.write { transaction in
      try transaction.put("bad", for: "k")
      try transaction.put("other", for: "l")
    }
    try await exchange.settle([replica], policy: .lastWriterWins)
    let again = try await replica.retryParked(first.version)
    #expect(again.version > first.version && again.changes == 2)
    #expect(replica.counters().parkedCommits == 0 && replica.counters().pendingChanges == 2)
    try await exchange.settle([replica], policy: .lastWriterWins)
    #expect(try replica.parkedCommits().map(\.id) == [again.version])
    var lenient = exchange
    lenient.refusal = { _, _ in nil }
    let last = try await replica.retryParked(again.version)
    try await lenient.settle([replica], policy: .lastWriterWins)
    #expect(try contents(hub) == contents(replica))
    #expect(text(try hub.value(for: "k")) == "bad")
    #expect(try replica.parkedCommits().isEmpty)
    for version in [first.version, again.version, last.version] {
      let error = await #expect(throws: StoreError.self) { try await replica.retryParked(version) }
      #expect(error?.code == .noSuchEntry)
    }
  }

  @Test("Edited, a parked commit is replaced by what is written; when the edit throws, it stays")
  func edits() async throws {
    let replica = try replica()
    let refused = try await replica.write { transaction in
      try transaction.put("bad", for: "k")
      try transaction.put("other", for: "l")
    }
    try await exchange.settle([replica], policy: .lastWriterWins)
    struct Refused: Error {}
    await #expect(throws: Refused.self) {
      try await replica.retryParked(refused.version) { transaction, _ in
        try transaction.put("half", for: "k")
        throw Refused()
      }
    }
    #expect(text(try replica.value(for: "k")) == "bad")
    #expect(replica.counters().parkedCommits == 1)
    let edited = try await replica.retryParked(refused.version) { transaction, changes in
      for change in changes {
        try transaction.put(text(change.value) == "bad" ? Array("good".utf8) : change.value ?? [], for: change.key)
      }
    }
    #expect(edited.changes == 2 && replica.counters().parkedCommits == 0)
    try await exchange.settle([replica], policy: .lastWriterWins)
    #expect(try contents(hub) == contents(replica))
    #expect(text(try hub.value(for: "k")) == "good")
  }

  @Test(
    "Dropped, a commit's row stays until the key is written again, and the next remote change wins without a conflict")
  func drops() async throws {
    let (replica, other) = (try replica(), try self.replica("other"))
    let refused = try await replica.write { transaction in
      try transaction.put("bad", for: "k")
      try transaction.put("other", for: "l")
    }
    try await exchange.settle([replica], policy: .lastWriterWins)
    try await replica.put("newer", for: "l")
    #expect(try replica.parkedChanges(of: refused.version).map(\.isCurrent) == [true, false])
    #expect(try await replica.dropParked(refused.version) == DroppedCommits(commits: 1, rowsLeft: 1))
    #expect(text(try replica.value(for: "k")) == "bad")
    #expect(replica.counters().parkedCommits == 0 && replica.counters().parkedBytes == 0)
    try await exchange.settle([replica, other], policy: .lastWriterWins)
    #expect(try other.value(for: "k") == nil)
    try await other.put("from elsewhere", for: "k")
    try await exchange.settle([other, replica], policy: .localWins)
    #expect(replica.counters().conflicts == 0)
    #expect(try contents(replica) == contents(hub))
    #expect(try contents(other) == contents(hub))
  }

  @Test(
    "All, or all with a code, are retried or dropped in bounded steps, each commit once and those of later left alone")
  func bulk() async throws {
    let replica = try replica()
    for index in 0..<2_500 {
      try await replica.put(index % 5 == 0 ? "bad" : "v", for: index % 5 == 0 ? "b\(index)" : "forbidden/\(index)")
    }
    var exchange = exchange
    exchange.segmentBytes = 64 << 10
    try await exchange.settle([replica], policy: .lastWriterWins)
    #expect(replica.counters().parkedCommits == 2_500)
    var pages: [Version] = []
    while true {
      let page = try replica.parkedCommits(after: pages.last, limit: 300)
      pages += page.map(\.id)
      if page.count < 300 { break }
    }
    #expect(pages == Array(1...2_500))
    let dropped = try await replica.dropAllParked(withCode: 101)
    #expect(dropped == DroppedCommits(commits: 2_000, rowsLeft: 2_000))
    #expect(replica.counters().parkedCommits == 500)
    #expect(try await replica.retryAllParked() == 500)
    #expect(replica.counters().parkedCommits == 0 && replica.counters().pendingChanges == 500)
    try await exchange.settle([replica], policy: .lastWriterWins)
    #expect(try replica.parkedCommits().map(\.id) == Array(2_501...3_000))
  }

  @Test("What lost a conflict is not parked, and so never written again by a retry")
  func voidStaysOut() async throws {
    let (replica, other) = (try replica(), try self.replica("other"))
    let refused = try await replica.write { transaction in
      try transaction.put("bad", for: "k")
      try transaction.put("rest", for: "l")
    }
    try await Task.sleep(for: .milliseconds(3))
    try await other.put("wins", for: "k")
    try await exchange.settle([other], policy: .lastWriterWins)
    // Read before the conflict was found, refused after.
    let state = replica.replicaState()
    var push = try #require(try replica.pushSegment(after: state.shipped, maximumBytes: 2_000))
    push.refusals = [CommitRefusal(version: refused.version, code: 100, message: "no")]
    _ = try await exchange.pull(replica, policy: .lastWriterWins)
    let ack = try await hub.admit(push, from: replica.identity, confirmed: 0)
    _ = try await replica.acknowledge(
      ack, digest: push.segment.digest, localChanges: push.localChanges, localBytes: push.localBytes,
      epoch: hub.identity)
    #expect(try replica.parkedChanges(of: refused.version).map { text($0.key) } == ["l"])
    try await replica.retryParked(refused.version)
    try await exchange.settle([replica, other], policy: .lastWriterWins)
    for store in [hub, replica, other] {
      #expect(text(try store.value(for: "k")) == "wins")
      #expect(text(try store.value(for: "l")) == "rest")
    }
  }

  @Test("An acknowledgement that refuses large commits is recorded in parts, and goes on after a break between them")
  func inParts() async throws {
    let files = FaultyFileSystem()
    var options = Store.Options()
    options.fileSystem = files
    var replica = try replica("replica", options)
    let value = Array("bad".utf8) + [UInt8](repeating: 1, count: 6 << 20)
    for index in 0..<8 { try replica.putBlocking(value, for: "k\(index)") }
    try replica.putBlocking("good", for: "last")
    var large = exchange
    large.segmentBytes = 100 << 20
    // The disk fails, later each time, until a part is recorded.
    var calls = 0
    while replica.counters().parkedCommits == 0 {
      calls += 1
      files.set(.synchronize, after: calls)
      let failing = replica
      await #expect(throws: StoreError.self) { try await large.push(failing) }
      files.set(.none)
      try? replica.closeBlocking()
      replica = try self.replica("replica", options)
    }
    #expect(replica.counters().parkedCommits == 3 && replica.counters().acknowledgedVersion == 3)
    #expect(replica.counters().pendingChanges == 6)
    try await large.settle([replica], policy: .lastWriterWins)
    #expect(try replica.parkedCommits().map(\.id) == Array(1...8))
    #expect(replica.counters().pendingChanges == 0 && replica.counters().acknowledgedVersion == 9)
    #expect(text(try hub.value(for: "last")) == "good")
    try await replica.close()
    _ = try Store.verify(at: scratch.path("replica"))
  }

  @Test(
    "Random edits under a hub that refuses some: nothing vanishes, and retried to a lenient hub all become equal",
    arguments: 0..<8)
  func nothingVanishes(run: Int) async throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    var random = SeededGenerator(seed: seed)
    let replicas = try (0..<3).map { try replica("r\($0)") }
    var written: Set<[UInt8]> = []
    /// What its own writer replaced, then what is on the hub, in a journal or parked.
    var accountedFor: Set<[UInt8]> = []
    for round in 0..<120 {
      let store = replicas.randomElement(using: &random)!
      switch random.below(10) {
      case 0..<6:
        var changes: [String: [UInt8]] = [:]
        for index in 0...random.below(3) {
          changes["k\(random.below(8))"] = Array("\(random.chance(30) ? "bad" : "v")\(round).\(index)".utf8)
        }
        for key in changes.keys {
          guard let entry = try store.entry(for: key), entry.origin == store.identity else { continue }
          accountedFor.insert(entry.value)
        }
        try await store.write { [changes] in for (key, value) in changes { try $0.put(value, for: key) } }
        written.formUnion(changes.values)
      case 6..<8: _ = try await exchange.push(store, losesAcknowledgement: random.chance(30))
      default: _ = try await exchange.pull(store, policy: .lastWriterWins)
      }
    }
    try await exchange.settle(replicas, policy: .lastWriterWins, seed: seed)
    for store in replicas + [hub] {
      try store.forEachChange(after: 0) { change in
        if store === hub, let value = change.value { accountedFor.insert(value.copied()) }
        return true
      }
      for parked in try store.parkedCommits() {
        for change in try store.parkedChanges(of: parked.id) {
          if let value = change.value { accountedFor.insert(value) }
        }
      }
      accountedFor.formUnion(try store.conflicts().compactMap(\.losingValue))
      #expect(store.counters().pendingChanges == 0 || store === hub, "seed \(seed)")
    }
    let vanished = written.subtracting(accountedFor)
    #expect(vanished.isEmpty, "seed \(seed): \(vanished.map { text($0) ?? "" })")
    var lenient = exchange
    lenient.refusal = { _, _ in nil }
    for store in replicas {
      try await store.retryAllParked()
      try await lenient.settle(replicas, policy: .lastWriterWins, seed: seed)
    }
    let expected = try contents(hub)
    for store in replicas {
      #expect(try contents(store) == expected, "seed \(seed)")
      #expect(store.counters().parkedCommits == 0 && store.counters().parkedBytes == 0, "seed \(seed)")
    }
  }
}
