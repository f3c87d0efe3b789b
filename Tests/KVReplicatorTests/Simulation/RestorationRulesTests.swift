// What the simulator found in the rules of restored hubs and copied stores, each as the shortest story of it.

import KVLog
import KVProtocol
import Testing

@testable import KVReplicator
@testable import KVStore

private let epoch = Identity(high: 9, low: 9)
private let author = Identity(high: 2, low: 2)

/// Commits of an author as a hub feeds them: its version, the author's, and what it puts under "k".
private func feed(
  after: Version = 0, of author: Identity = author, _ commits: [(author: Version, value: String)]
) throws -> CommitSegment {
  var segment = CommitSegment(after: after, through: after, digest: .zero, records: [], changeCount: 0)
  for commit in commits {
    segment.through += 1
    segment.changeCount += 1
    let header = CommitHeader(
      version: segment.through, serverVersion: 0, origin: author, originVersion: commit.author,
      time: HybridTime(milliseconds: 1_000 + commit.author), flags: [], changeCount: 1)
    var change: [UInt8] = [0, 1, 0, UInt8(commit.value.utf8.count), 0, 0, 0]
    change += Array("k\(commit.value)".utf8)
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

  @Test("A store and its copy, whose clocks are behind what both have seen, give their next commits different times")
  func copiesDiffer() {
    let last = HybridTime(milliseconds: 50_000)
    let times = (0..<64).map { HybridClock.next(after: last, wall: 10_000, salt: $0) }
    #expect(Set(times).count == 64 && times.allSatisfy { $0 > last })
    let drawn = (0..<64).map { _ in HybridClock.next(after: last, wall: 10_000) }
    #expect(Set(drawn).count > 32)
  }
}
