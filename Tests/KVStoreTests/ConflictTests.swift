// What conflicts come to, and what a hub or a replica that lies cannot make of a store.

import Foundation
import KVLog
import KVStore
import TestSupport
import Testing

@Suite struct ConflictTests {
  private let fixture: HubFixture
  private var scratch: Scratch { fixture.scratch }
  private var hub: Store { fixture.hub }
  private var exchange: Exchange { fixture.exchange }

  init() async throws { fixture = try await HubFixture() }

  private func replicas(_ count: Int) throws -> [Store] { try fixture.replicas(count) }

  @Test(
    "The last writer wins whatever the order of synchronising, deletions and equal values included", arguments: 0..<30)
  func lastWriterWinsInAnyOrder(run: Int) async throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    var random = SeededGenerator(seed: seed)
    let stores = try replicas(4)
    /// The last write of each replica, by key.
    var last: [[UInt8]: [(time: HybridTime, writer: Identity, value: [UInt8]?)]] = [:]
    for store in stores.shuffled(using: &random) {
      for _ in 0..<4 {
        let key = [UInt8]("k\(Int.random(in: 0..<3, using: &random))".utf8)
        // Few values, so that equal ones meet.
        let value = Bool.random(using: &random) ? [UInt8.random(in: 0..<2, using: &random)] : nil
        try await store.write { if let value { try $0.put(value, for: key) } else { try $0.delete(key) } }
        let time = try store.read { try $0.withRow(key.bytes) { row, _ in row.time } }
        last[key, default: []].removeAll { $0.writer == store.identity }
        last[key, default: []].append((try #require(time), store.identity, value))
      }
    }
    for _ in 0..<8 {
      let store = stores.randomElement(using: &random)!
      if Bool.random(using: &random) { _ = try await exchange.pull(store, policy: .lastWriterWins) }
      if Bool.random(using: &random) { _ = try await exchange.push(store) }
    }
    try await exchange.settle(stores.shuffled(using: &random), policy: .lastWriterWins, seed: seed)
    let expected = last.compactMapValues { writes in
      writes.max { ($0.time, $0.writer) < ($1.time, $1.writer) }?.value
    }
    for store in stores + [hub] { #expect(try contents(store) == expected, "seed \(seed)") }
  }

  @Test("A large pending value meets many old edits of its key once, and is shipped once")
  func manyEditsOneConflict() async throws {
    let stores = try replicas(2)
    for number in 0..<300 { try stores[0].putBlocking("\(number)", for: "k") }
    let every = Exchange(hub: hub, history: .every)
    while try await every.push(stores[0]) {}
    try stores[1].putBlocking([UInt8](repeating: 1, count: 1 << 20), for: "k")
    let before = try stores[1].information().logBytes
    try await Exchange(hub: hub, segmentBytes: 1 << 20).settle([stores[1]], policy: .lastWriterWins)
    #expect(try stores[1].information().logBytes - before < 8 << 20)
    let conflict = try #require(try stores[1].conflicts().first)
    #expect(try stores[1].conflicts().count == 1)
    #expect(conflict.winner == .local)
    #expect(text(conflict.losingValue) == "299")
    #expect(try hub.value(for: "k")?.count == 1 << 20)
    // The commits of the one and a single resolution.
    #expect(hub.counters().localVersion == 301)
  }

  @Test("A feed that was applied in part belongs to its hub from the first part on")
  func partBindsToHub() async throws {
    let files = FaultyFileSystem()
    var options = Store.Options()
    options.fileSystem = files
    var replica = try Store.openBlocking(at: scratch.path("replica"), options: options)
    let other = try Store.openBlocking(at: scratch.path("other hub"))
    let big = [UInt8](repeating: 1, count: 16 << 20)
    for index in 0..<6 { try replica.putBlocking(big, for: "k\(index)") }
    try await hub.write { for index in 0..<6 { try $0.put("theirs", for: "k\(index)") } }
    try other.putBlocking("v", for: "elsewhere")
    let feed = try #require(try hub.feedSegment(after: 0, excluding: replica.identity, maximumBytes: 1 << 20))
    let foreign = try #require(try other.feedSegment(after: 0, excluding: replica.identity, maximumBytes: 1 << 20))
    // The disk fails, later each time, until something of the feed is recorded.
    var calls = 0
    while replica.counters().localVersion == 6 {
      calls += 1
      files.set(.synchronize, after: calls)
      let failing = replica
      await #expect(throws: StoreError.self) {
        try await failing.apply(feed, epoch: hub.identity, policy: .localWins)
      }
      files.set(.none)
      try? replica.closeBlocking()
      replica = try Store.openBlocking(at: scratch.path("replica"), options: options)
    }
    #expect(replica.replicaState().cursor?.version == 0)
    let bound = replica
    await #expect(throws: StoreError.self) {
      try await bound.apply(foreign, epoch: other.identity, policy: .localWins)
    }
    try await exchange.settle([replica], policy: .localWins)
    #expect(try contents(replica) == contents(hub))
    try replica.closeBlocking()
  }

