// What the simulator found in the rules of restored hubs and copied stores, each as the shortest story of it.

import KVLog
import KVProtocol
import Testing

@testable import KVReplicator
@testable import KVStore

private let epoch = Identity(high: 9, low: 9)
private let author = Identity(high: 2, low: 2)

/// Commits of an author as a hub feeds them: its version, the author's, and what it puts under "k"; or as they are brought back,
/// with the version that the hub had once given them.
private func feed(
  after: Version = 0, of author: Identity = author, key: Character = "k", clock: UInt64 = 1_000, former: Version = 0,
  _ commits: [(author: Version, value: String)]
) throws -> CommitSegment {
  var segment = CommitSegment(after: after, through: after, digest: .zero, records: [], changeCount: 0)
  for commit in commits {
    segment.through += 1
    segment.changeCount += 1
    let header = CommitHeader(
      version: segment.through, serverVersion: former, origin: author, originVersion: commit.author,
      time: HybridTime(milliseconds: clock + commit.author), flags: [], changeCount: 1)
    var change: [UInt8] = [0, 1, 0, UInt8(commit.value.utf8.count), 0, 0, 0]
    change += Array("\(key)\(commit.value)".utf8)
    segment.records.append(commit: header, changes: [0..<change.count], in: change.bytes)
  }
  return segment
}

@Suite struct RestorationRulesTests {
  private var store = ModelStore(identity: Identity(high: 1, low: 1))

  private func decide(
    _ store: inout ModelStore, _ exception: CommitException.Reason, in epoch: Identity = epoch
  ) throws {
    let version = store.version
    _ = try store.acknowledge(
      Acknowledgement(through: version, exceptions: [.init(version: version, reason: exception)], head: 5),
      digest: store.state.position.digest, localChanges: 1, epoch: epoch)
  }

  private func acknowledge(_ store: inout ModelStore) throws {
    _ = try store.acknowledge(
      Acknowledgement(through: store.version, exceptions: [], head: 5), digest: store.state.position.digest,
      localChanges: 1, epoch: epoch)
  }

  private func rollBack(_ store: inout ModelStore, head: Version = 0) throws {
    try store.rollBack(
      to: .start(of: Identity(high: 9, low: 10)), in: epoch, shipped: 0, digest: .origin(of: store.identity), head: head
    )
  }

  @Test("What waits to be offered again does not wait for a version that a restored hub has lost")
  func lostVersionIsNotAwaited() throws {
    var store = store
    store.write([.init(key: [1], value: [1])])
    try decide(&store, .stale(hubVersion: 5))
    #expect(store.replicaState.holdUntil == 5)
    try rollBack(&store)
    #expect(store.replicaState.holdUntil == 0 && store.hasPending)
  }

  @Test("What a restored hub has got back is applied in its order, also where only some of it was here before")
  func appliedInOrder() throws {
    var store = store
    // The second one was stale when it was first pushed, and came as the third: nobody but the hub's new history has it.
    _ = try store.apply(feed([(1, "first"), (3, "third")]), epoch: epoch)
    try rollBack(&store)
    try store.recordRestored(through: nil, declined: [], head: 0)
    _ = try store.apply(
      feed([(1, "first"), (2, "second"), (3, "third")]), epoch: Identity(high: 9, low: 10))
    #expect(store.rows[Array("k".utf8)]?.value == Array("third".utf8))
  }

  @Test("What was written knowing of others' commits meets no conflict when these come again from a restored hub")
  func laterKnew() throws {
    var store = store
    store.policy = .remoteWins
    let next = Identity(high: 9, low: 10)
    _ = try store.apply(feed([(1, "theirs 1")]), epoch: epoch)
    store.write([.init(key: Array("k".utf8), value: Array("mine 1".utf8))], clock: 2_000)
    let (version, time) = (store.version, store.rows[Array("k".utf8)]!.row.time.milliseconds)
    try acknowledge(&store)
    _ = try store.apply(feed(after: 1, [(2, "theirs 2")]), epoch: epoch)
    store.write([.init(key: Array("k".utf8), value: Array("mine 2".utf8))], clock: 3_000)
    try acknowledge(&store)
    try rollBack(&store, head: 2)
    // Somebody has brought back the first of mine, before the second of theirs.
    var again = try feed(of: store.identity, clock: time - version, [(version, "mine 1")])
    again.records += try feed(after: 1, [(2, "theirs 2")]).records
    again.through = 2
    again.changeCount = 2
    let (outcome, _) = try store.apply(again, epoch: next)
    #expect(outcome.conflicts == 0 && store.conflicts.allSatisfy { !$0.outcome.isJournaled })
    #expect(store.rows[Array("k".utf8)]?.value == Array("mine 2".utf8))
  }

