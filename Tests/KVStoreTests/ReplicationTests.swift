import Foundation
import KVLog
import KVStore
import Synchronization
import TestSupport
import Testing

/// The rules of conflicts and of exactly-once, straight between stores.
@Suite struct ReplicationTests {
  let scratch: Scratch
  let hub: Store
  let first: Store
  let second: Store
  let exchange: Exchange

  init() async throws {
    scratch = try Scratch()
    var options = Store.Options()
    options.logRetention = .all
    // As a hub opens it; here every push is left for later.
    options.isExclusive = true
    options.lateGroupBytes = 1
    hub = try await Store.open(at: scratch.path("hub"), options: options)
    first = try await Store.open(at: scratch.path("a"))
    second = try await Store.open(at: scratch.path("b"))
    exchange = Exchange(hub: hub)
  }

  private func expectEqual(_ sourceLocation: SourceLocation = #_sourceLocation) throws {
    let expected = try contents(hub)
    for replica in [first, second] {
      #expect(try contents(replica) == expected, sourceLocation: sourceLocation)
      #expect(replica.counters().pendingChanges == 0, sourceLocation: sourceLocation)
      #expect(replica.counters().pendingBytes == 0, sourceLocation: sourceLocation)
    }
  }

  @Test("Replicas with random interleaved edits converge under any policy and order", arguments: 0..<24)
  func converges(run: Int) async throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("seed \(seed)")
    var random = SeededGenerator(seed: seed)
    let policies: [ConflictPolicy] = [
      .lastWriterWins, .localWins, .remoteWins,
      .merge { input in
        let sides = [input.local ?? [], input.remote ?? []].sorted { $0.lexicographicallyPrecedes($1) }
        return Array((sides[0] + sides[1]).prefix(64))
      },
    ]
    let policy = policies[run % policies.count]
    let replicas = [first, second, try await Store.open(at: scratch.path("c"))]
    for _ in 0..<150 {
      let replica = replicas.randomElement(using: &random)!
      switch Int.random(in: 0..<10, using: &random) {
      case 0..<6:
        let changes = (0..<Int.random(in: 1...4, using: &random)).map { _ in
          ("k\(Int.random(in: 0..<12, using: &random))", Bool.random(using: &random) ? random.bytes(4) : nil)
        }
        try await replica.write { transaction in
          for (key, value) in changes {
            if let value { try transaction.put(value, for: key) } else { try transaction.delete(key) }
          }
        }
      case 6: _ = try await exchange.push(replica)
      case 7: _ = try await exchange.push(replica, losesAcknowledgement: true)
      default: _ = try await exchange.pull(replica, policy: policy)
      }
    }
    try await exchange.settle(replicas, policy: policy, seed: seed)
    let expected = try contents(hub)
    for replica in replicas {
      #expect(try contents(replica) == expected, "seed \(seed)")
      #expect(replica.counters().pendingChanges == 0, "seed \(seed)")
      #expect(replica.counters().pendingBytes == 0, "seed \(seed)")
    }
    for (store, name) in zip(replicas + [hub], ["a", "b", "c", "hub"]) {
      try await store.close()
      _ = try Store.verify(at: scratch.path(name))
    }
  }

  @Test("A lost acknowledgement and a resend apply once")
  func appliesOnce() async throws {
    try await first.put("1", for: "x")
    try await first.put("2", for: "y")
    #expect(try await exchange.push(first, losesAcknowledgement: true))
    #expect(try await exchange.push(first, losesAcknowledgement: true))
    #expect(hub.counters().localVersion == 2)
    #expect(try await exchange.push(first))
    #expect(hub.counters().localVersion == 2)
    #expect(first.counters().pendingChanges == 0)
  }

  @Test("The hub refuses a gap and says what it expected")
  func refusesGap() async throws {
    try await first.put("1", for: "x")
    try await first.put("2", for: "y")
    let push = try #require(try first.pushSegment(after: 1, maximumBytes: 1000))
    await #expect(throws: AdmissionError.gap(expected: 0)) {
      try await hub.admit(push, from: first.identity, confirmed: 0)
    }
  }

  @Test("The last writer wins on both sides, and the losing value is in the journal of the replica that found out")
  func lastWriterWins() async throws {
    try await first.put("older", for: "k")
    try await Task.sleep(for: .milliseconds(5))
    try await second.put("newer", for: "k")
    try await exchange.settle([first, second], policy: .lastWriterWins)
    try expectEqual()
    #expect(text(try first.value(for: "k")) == "newer")
    let journal = try second.conflicts()
    #expect(journal.count == 1)
    #expect(journal.first?.winner == .local)
    #expect(text(journal.first?.losingValue) == "older")
    #expect(second.counters().conflicts == 1)
  }

  @Test("A change that lost is never shipped, though its transaction's other changes are")
  func voidChangesStayHome() async throws {
    try await second.write { transaction in
      try transaction.put("loses", for: "k")
      try transaction.put("lives", for: "other")
    }
    try await Task.sleep(for: .milliseconds(5))
    try await first.put("wins", for: "k")
    _ = try await exchange.push(first)
    _ = try await exchange.pull(second, policy: .lastWriterWins)
    let push = try #require(try second.pushSegment(after: 0, maximumBytes: 1000))
    #expect(push.segment.changeCount == 1)
    #expect(push.localChanges == 2)
    try await exchange.settle([first, second], policy: .lastWriterWins)
    try expectEqual()
    #expect(text(try hub.value(for: "k")) == "wins")
    #expect(text(try hub.value(for: "other")) == "lives")
    #expect(text(try second.conflicts().first?.losingValue) == "loses")
  }

  @Test("Replicas that each prefer their own value come to an end, and their logs grow by no more than they exchange")
  func localWinsEverywhereEnds() async throws {
    let exchange = Exchange(hub: hub, segmentBytes: 500)
    for round in 0..<60 {
      for (replica, name) in [(first, "a"), (second, "b")] {
        try await replica.write { transaction in
          for key in 0..<4 { try transaction.put("\(name)\(round)", for: "k\((round + key) % 10)") }
        }
      }
    }
    try await exchange.settle([first, second], policy: .localWins)
    try expectEqual()
    #expect(hub.counters().localVersion < 400)
    #expect(first.counters().localVersion + second.counters().localVersion < 1500)
  }

  @Test("A stale commit is consumed, offered again with its original time, and applied once")
  func staleIsReoffered() async throws {
    try await first.put("a", for: "k")
    _ = try await exchange.push(first)
    try await second.put("b", for: "k")
    try await second.put("free", for: "j")
    #expect(try await exchange.push(second))
    #expect(text(try hub.value(for: "k")) == "a")
    #expect(text(try hub.value(for: "j")) == "free")
    #expect(second.counters().pendingChanges == 1)
    #expect(second.replicaState().holdUntil == 1)
    try await exchange.settle([first, second], policy: .localWins)
    try expectEqual()
    #expect(text(try hub.value(for: "k")) == "b")
  }

  @Test(
    "The receipt of a stale commit waits for the commit that offers it again, however often, in every process's view")
  func receiptsOfStaleCommits() async throws {
    let decided = Decided()
    try await first.put("a", for: "k")
    try await first.put("a", for: "l")
    _ = try await exchange.push(first)
    let stale = try await second.put("b", for: "k")
    let fine = try await second.put("free", for: "j")
    let waiting = (decided.wait(for: stale, "stale"), decided.wait(for: fine, "fine"))
    #expect(try await exchange.push(second))
    #expect(try await waiting.1.value == .applied)
    // Offered again, and stale once more: somebody was faster.
    _ = try await exchange.pull(second, policy: .localWins)
    try await first.put("a again", for: "k")
    _ = try await exchange.push(first)
    #expect(try await exchange.push(second))
    let late = decided.wait(for: stale, "late")
    try await Task.sleep(for: .milliseconds(20))
    #expect(decided.names == ["fine"], "the commit is still on its way")
    try await exchange.settle([first, second], policy: .localWins)
    #expect(try await waiting.0.value == .applied)
    #expect(try await late.value == .applied)
    #expect(text(try hub.value(for: "k")) == "b")
    // What was decided stays known when the log is replayed.
    try await second.close()
    _ = try Store.verify(at: scratch.path("b"))
  }

  @Test("Ten thousand receipts that wait cost an acknowledgement nothing but those it is about")
  func manyReceipts() async throws {
    let decided = Decided()
    var waiting: [Task<Receipt.Decision, any Error>] = []
    for round in 0..<100 {
      let receipt = try await second.put("\(round)", for: "k", durability: .relaxed)
      for _ in 0..<100 { waiting.append(decided.wait(for: receipt, "\(round)")) }
    }
    try await exchange.settle([second], policy: .lastWriterWins)
    for task in waiting { #expect(try await task.value == .applied) }
    #expect(decided.names.count == 10_000)
  }

  @Test(
    "Equal changes are no conflict; the later one is shipped, for its time, and an earlier one is not",
    arguments: [true, false])
  func equalIsNoConflict(laterFirst: Bool) async throws {
    try await first.put("same", for: "k")
    try await Task.sleep(for: .milliseconds(2))
    try await second.put("same", for: "k")
    let order = laterFirst ? [second, first] : [first, second]
    try await exchange.settle(order, policy: .lastWriterWins)
    try expectEqual()
    #expect(first.counters().conflicts + second.counters().conflicts == 0)
    #expect(hub.counters().localVersion == (laterFirst ? 1 : 2))
  }

  @Test("Pending changes and bytes are exact after every step, across reopening")
  func countersAreExact() async throws {
    try await first.put("12345", for: "abc")
    try await first.delete("gone")
    #expect(first.counters().pendingChanges == 2)
    #expect(first.counters().pendingBytes == 12)
    try await first.close()
    let reopened = try await Store.open(at: scratch.path("a"))
    #expect(reopened.counters().pendingChanges == 2)
    #expect(reopened.counters().pendingBytes == 12)
    #expect(try await exchange.push(reopened))
    #expect(reopened.counters().pendingChanges == 0)
    #expect(reopened.counters().acknowledgedVersion == 2)
    try await second.put("x", for: "y")
    try await exchange.settle([reopened, second], policy: .lastWriterWins)
    #expect(reopened.counters().localVersion == 3)
    #expect(reopened.counters().serverVersion == 3)
    #expect(reopened.counters().acknowledgedVersion == 3)
    try await reopened.close()
  }

  @Test("Changes tell local, remote and resolved changes apart, from any version, live")
  func observation() async throws {
    let seen = Task { [second] in
      var kinds: [StoreChange] = []
      for try await change in second.changes(after: 0) {
        kinds.append(change)
        if kinds.count == 3 { break }
      }
      return kinds
    }
    try await second.put("mine", for: "k")
    try await Task.sleep(for: .milliseconds(5))
    try await first.put("theirs", for: "k")
    _ = try await exchange.push(first)
    _ = try await exchange.pull(second, policy: .localWins)
    let changes = try await seen.value
    #expect(changes.map(\.kind) == [.local, .remote, .resolution])
    #expect(changes.map { text($0.value) } == ["mine", "theirs", "mine"])
    #expect(changes[1].serverVersion == 1)
    var later: [Version] = []
    for try await change in second.changes(after: 2) {
      later.append(change.version)
      break
    }
    #expect(later == [3])
  }
}

/// Who has heard of a decision, in order.
private final class Decided: Sendable {
  private let heard = Mutex<[String]>([])

  var names: [String] { heard.withLock { $0 } }

  func wait(for receipt: Receipt, _ name: String) -> Task<Receipt.Decision, any Error> {
    Task {
      let decision = try await receipt.acknowledged()
      heard.withLock { $0.append(name) }
      return decision
    }
  }
}
