// What a page of a snapshot does to what is here already: straight between stores, one page at a time.

import KVLog
import TestSupport
import Testing

@testable import KVStore

@Suite struct SnapshotLoadingTests {
  private let fixture: HubFixture
  private var hub: Store { fixture.hub }
  private var exchange: Exchange { fixture.exchange }

  init() async throws { fixture = try await HubFixture() }

  /// All that the hub has, as it reads it now for the replica.
  private func page(for replica: Store) throws -> SnapshotPage {
    try hub.page(
      of: KeyInterval(from: [], end: nil), for: replica.incarnation, deletions: false, maximumBytes: 1 << 20)
  }

  private func rows(_ store: Store) throws -> [String: String] {
    let rows = try contents(store).map { (text($0.key) ?? "", text($0.value) ?? "") }
    return Dictionary(uniqueKeysWithValues: rows)
  }

  @Test("With nothing pending, what the hub no longer has is deleted, and what it has changed is changed, once")
  func nothingPending() async throws {
    let (mine, theirs) = (try fixture.replica("mine"), try fixture.replica("theirs"))
    for key in ["changed", "deleted", "kept"] { try await mine.put("mine", for: key) }
    try await exchange.settle([mine, theirs], policy: .lastWriterWins)
    try await theirs.put("theirs", for: "changed")
    try await theirs.delete("deleted")
    try await exchange.settle([theirs], policy: .lastWriterWins)
    _ = try await mine.lapse()
    let outcome = try await mine.load(try page(for: mine), policy: .lastWriterWins)
    #expect(try rows(mine) == ["changed": "theirs", "kept": "mine"])
    // What was its own has the hub's version now.
    #expect(outcome.changes == 3 && outcome.conflicts == 0)
    _ = try await mine.lapse()
    #expect(try await mine.load(try page(for: mine), policy: .lastWriterWins).changes == 0, "only what differs")
  }

  @Test("A page that the hub read before it took what is written here neither deletes nor replaces that")
  func olderThanWhatTheHubTook() async throws {
    let (mine, theirs) = (try fixture.replica("mine"), try fixture.replica("theirs"))
    try await mine.put("first", for: "k")
    try await exchange.settle([mine, theirs], policy: .lastWriterWins)
    _ = try await mine.lapse()
    let page = try page(for: mine)
    try await mine.put("second", for: "k")
    try await mine.put("new", for: "n")
    while try await exchange.push(mine) {}
    #expect(mine.counters().pendingChanges == 0)
    _ = try await mine.load(page, policy: .lastWriterWins)
    #expect(try rows(mine) == ["k": "second", "n": "new"])
    try await exchange.settle([theirs, mine], policy: .lastWriterWins)
    #expect(try rows(mine) == rows(hub) && rows(theirs) == rows(hub))
    // Taken before the page was read, and deleted since.
    try await theirs.delete("n")
    try await exchange.settle([theirs], policy: .lastWriterWins)
    _ = try await mine.lapse()
    _ = try await mine.load(try self.page(for: mine), policy: .lastWriterWins)
    #expect(try rows(mine) == ["k": "second"])
  }

  @Test("What is pending since before the store went on under another name stays pending")
  func pendingOfAFormerName() async throws {
    let mine = try fixture.replica("mine")
    try await mine.put("shared", for: "k")
    try await exchange.settle([mine], policy: .lastWriterWins)
    try await mine.put("pending", for: "p")
    _ = try await mine.becomeNewIncarnation()
    let later = try await mine.put("later", for: "q")
    #expect(try mine.timeOfLocalCommit(after: later.version - 2) != nil)
    #expect(try mine.timeOfLocalCommit(after: later.version - 1) != nil, "whichever name it was written under")
    _ = try await mine.lapse()
    _ = try await mine.load(try page(for: mine), policy: .lastWriterWins)
    #expect(try rows(mine) == ["k": "shared", "p": "pending", "q": "later"])
    #expect(mine.counters().pendingChanges == 2)
    try await exchange.settle([mine], policy: .lastWriterWins)
    #expect(try rows(hub) == rows(mine))
  }

