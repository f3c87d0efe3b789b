// What is shipped of a backlog, and that it comes to the same as shipping all of it.

import Foundation
import KVLog
import Synchronization
import TestSupport
import Testing

@testable import KVStore

@Suite struct CoalescingTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  /// Three replicas and a hub somewhere in the middle of things: written to, synchronised in part, acknowledgements lost.
  private func stir(_ random: inout SeededGenerator, in directory: String) async throws {
    var options = Store.Options()
    options.logRetention = .all
    let hub = try await Store.open(at: directory + "/hub", options: options)
    var replicas: [Store] = []
    for number in 0..<3 { replicas.append(try await Store.open(at: directory + "/r\(number)")) }
    let exchange = Exchange(hub: hub, segmentBytes: 200 + random.below(800))
    for _ in 0..<120 {
      let replica = replicas[random.below(3)]
      switch random.below(20) {
      case 0: _ = try await exchange.push(replica)
      case 1: _ = try await exchange.push(replica, losesAcknowledgement: true)
      case 2, 3: _ = try await exchange.pull(replica, policy: .lastWriterWins)
      default: try await write(replica, &random)
      }
    }
    for (number, replica) in replicas.enumerated() {
      for _ in 0..<5 { try await replica.put(random.bytes(8), for: "own\(number)") }
    }
    for store in replicas + [hub] { try await store.close() }
  }

  /// A transaction over a few of a few keys, some of them twice, some deleted.
  private func write(_ store: Store, _ random: inout SeededGenerator) async throws {
    let changes = (0...random.below(4)).map { _ in
      ("k\(random.below(10))", random.chance(80) ? random.bytes(1...30) : nil)
    }
    try await store.write { transaction in
      for (key, value) in changes {
        if let value { try transaction.put(value, for: key) } else { try transaction.delete(key) }
      }
    }
  }

  /// A way to read the log, drawn at random: look-ups or surveys of a few versions, short runs.
  private func tuning(_ random: inout SeededGenerator) -> PushReader.Tuning {
    var tuning = PushReader.Tuning()
    if random.chance(60) {
      tuning.lookedUpChanges = 0
      tuning.surveyedRowsPerChange = 1_000
      tuning.surveyedVersions = 1 + random.below(40)
    }
    if random.chance(50) { tuning.pushReadBytes = 1 + random.below(500) }
    return tuning
  }

  @Test(
    "Shipping coalesced leads to the same rows on the hub and on every replica as shipping everything", arguments: 0..<8
  )
  func sameState(run: Int) async throws {
    var random = SeededGenerator()
    try FileManager.default.createDirectory(atPath: scratch.path("latest"), withIntermediateDirectories: true)
    try await stir(&random, in: scratch.path("latest"))
    try FileManager.default.copyItem(atPath: scratch.path("latest"), toPath: scratch.path("every"))
    var hubVersions: [Version] = []
    var states: [[[UInt8]: [UInt8]]] = []
    for (name, history) in [("latest", ShippedHistory.latest), ("every", .every)] {
      var options = Store.Options()
      options.logRetention = .all
      let hub = try await Store.open(at: scratch.path(name + "/hub"), options: options)
      var replicas: [Store] = []
      for number in 0..<3 { replicas.append(try await Store.open(at: scratch.path("\(name)/r\(number)"))) }
      let exchange = Exchange(
        hub: hub, segmentBytes: 200 + random.below(2_000), history: history, tuning: tuning(&random))
      try await exchange.settle(replicas, policy: .lastWriterWins, seed: random.seed)
      for store in replicas {
        #expect(store.counters().pendingChanges == 0 && store.counters().pendingBytes == 0)
        #expect(store.counters().acknowledgedVersion == store.counters().localVersion)
      }
      hubVersions.append(hub.counters().localVersion)
      for store in [hub] + replicas {
        states.append(try contents(store))
        try await store.close()
      }
    }
    #expect(Set(states).count == 1, "the stores differ (seed \(random.seed))")
    #expect(hubVersions[0] < hubVersions[1], "nothing was coalesced (seed \(random.seed))")
  }

  @Test(
    "What is shipped is whole commits of which something is current, less what is void, and all is counted",
    arguments: 0..<8)
  func shipsTheCurrent(run: Int) async throws {
    var random = SeededGenerator()
    try FileManager.default.createDirectory(atPath: scratch.path("a"), withIntermediateDirectories: true)
    try await stir(&random, in: scratch.path("a"))
    for number in 0..<3 {
      let store = try await Store.open(at: scratch.path("a/r\(number)"))
      let state = store.state
      for history in [ShippedHistory.latest, .every] {
        let expected = try expectation(store, history)
        let reader = PushReader(store, history: history, tuning: tuning(&random))
        var shipped: [Version: [Change]] = [:]
        var after = state.shipped
        var counted = (changes: 0, bytes: 0)
        while let push = try reader.next(after: after, maximumBytes: 1 + random.below(600)) {
          #expect(push.segment.after == after && push.segment.through > after)
          #expect(try store.digest(at: push.segment.through) == push.segment.digest)
          after = push.segment.through
          counted.changes += push.localChanges
          counted.bytes += push.localBytes
          let changes = try self.changes(in: push)
          #expect(changes.reduce(0) { $0 + $1.value.count } == push.segment.changeCount)
          shipped.merge(changes) { _, _ in [] }
        }
        #expect(shipped == expected, "\(history), seed \(random.seed)")
        #expect(counted == (state.pendingChanges, state.pendingBytes), "seed \(random.seed)")
      }
      try await store.close()
    }
  }

  private struct Change: Equatable {
    var key: [UInt8]
    var value: [UInt8]?
  }

  /// By the rule, from the log alone.
  private func expectation(_ store: Store, _ history: ShippedHistory) throws -> [Version: [Change]] {
    var commits: [Version: [Change]] = [:]
    var last: [[UInt8]: Version] = [:]
    let acknowledged = store.counters().acknowledgedVersion
    try store.forEachChange(after: 0) { change in
      if change.origin == store.identity {
        let key = change.key.copied()
        last[key] = change.version
        if change.version > acknowledged {
          commits[change.version, default: []].append(Change(key: key, value: change.value?.copied()))
        }
      }
      return true
    }
    let voids = try store.read { snapshot in
      try last.keys.reduce(into: [[UInt8]: Version]()) { voids, key in
        voids[key] = try snapshot.bytes(\.voids, key).map { $0.bytes.load(UInt64.self, at: 0) } ?? 0
      }
    }
    for (version, changes) in commits {
      let kept = changes.filter { voids[$0.key, default: 0] < version }
      let isCurrent = kept.contains { last[$0.key] == version }
      commits[version] = kept.isEmpty || (history == .latest && !isCurrent) ? nil : kept
    }
    return commits
  }

  private func changes(in push: PushSegment) throws -> [Version: [Change]] {
    var commits: [Version: [Change]] = [:]
    let bytes = push.segment.records.bytes
    var records = RecordCursor(over: bytes)
    while let record = try records.next(in: bytes) {
      let commit = try CommitView(payload: record.payload, in: bytes)
      var changes = ChangeCursor(commit)
      while let change = try changes.next(in: bytes) {
        commits[commit.header.version, default: []].append(
          Change(
            key: bytes.extracting(change.key).copied(),
            value: change.isDeletion ? nil : bytes.extracting(change.value).copied()))
      }
    }
    return commits
  }

  @Test("A run of nothing but overwritten commits moves the acknowledged version, and the hub stores nothing for it")
  func emptyRun() async throws {
    let hub = try await Store.open(at: scratch.path("hub"))
    let replica = try await Store.open(at: scratch.path("replica"))
    for number in 0..<10 { try await replica.put("\(number)", for: "k") }
    var tuning = PushReader.Tuning()
    tuning.pushReadBytes = 300
    let exchange = Exchange(hub: hub, tuning: tuning)
    #expect(try await exchange.push(replica))
    let counters = replica.counters()
    #expect(hub.counters().localVersion == 0)
    #expect(counters.acknowledgedVersion > 0 && counters.acknowledgedVersion < 10)
    #expect(counters.pendingChanges == 10 - Int(counters.acknowledgedVersion))
    while try await exchange.push(replica) {}
    #expect(hub.counters().localVersion == 1 && replica.counters().pendingChanges == 0)
    #expect(text(try hub.value(for: "k")) == "9")
  }

  @Test("Of a backlog changes are looked up until a walk over all rows costs less: not if it is small beside the store")
  func survey() async throws {
    let store = try await Store.open(at: scratch.path("store"))
    try await store.write { transaction in
      for number in 0..<200 { try transaction.put("old", for: "k\(number)") }
    }
    for _ in 0..<10 { try await store.put("new", for: "k7") }
    var tuning = PushReader.Tuning()
    tuning.lookedUpChanges = 10
    tuning.surveyedRowsPerChange = 50
    let reader = PushReader(store, history: .latest, tuning: tuning)
    let first = try #require(try reader.next(after: 0, maximumBytes: 1))
    #expect(first.segment.through == 10 && first.segment.changeCount == 200 && first.localChanges == 209)
    #expect(!reader.isSurveying, "a walk has not been earned yet")
    let rest = try #require(try reader.next(after: 10, maximumBytes: 1))
    #expect(rest.segment.through == 11 && rest.segment.changeCount == 1)
    #expect(reader.isSurveying)
    #expect(try reader.next(after: 11, maximumBytes: 1) == nil)
    let few = PushReader(store, history: .latest, tuning: tuning)
    #expect(try few.next(after: 9, maximumBytes: 1_000)?.localChanges == 2)
    #expect(!few.isSurveying)
    tuning.surveyedRowsPerChange = 0
    let inLargeStore = PushReader(store, history: .latest, tuning: tuning)
    #expect(try inLargeStore.next(after: 0, maximumBytes: 1) == first && !inLargeStore.isSurveying)
  }

  @Test("What is left of a block that has been loaded is not at hand when it is large")
  func restOfBlock() async throws {
    let files = FaultyFileSystem()
    var options = Store.Options()
    options.fileSystem = files
    let store = try await Store.open(at: scratch.path("store"), options: options)
    // While the first is being synchronised the others come, and share a block.
    files.slowness.store(300, ordering: .relaxed)
    try await withThrowingTaskGroup { group in
      for (key, bytes) in [("a", 1), ("b", 1), ("c", 2 * StoreLimits.atHandLogBytes)] {
        group.addTask { try await store.put([UInt8](repeating: 7, count: bytes), for: key) }
        try await Task.sleep(for: .milliseconds(30))
      }
      try await group.waitForAll()
    }
    let reader = PushReader(store, history: .latest)
    for version in 0..<Version(2) {
      #expect(try reader.next(after: version, maximumBytes: 1)?.segment.through == version + 1)
    }
    #expect(try reader.nextAtHand(after: 2) == nil)
    #expect(try store.feedSegmentAtHand(after: 2, excluding: .zero, maximumBytes: 1) == nil)
    #expect(try reader.next(after: 2, maximumBytes: 1)?.segment.through == 3)
    try await store.close()
  }

  @Test("One small, durable commit at the head is read in place, as otherwise; nothing else is")
  func atHand() async throws {
    let files = FaultyFileSystem()
    var options = Store.Options()
    options.fileSystem = files
    let store = try await Store.open(at: scratch.path("store"), options: options)
    try await store.put("1", for: "a")
    let reader = PushReader(store, history: .latest)
    #expect(try reader.nextAtHand(after: 0) == nil, "nobody has read to there")
    #expect(try reader.next(after: 0, maximumBytes: 1 << 20)?.segment.through == 1)
    // There is nothing after it, as far as that state goes.
    let nothing = try #require(try reader.nextAtHand(after: 1))
    #expect(nothing.push == nil && nothing.state.local.version == 1)
    try await store.put("2", for: "b")
    let (push, state) = try #require(try reader.nextAtHand(after: 1))
    #expect(push?.segment.through == 2 && push?.localChanges == 1 && state.local.version == 2)
    #expect(try push == reader.next(after: 1, maximumBytes: 1 << 20))
    try await store.put("3", for: "a")
    try await store.put("4", for: "a")
    #expect(try reader.nextAtHand(after: 2) == nil, "the first may have been overwritten by the second")
    #expect(try reader.next(after: 2, maximumBytes: 1 << 20)?.segment.changeCount == 1)
    try await store.put([UInt8](repeating: 7, count: StoreLimits.atHandLogBytes), for: "c")
    #expect(try reader.nextAtHand(after: 4) == nil, "it is large")
    #expect(try reader.next(after: 4, maximumBytes: 1 << 20)?.segment.through == 5)
    files.set(.synchronize)
    try await store.put("6", for: "d", durability: .relaxed)
    #expect(try reader.nextAtHand(after: 5) == nil, "it is not durable")
    files.set(.none)
    try await store.close()
  }
}