  @Test("An acknowledgement of more than is pending is refused, and the counters stay exact")
  func acknowledgementTwice() async throws {
    let replica = try replicas(1)[0]
    for index in 0..<10 { try replica.putBlocking("v", for: "k\(index)") }
    let whole = try #require(try replica.pushSegment(after: 0, maximumBytes: 1 << 20))
    let half = try #require(try replica.pushSegment(after: 0, maximumBytes: 300))
    func acknowledge(_ push: PushSegment) async throws {
      let acknowledgement = Acknowledgement(through: push.segment.through, exceptions: [], head: 10)
      _ = try await replica.acknowledge(
        acknowledgement, digest: push.segment.digest, localChanges: push.localChanges, localBytes: push.localBytes,
        epoch: hub.identity)
    }
    try await acknowledge(half)
    await #expect(throws: StoreError.self) { try await acknowledge(whole) }
    #expect(replica.counters().pendingChanges == 10 - half.localChanges)
    try replica.closeBlocking()
    let again = try Store.openBlocking(at: scratch.path("r0"))
    #expect(again.counters().pendingChanges == 10 - half.localChanges)
    try again.closeBlocking()
  }

  @Test("A store has one session at a time")
  func oneSession() async throws {
    let replica = try replicas(1)[0]
    try await replica.beginSession()
    await #expect(throws: StoreError.self) { try await replica.beginSession() }
    replica.endSession()
    try await replica.beginSession()
  }

  @Test(
    "A commit without changes, or one that says it is a part, is taken neither from a replica nor from a hub",
    arguments: [CommitFlags.partial, []])
  func forgedCommits(flags: CommitFlags) async throws {
    let replica = try replicas(1)[0]
    let writer = Identity.random()
    var records: [UInt8] = []
    let header = CommitHeader(
      version: 1, serverVersion: 0, origin: writer, originVersion: 1, time: HybridTime(rawValue: 1 << 20), flags: flags,
      changeCount: 0)
    var changes: [UInt8] = []
    if flags == .partial {
      changes = [0, 1, 0, 1, 0, 0, 0, 0x6B, 0x76]
    }
    records.append(commit: header, changes: changes.isEmpty ? [] : [0..<changes.count], in: changes.bytes)
    let segment = CommitSegment(
      after: 0, through: 1, digest: .zero, records: records, changeCount: changes.isEmpty ? 0 : 1)
    await #expect(throws: AdmissionError.self) {
      try await hub.admit(
        PushSegment(segment: segment, cursor: 0, localChanges: 1, localBytes: 2), from: writer,
        confirmed: 0)
    }
    await #expect(throws: StoreError.self) {
      try await replica.apply(segment, epoch: hub.identity, policy: .remoteWins)
    }
    #expect(hub.counters().localVersion == 0)
    #expect(replica.counters().localVersion == 0)
  }

  @Test("An open that is refused closes no descriptor of anybody else's")
  func refusedOpenClosesOnce() async {
    await #expect(processExitsWith: .success) {
      let scratch = try Scratch()
      let path = scratch.path("store")
      let store = try Store.openBlocking(at: path)
      // Descriptors that another thread opens meanwhile, and finds open when it closes them.
      let opening = Task {
        for _ in 0..<3_000 { _ = try? Store.openBlocking(at: path) }
        return true
      }
      let others = Task {
        var stolen = 0
        while !Task.isCancelled {
          let descriptor = unsafe open("/dev/null", O_RDONLY)
          if close(descriptor) != 0 { stolen += 1 }
        }
        return stolen
      }
      _ = await opening.value
      others.cancel()
      #expect(await others.value == 0)
      try store.closeBlocking()
    }
  }
}