  @Test(
    "So does what was pending then and is taken after the page was read; what was taken before it goes when the hub has it no more"
  )
  func takenUnderANewName() async throws {
    let (mine, theirs) = (try fixture.replica("mine"), try fixture.replica("theirs"))
    for key in ["k", "deleted"] { try await mine.put("shared", for: key) }
    try await exchange.settle([mine, theirs], policy: .lastWriterWins)
    try await mine.put("pending", for: "p")
    _ = try await mine.becomeNewIncarnation()
    try await mine.put("later", for: "q")
    try await theirs.delete("deleted")
    try await exchange.settle([theirs], policy: .lastWriterWins)
    _ = try await mine.lapse()
    let page = try page(for: mine)
    while try await exchange.push(mine) {}
    #expect(mine.counters().pendingChanges == 0)
    _ = try await mine.load(page, policy: .lastWriterWins)
    #expect(try rows(mine) == ["k": "shared", "p": "pending", "q": "later"])
    try await exchange.settle([theirs, mine], policy: .lastWriterWins)
    #expect(try rows(mine) == rows(hub) && rows(theirs) == rows(hub))
  }

  @Test("A page of a version before the pull cursor is refused, and changes nothing")
  func pageOfThePast() async throws {
    let (mine, theirs) = (try fixture.replica("mine"), try fixture.replica("theirs"))
    try await mine.put("mine", for: "k")
    try await exchange.settle([mine, theirs], policy: .lastWriterWins)
    let page = try page(for: mine)
    try await theirs.put("theirs", for: "k")
    try await exchange.settle([theirs, mine], policy: .lastWriterWins)
    let state = try await mine.lapse()
    #expect(state.cursor?.version == 2 && page.position.version == 1)
    let error = await #expect(throws: StoreError.self) { try await mine.load(page, policy: .lastWriterWins) }
    #expect(error?.code == .replication)
    #expect(try rows(mine) == ["k": "theirs"])
  }

