// What is very small, very large or very many: rows of a few bytes, transactions at their limit, conflicts over the
// largest values.

import Foundation
import KVLog
import KVStore
import TestSupport
import Testing

@Suite struct LimitsTests {
  /// Eight bytes in no order.
  private func key(_ number: Int) -> [UInt8] {
    var random = SeededGenerator(seed: UInt64(number))
    return random.bytes(8)
  }

  @Test("Many rows of a few bytes take more room in the tail than in the log: written, and there after a crash")
  func manyTinyRows() throws {
    let scratch = try Scratch()
    let store = try Store.openBlocking(at: scratch.path("store"))
    try store.writeBlocking { transaction in
      for number in 0..<60_000 { try transaction.put("", for: key(number)) }
    }
    #expect(try contents(store).count == 60_000)
    // As a kill leaves it.
    try FileManager.default.copyItem(atPath: scratch.path("store"), toPath: scratch.path("copy"))
    try store.closeBlocking()
    let again = try Store.openBlocking(at: scratch.path("copy"))
    #expect(try contents(again).count == 60_000)
    try again.closeBlocking()
  }

  @Test("A transaction is refused at its limit to the byte, and goes on with what fits")
  func transactionLimit() throws {
    let scratch = try Scratch()
    let store = try Store.openBlocking(at: scratch.path("store"))
    let big = [UInt8](repeating: 1, count: LogLimits.maximumValueBytes)
    // Forty bytes of the commit itself, seven of each change, two of each key.
    let room = LogLimits.maximumCommitBytes - 40 - 3 * (7 + 2 + big.count) - 7 - 2
    try store.writeBlocking { transaction in
      for index in 0..<3 { try transaction.put(big, for: "k\(index)") }
      for excess in 1...10 {
        #expect(throws: StoreError.self) {
          try transaction.put([UInt8](repeating: 2, count: room + excess), for: "k9")
        }
      }
      try transaction.put([UInt8](repeating: 2, count: room), for: "k9")
      #expect(throws: StoreError.self) { try transaction.delete("a") }
    }
    #expect(try store.value(for: "k9")?.count == room)
    #expect(throws: StoreError.self) { try store.putBlocking(big + [0], for: "k") }
    try store.closeBlocking()
    let again = try Store.openBlocking(at: scratch.path("store"))
    #expect(try again.value(for: "k2") == big)
    try again.closeBlocking()
  }

  @Test("A transaction that swallows a failure of the disk and goes on fails as a whole, and the store stays usable")
  func swallowedFailure() throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    let store = try Store.openBlocking(at: path)
    // The next generation of the tail cannot be made.
    try FileManager.default.moveItem(atPath: path + "/tail", toPath: path + "/away")
    #expect(throws: StoreError.self) {
      try store.writeBlocking { transaction in
        for number in 0..<2_000 { try? transaction.put([UInt8](repeating: 3, count: 1_000), for: key(number)) }
        for row in transaction.scan() { _ = row }
        _ = try? transaction.value(for: "k")
      }
    }
    try FileManager.default.moveItem(atPath: path + "/away", toPath: path + "/tail")
    #expect(try contents(store).isEmpty)
    try store.putBlocking("v", for: "k")
    try store.closeBlocking()
    #expect(try Store.verify(at: path).keys == 1)
  }

  @Test(
    "A read beyond 510 at a time is refused with a reason; writes go on, and what is sealed is folded when reads end",
    .timeLimit(.minutes(1)))
  func tooManyReads() async throws {
    let scratch = try Scratch()
    var options = Store.Options()
    options.generationBytes = 512 << 10
    let store = try await Store.open(at: scratch.path("store"), options: options)
    try await store.put("v", for: "k")
    var snapshots: [Snapshot] = []
    var refusal: StoreError?
    do {
      while snapshots.count < 600 { snapshots.append(try store.read { $0 }) }
    } catch { refusal = error as? StoreError }
    #expect(snapshots.count == 510)
    #expect(refusal?.code == .tooManyReads)
    // More than a generation, so that there is one to fold.
    for round in 0..<4 {
      try await store.write { transaction in
        for number in 0..<100 { try transaction.put([UInt8](repeating: 1, count: 1_000), for: "\(round)/\(number)") }
      }
    }
    try await Task.sleep(for: .milliseconds(300))
    try await store.put("w", for: "k")
    #expect(text(try snapshots[509].value(for: "k")) == "v")
    snapshots = []
    #expect(text(try store.value(for: "k")) == "w")
    // The folder has waited for them.
    let deadline = ContinuousClock.now + .seconds(10)
    while try store.information().tailBytes > 512 << 10 {
      try #require(ContinuousClock.now < deadline, "what is sealed is folded")
      try await Task.sleep(for: .milliseconds(10))
    }
    #expect(try store.count() == 401)
    try await store.close()
    #expect(try Store.verify(at: scratch.path("store")).keys == 401)
  }

  enum Policy {
    case localWins, remoteWins, lastWriterWins, merge

    var conflictPolicy: ConflictPolicy {
      switch self {
      case .localWins: .localWins
      case .remoteWins: .remoteWins
      case .lastWriterWins: .lastWriterWins
      case .merge: .merge { $0.local ?? $0.remote }
      }
    }
  }

  @Test(
    "Conflicts over many of the largest values, in one remote commit or in many, end with equal stores and all losers kept",
    arguments: [(.localWins, true), (.merge, true), (.remoteWins, false), (.lastWriterWins, false)] as [(Policy, Bool)])
  func largeConflicts(policy: Policy, inOneCommit: Bool) async throws {
    let count = 6
    let scratch = try Scratch()
    let hub = try Store.openBlocking(at: scratch.path("hub"))
    let replica = try Store.openBlocking(at: scratch.path("replica"))
    for index in 0..<count {
      try replica.putBlocking([UInt8](repeating: UInt8(index), count: LogLimits.maximumValueBytes), for: "k\(index)")
    }
    if inOneCommit {
      try await hub.write { for index in 0..<count { try $0.put("theirs", for: "k\(index)") } }
    } else {
      for index in 0..<count { try hub.putBlocking("theirs", for: "k\(index)") }
    }
    try hub.putBlocking("behind", for: "z")
    let exchange = Exchange(hub: hub, segmentBytes: 1 << 20)
    try await exchange.settle([replica], policy: policy.conflictPolicy)
    #expect(text(try replica.value(for: "z")) == "behind")
    #expect(try replica.conflicts().count == count)
    let isLocal = policy == .localWins || policy == .merge
    for index in 0..<count {
      let value = try replica.value(for: "k\(index)")
      #expect(try hub.value(for: "k\(index)") == value)
      if isLocal { #expect(value?.count == LogLimits.maximumValueBytes) }
    }
    #expect(replica.counters().pendingChanges == 0)
    // Parts of one commit are one commit to whoever counts what came in.
    try replica.closeBlocking()
    let report = try Store.verify(at: scratch.path("replica"))
    #expect(report.keys == count + 1)
    try hub.closeBlocking()
  }

  @Test(
    "An end between the parts of a feed records nothing twice and leaves nothing out",
    arguments: [(1, true), (4, true), (4, false), (9, false)])
  func interruptedFeed(synchronized: Int, inOneCommit: Bool) async throws {
    let count = 8
    let scratch = try Scratch()
    let files = FaultyFileSystem()
    var options = Store.Options()
    options.fileSystem = files
    let hub = try Store.openBlocking(at: scratch.path("hub"))
    let replica = try Store.openBlocking(at: scratch.path("replica"), options: options)
    for index in 0..<count {
      try replica.putBlocking([UInt8](repeating: UInt8(index), count: LogLimits.maximumValueBytes), for: "k\(index)")
    }
    if inOneCommit {
      try await hub.write { for index in 0..<count { try $0.put("theirs", for: "k\(index)") } }
    } else {
      for index in 0..<count { try hub.putBlocking("theirs", for: "k\(index)") }
    }
    let feed = try #require(try hub.feedSegment(after: 0, excluding: replica.identity, maximumBytes: 1 << 20))
    let before = replica.counters().localVersion
    files.set(.synchronize, after: synchronized)
    await #expect(throws: StoreError.self) {
      try await replica.apply(feed, epoch: hub.identity, policy: .remoteWins)
    }
    files.set(.none)
    #expect(replica.counters().localVersion < before + UInt64(count))
    try? replica.closeBlocking()
    let again = try Store.openBlocking(at: scratch.path("replica"))
    _ = try await again.apply(feed, epoch: hub.identity, policy: .remoteWins)
    // As many commits as the feed has, or parts of its one commit, of three values each.
    #expect(again.counters().localVersion == before + UInt64(inOneCommit ? 3 : count))
    #expect(try again.conflicts().count == count)
    #expect(try contents(again) == contents(hub))
    try again.closeBlocking()
    try hub.closeBlocking()
  }

  @Test("A merged value that no store can hold loses to the remote one, with the local one in the journal")
  func mergedTooLarge() async throws {
    let scratch = try Scratch()
    let hub = try Store.openBlocking(at: scratch.path("hub"))
    let replica = try Store.openBlocking(at: scratch.path("replica"))
    try replica.putBlocking("mine", for: "k")
    try hub.putBlocking("theirs", for: "k")
    try hub.putBlocking("other", for: "z")
    let tooLong = [UInt8](repeating: 0, count: LogLimits.maximumValueBytes + 1)
    try await Exchange(hub: hub).settle([replica], policy: .merge { _ in tooLong })
    #expect(text(try replica.value(for: "k")) == "theirs")
    #expect(text(try replica.value(for: "z")) == "other")
    let conflict = try #require(try replica.conflicts().first)
    #expect(conflict.winner == .remote)
    #expect(text(conflict.losingValue) == "mine")
  }
}