  @Test("What is fed again over what was written here comes to stand behind it, though the log no longer has either")
  func ownComesAgain() throws {
    var store = store
    let next = Identity(high: 9, low: 10)
    _ = try store.apply(feed([(1, "theirs")]), epoch: epoch)
    store.write([.init(key: Array("k".utf8), value: Array("mine".utf8))], clock: 2_000)
    try acknowledge(&store)
    store.truncateLog(keeping: 0)
    try rollBack(&store, head: 2)
    #expect(store.replicaState.ownThrough == 2)
    store.truncateLog(keeping: 0)
    _ = try store.apply(feed([(1, "theirs")]), epoch: next)
    #expect(store.replicaState.ownThrough == 2)
    _ = try store.apply(feed(after: 1, of: store.identity, [(2, "mine")]), epoch: next)
    #expect(store.rows[Array("k".utf8)]?.value == Array("mine".utf8))
    #expect(store.replicaState.ownThrough == 0)
  }

  @Test("What this store wrote comes back to it, and what it wrote later stands", arguments: [true, false])
  func laterStands(isPending: Bool) throws {
    var store = store
    for value in ["earlier", "later"] {
      store.write([.init(key: Array("k".utf8), value: Array(value.utf8))], clock: 2_000)
      if !isPending || store.version == 1 { try acknowledge(&store) }
    }
    store.truncateLog(keeping: 0)
    store.state.cursor = 1
    try store.rollBack(
      to: .start(of: Identity(high: 9, low: 10)), in: epoch, shipped: store.state.shipped,
      digest: store.state.shippedDigest, head: 1)
    _ = try store.apply(feed(of: store.identity, [(1, "earlier")]), epoch: Identity(high: 9, low: 10))
    #expect(store.rows[Array("k".utf8)]?.value == Array("later".utf8))
    #expect(store.conflicts.allSatisfy { !$0.outcome.isJournaled })
  }

  @Test("Of what others brought back, what is not fed is offered again, and what is fed is not, however much it is")
  func unproven() throws {
    var store = store
    let count = StoreLimits.unprovenCommits + 3
    for number in 0..<count {
      store.write([.init(key: Array("k\(number % 2)".utf8), value: [UInt8(number % 7)])], clock: 1)
    }
    store.write([.init(key: Array("k".utf8), value: Array("taken".utf8))], clock: 3_000)
    let last = store.version
    let time = HybridTime(rawValue: store.rows[Array("k".utf8)]!.row.time.rawValue)
    var fed = try feed(of: store.identity, [(last, "taken")])
    let view = CommitHeader(
      version: 1, serverVersion: 0, origin: store.identity, originVersion: last, time: time, flags: [], changeCount: 1)
    let change: [UInt8] = [0, 1, 0, 5, 0, 0, 0] + Array("ktaken".utf8)
    fed.records = []
    fed.records.append(commit: view, changes: [0..<change.count], in: change.bytes)
    _ = try store.apply(fed, epoch: epoch)
    let state = store.state
    let (outcome, _) = try store.acknowledge(
      Acknowledgement(through: last, exceptions: [], head: 1), digest: state.position.digest,
      localChanges: count + 1, localBytes: Int(state.localBytes), epoch: epoch, isUnproven: true)
    // Of so many commits two are current, one for each key.
    #expect(outcome.reoffered == 2 && store.state.shipped == last && store.state.pendingChanges == 2)
    #expect(store.replicaState.holdUntil == 0)
  }

  @Test("A commit that a restored hub refuses once more is parked once, as it was")
  func parkedOnce() throws {
    var store = store
    store.write([.init(key: [1], value: [1])])
    try decide(&store, .refused(code: 30, message: "no"))
    try rollBack(&store)
    try decide(&store, .refused(code: 30, message: "no"), in: Identity(high: 9, low: 10))
    #expect(store.state.parkedCommits == 1 && store.parked.count == 1)
  }

  @Test("The log is not given back while a restored hub lacks what is in it")
  func neededLogStays() throws {
    var store = store
    _ = try store.apply(feed([(1, "first"), (3, "third")]), epoch: epoch)
    #expect(store.state.neededFrom == 3)
    try rollBack(&store)
    #expect(store.state.isRestoring && store.state.neededFrom == 1)
    try store.recordRestored(through: nil, declined: [], head: 0)
    #expect(!store.state.isRestoring)
  }

  @Test("A new incarnation has pending again what the hub did not surely have, and what it pulled is not in question")
  func surelyConfirmed() throws {
    var store = store
    store.write([.init(key: [1], value: [1])])
    try acknowledge(&store)
    // The hub had it by its version 5, and the store has pulled nothing.
    var copy = store
    let isPendingAgain = try copy.becomeNewIncarnation(Identity(high: 1, low: 2))
    #expect(isPendingAgain)
    #expect(copy.replicaState.pendingChanges == 1 && !copy.state.isRestoring && copy.state.lowestRollback == .max)
    let next = copy.nextPush(after: 0, maximumBytes: 1 << 10)
    let push = try #require(next)
    #expect(try ModelStore.commits(in: push.segment.records).map(\.flags) == [.reoffer])
    _ = try store.apply(feed((1...5).map { ($0, "\($0)") }), epoch: epoch)
    let isStillPending = try store.becomeNewIncarnation(Identity(high: 1, low: 3))
    #expect(!isStillPending && store.replicaState.pendingChanges == 0)
  }