  @Test(
    "Pages, pushes, feeds, lapses and new names in any order: all come to the same, and nothing that was written is gone"
  )
  func anyOrder() async throws {
    var random = SeededGenerator()
    let stores = try fixture.replicas(3)
    try await exchange.settle(stores, policy: .lastWriterWins)
    var written: [String: String] = [:]
    func write(_ store: Store) async throws {
      // Nobody else writes the first one, or writes it again.
      let key = "u/\(random.below(10))/\(written.count)"
      written[key] = "\(written.count)"
      try await store.put("\(written.count - 1)", for: key)
      let other = "k\(random.below(6))"
      if random.chance(70) {
        try await store.put("\(written.count)", for: other)
      } else {
        try await store.delete(other)
      }
    }
    /// Something that happens while a page is on its way.
    func step(_ store: Store) async throws {
      if random.chance(30) { try await write(store) } else { _ = try await exchange.push(store) }
    }
    func load(_ store: Store) async throws {
      while try await exchange.pull(store, policy: .lastWriterWins) {}
      guard let missing = store.replicaState().missing.intervals.first else { return }
      for _ in 0..<random.below(3) { try await write(store) }
      if random.chance(25) { _ = try await store.becomeNewIncarnation() }
      let cut = Array(["k1", "k3", "u", "u/2", "u/5", "u/7"][random.below(6)].utf8)
      let isWithin =
        missing.from.lexicographicallyPrecedes(cut) && missing.end.map { cut.lexicographicallyPrecedes($0) } ?? true
      let interval = KeyInterval(from: missing.from, end: isWithin ? cut : missing.end)
      let page = try hub.page(
        of: interval, for: store.incarnation, deletions: store.counters().pendingChanges > 0, maximumBytes: 1 << 20)
      for _ in 0..<random.below(6) { try await step(random.chance(70) ? store : stores[random.below(3)]) }
      _ = try await store.load(page, policy: .lastWriterWins)
    }
    for _ in 0..<500 {
      let store = stores[random.below(3)]
      switch random.below(100) {
      case 0..<30: try await write(store)
      case 30..<50: _ = try await exchange.push(store)
      case 50..<65: _ = try await exchange.pull(store, policy: .lastWriterWins)
      case 65..<88: try await load(store)
      case 88..<92: _ = try await store.lapse()
      default: _ = try await store.becomeNewIncarnation()
      }
    }
    for store in stores { while !store.replicaState().missing.isEmpty { try await load(store) } }
    try await exchange.settle(stores, policy: .lastWriterWins, seed: random.seed)
    let expected = try rows(hub)
    for (number, store) in stores.enumerated() { #expect(try rows(store) == expected, "replica \(number)") }
    #expect(written.allSatisfy { expected[$0.key] != nil }, "\(written.keys.filter { expected[$0] == nil })")
  }

  @Test("What was seen is known through the oldest of the versions it was seen at, and of nothing that is not wanted")
  func seen() {
    var subscription = Subscription()
    subscription.loaded(KeyInterval(from: [], end: nil))
    subscription.lapse(from: 10)
    #expect(subscription.seen == .all && subscription.seenThrough == 10 && subscription.coverage.isEmpty)
    // What the hub has by then was not seen where it was put back to before that.
    var restored = subscription
    restored.wentBack(to: 4)
    #expect(restored.seen == .all && restored.seenThrough == 4)
    // Loaded again in part only, when it lapses once more.
    subscription.loaded(KeyInterval(prefix: Array("a".utf8)))
    subscription.lapse(from: 20)
    #expect(subscription.seen == .all && subscription.seenThrough == 10)
    subscription.want([Array("b".utf8)], at: 20)
    #expect(subscription.seen == Coverage(prefixes: [Array("b".utf8)]) && subscription.missing == subscription.seen)
    subscription.loaded(KeyInterval(prefix: Array("b".utf8)))
    #expect(subscription.seen.isEmpty && subscription.seenThrough == 0 && subscription.missing.isEmpty)
  }

  @Test("However often scopes change, what is remembered of those that left stays small")
  func leftIsBounded() {
    var subscription = Subscription()
    for number in 0..<2_000 {
      let prefix = Array("\(number)/".utf8)
      subscription.want([prefix], at: 1)
      subscription.loaded(KeyInterval(prefix: prefix))
      // Left as single keys between what was never here.
      subscription.want([prefix + [0x30]], at: 1)
    }
    let bytes = subscription.left.encodedByteCount
    #expect(bytes > 0 && bytes <= StoreLimits.leftScopesBytes)
  }

  @Test("What left the scopes is known as it was then, until it is given up, or comes back")
  func left() {
    func hasSeen(_ subscription: Subscription, _ key: String, _ version: Version) -> Bool {
      let key = Array(key.utf8)
      return subscription.hasSeen(key.bytes, at: version)
    }
    var subscription = Subscription()
    subscription.loaded(KeyInterval(from: [], end: nil))
    subscription.want([Array("a".utf8), Array("b".utf8)], at: 10)
    subscription.want([Array("b".utf8)], at: 20)
    #expect(subscription.left == Coverage.all.subtracting(Coverage(prefixes: [Array("b".utf8)])))
    #expect(hasSeen(subscription, "a", 10) && hasSeen(subscription, "z", 10))
    #expect(!hasSeen(subscription, "a", 11) && !hasSeen(subscription, "b", 1))
    var evicted = subscription
    evicted.evicted(KeyInterval(prefix: Array("a".utf8)))
    #expect(!hasSeen(evicted, "a", 1) && hasSeen(evicted, "z", 10))
    var restored = subscription
    restored.wentBack(to: 4)
    #expect(hasSeen(restored, "a", 4) && !hasSeen(restored, "a", 5))
    subscription.want(nil, at: 30)
    #expect(hasSeen(subscription, "a", 10))
    subscription.loaded(KeyInterval(from: [], end: nil))
    #expect(subscription.left.isEmpty && !hasSeen(subscription, "a", 1))
  }
}
