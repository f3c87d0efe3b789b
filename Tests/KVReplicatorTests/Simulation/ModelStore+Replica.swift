// What a replica's sessions ask of its store: commits to push, and acknowledgements, feeds and roll-backs to record.

import KVLog

@testable import KVStore

extension ModelStore {
  /// A program's transaction.
  @discardableResult
  mutating func write(_ changes: [Change], clock: UInt64? = nil) -> Version {
    if let clock { wall = clock }
    return perform { group in
      group.beginCommit(time: nil, flags: [])
      for change in changes { group.change(change.key, change.value) }
      return group.endCommit()
    }.0
  }

  mutating func pushSegment(after: Version, maximumBytes: Int) throws -> PushSegment? {
    let rows = ScreenedRows(self)
    let screen = CommitScreen(rows: rows, state: state, history: history, current: nil)
    return try push(after: after, state, screen, maximumBytes: maximumBytes, readBytes: StoreLimits.pushReadBytes)
  }

  func restoration(maximumBytes: Int) throws -> Restoration? {
    let screen = CommitScreen(rows: ScreenedRows(self), state: state, history: .every, current: nil)
    return try restoration(state, screen, maximumBytes: maximumBytes)
  }

  mutating func acknowledge(
    _ ack: Acknowledgement, digest: Digest, localChanges: Int, localBytes: Int = 0, epoch: Identity,
    isUnproven: Bool = false
  ) throws -> (Acknowledged, isDurable: Bool) {
    var total = Acknowledged()
    var left = Decided(
      acknowledgement: ack, digest: digest, localChanges: localChanges, localBytes: localBytes,
      isUnproven: isUnproven)
    left.acknowledgement.exceptions.removeAll { exception in
      switch exception.reason {
      case .stale: bug == .reofferForgotten
      case .refused: bug == .parkedForgotten
      }
    }
    var isDurable = false
    while true {
      let ((outcome, rest), needsSynchronize) = try perform { group in
        try group.checkHub(epoch)
        return try Acknowledging(log: group.log, group: group).record(left, epoch: epoch)
      }
      isDurable = isDurable || needsSynchronize
      total.add(outcome)
      guard let rest else { return (total, isDurable) }
      left = rest
    }
  }

  mutating func apply(_ feed: CommitSegment, epoch: Identity) throws -> (FeedOutcome, isDurable: Bool) {
    let policy = policy
    var total = FeedOutcome()
    var isDurable = false
    while true {
      let (outcome, needsSynchronize) = try perform { try $0.apply(feed, epoch: epoch, policy: policy) }
      isDurable = isDurable || needsSynchronize
      total.add(outcome)
      if outcome.isComplete { return (total, isDurable) }
    }
  }

  mutating func load(_ page: SnapshotPage) throws -> (FeedOutcome, isDurable: Bool) {
    let policy = policy
    var total = FeedOutcome()
    while true {
      let (outcome, _) = try perform { try $0.load(page, policy) }
      total.add(outcome)
      if outcome.isComplete { return (total, true) }
    }
  }

  mutating func lapse() { _ = perform { $0.lapse() } }

  /// Returns how many rows had to be offered, as the log no longer has their commits.
  @discardableResult
  mutating func rollBack(
    to cursor: Position, in space: Identity, shipped: Version, digest: Digest?, head: Version
  ) throws -> Int {
    let digest = digest ?? self.digest(at: shipped) ?? .zero
    let lost = try LostHistory(after: cursor.version, shipped: shipped, state, in: self)
    let offered = try offerRows(of: lost)
    _ = perform { $0.append(lost.rollback(to: cursor, in: space, digest: digest, head: head, $0.state)) }
    return offered
  }

  /// Returns whether something that the hub had confirmed is pending again.
  @discardableResult
  mutating func becomeNewIncarnation(_ incarnation: Identity) throws -> Bool {
    let lost = try LostHistory(ofName: state, in: self)
    _ = try offerRows(of: lost)
    _ = try perform { try $0.becomeNewIncarnation(incarnation, lost) }
    return lost.isLoss
  }

  private mutating func offerRows(of lost: LostHistory) throws -> Int {
    guard lost.needsRows else { return 0 }
    var offered = rows.filter { lost.isInRowsOnly($0.value.row) }.map { key, held in
      OfferedRow(
        key: key, version: held.row.version, time: held.row.time, value: held.value, isOwn: held.row.serverVersion == 0)
    }
    offered.sort { $0.key.lexicographicallyPrecedes($1.key) }
    _ = try perform { try $0.offer(offered) }
    return offered.count
  }

  mutating func recordRestored(through version: Version?, declined: [Version], head: Version) throws {
    _ = try perform { try $0.recordRestored(through: version, declined: declined, head: head, from: $0.log) }
  }

  /// Takes a commit off the list of those that were refused: a new one has what was in it.
  mutating func retried(_ version: Version) throws {
    guard let record = parked[version] else { return }
    _ = try perform {
      try $0.append(UnparkedRecord(version: version, bytes: UInt64(record.payloadBytes), fate: .retried))
    }
  }
}

// For scripts in which nothing can fail.
extension ModelStore {
  /// The space and its epoch are new here.
  mutating func follow(_ cursor: Position, in space: Identity, shipped: Version) {
    do {
      try rollBack(
        to: cursor, in: space, shipped: shipped, digest: state.shippedDigest, head: cursor.version)
    } catch {
      preconditionFailure("\(error)")
    }
  }

  mutating func nextPush(after: Version, maximumBytes: Int) -> PushSegment? {
    do { return try pushSegment(after: after, maximumBytes: maximumBytes) } catch { preconditionFailure("\(error)") }
  }
}

/// Rows for finding out what of a commit travels.
private final class ScreenedRows: RowLookup {
  private let store: ModelStore

  init(_ store: ModelStore) { self.store = store }

  func row(of key: RawSpan) -> Row? { store.rows[key.copied()]?.row }

  func voidThrough(of key: [UInt8]) -> Version {
    store.bug == .voidChangeShipped ? 0 : store.voids[key] ?? 0
  }
}