  @Test("What a restored hub has yet to be brought is not forgotten with a name, nor by when it had what was brought")
  func restoresUnderAnotherName() throws {
    var store = store
    _ = try store.apply(feed([(1, "first")]), epoch: epoch)
    store.write([.init(key: [1], value: [1])])
    try acknowledge(&store)
    try rollBack(&store)
    try store.recordRestored(through: 1, declined: [], head: 7)
    // It was brought a part, and confirms what was pushed.
    _ = try store.acknowledge(
      Acknowledgement(through: store.version, exceptions: [], head: 9), digest: store.state.position.digest,
      localChanges: 1, epoch: Identity(high: 9, low: 10))
    let isPendingAgain = try store.becomeNewIncarnation(Identity(high: 1, low: 2))
    #expect(isPendingAgain)
    #expect(store.state.isRestoring && store.state.restoredBy == 7)
  }

  @Test("What was written under one name, and pushed under the next, is the store's own when it is fed under a third")
  func ownUnderAnotherName() throws {
    var store = store
    store.write([.init(key: Array("k".utf8), value: [1])])
    try store.becomeNewIncarnation(Identity(high: 1, low: 2))
    let next = store.nextPush(after: 0, maximumBytes: 1 << 10)
    let pushed = try #require(next).segment
    try acknowledge(&store)
    try store.becomeNewIncarnation(Identity(high: 1, low: 3))
    store.write([.init(key: Array("k".utf8), value: [2])])
    store.policy = .remoteWins
    let feed = CommitSegment(after: 0, through: 1, digest: .zero, records: pushed.records, changeCount: 1)
    let (outcome, _) = try store.apply(feed, epoch: epoch)
    #expect(outcome.conflicts == 0)
    #expect(store.rows[Array("k".utf8)]?.value == [2])
  }

  @Test(
    "A commit to which the hub had given a later version than a row has did not come before it, whatever the clocks say"
  )
  func laterThanTheRow() throws {
    var hub = ModelStore(identity: Identity(high: 7, low: 7))
    let other = Identity(high: 3, low: 3)
    func admit(_ segment: CommitSegment, from replica: Identity) throws {
      _ = try hub.perform {
        try $0.admit(
          PushSegment(segment: segment, cursor: 0, localChanges: 1, localBytes: 2), from: replica, confirmed: 0)
      }
    }
    // Of somebody whose clock is ahead; then the author's copy under the author's name, after the hub was put back to that.
    try admit(feed(of: other, clock: 9_000, [(1, "first")]), from: other)
    try admit(feed(key: "c", clock: 2_000, [(1, "copy")]), from: author)
    _ = try hub.perform { try $0.beginEpoch(Identity(high: 7, low: 8), after: Identity(high: 7, low: 7), through: 1) }
    let lost = Restoration(segment: try feed(former: 4, [(1, "lost")]), cursor: 1)
    #expect(try hub.perform { try $0.restore(lost) }.0.declined == [1])
  }

  @Test("A deletion of which the author offered again no more than stood beside it is brought back")
  func deletionIsGone() throws {
    var hub = ModelStore(identity: Identity(high: 7, low: 7))
    let offered = try feed(clock: 998, [(3, "v")])
    _ = try hub.perform {
      try $0.admit(PushSegment(segment: offered, cursor: 0, localChanges: 1, localBytes: 2), from: author, confirmed: 0)
    }
    let header = CommitHeader(
      version: 1, serverVersion: 2, origin: author, originVersion: 1, time: HybridTime(milliseconds: 1_001), flags: [],
      changeCount: 2)
    let changes: [UInt8] = [0, 1, 0, 1, 0, 0, 0] + Array("kv".utf8) + [1, 1, 0, 0, 0, 0, 0] + Array("d".utf8)
    var lost = CommitSegment(after: 0, through: 1, digest: .zero, records: [], changeCount: 2)
    lost.records.append(commit: header, changes: [0..<9, 9..<changes.count], in: changes.bytes)
    #expect(try hub.perform { try $0.restore(Restoration(segment: lost, cursor: 0)) }.0.declined == [1])
    // Where the hub does not know any more whether that was offered again, it counts as here.
    hub.truncateLog(keeping: 0)
    #expect(try hub.perform { try $0.restore(Restoration(segment: lost, cursor: 0)) }.0.declined == [])
  }

  @Test("A store and its copy, whose clocks are behind what both have seen, give their next commits different times")
  func copiesDiffer() {
    let last = HybridTime(milliseconds: 50_000)
    let times = (0..<64).map { HybridClock.next(after: last, wall: 10_000, salt: $0) }
    #expect(Set(times).count == 64 && times.allSatisfy { $0 > last })
    let drawn = (0..<64).map { _ in HybridClock.next(after: last, wall: 10_000) }
    #expect(Set(drawn).count > 32)
  }
}
