// What a store does when it and its hub no longer have the same history: the rules behind `Store+Incarnation.swift`, for any
// log and any group of writes.
//
// Invariants
// - What is pending again is what the log has of this store's commits that the hub lacks. The rows stand for the rest.
// - A row that is offered again is this store's from then on, so that it is not offered twice.

import KVLog

/// What a store has of what a restored hub lacks.
struct LostHistory: Sendable {
  /// The hub has decided this store's commits through this version.
  private let shipped: Version
  /// The version after which the log begins.
  let first: Version
  /// The hub's versions beyond this are looked for.
  private let lowest: Version
  /// Whether the hub has lost anything that this store knows. Of what it wrote, that is pending again, and the marks of what
  /// was void in it are gone: what is void is told by the rows from then on (`StoreState.restoreThrough`).
  let isLoss: Bool
  /// What is through this version came from the space that was left for the present one.
  private let formerThrough: Version
  /// What was acknowledged when the hub was found to be restored.
  private let formerlyAcknowledged: Version
  /// Whether some of what it lacks is in the rows only.
  private let missesOwn: Bool
  private var missesForeign = false
  /// The log no longer has all of what was lost: not what was deleted, which the rows do not tell.
  private var isCutOff = false
  /// The hub's version of the first commit of somebody else in the log, and those that are recorded in parts.
  private var firstForeign = Version.max
  private var partial: Set<Version> = []
  /// The versions of the pages of snapshots in the log: of what is in them, no commits are here.
  private var pages: Set<Version> = []
  /// Where the acknowledged version goes back to, and what is pending again thereby.
  private let acknowledged: Version
  private var changes = 0
  private var bytes = 0

  /// What was pulled is not in question.
  private let isOfNameOnly: Bool

  /// The hub has what is through `cursor` of its history, and decided this store's commits through `shipped`.
  init(after cursor: Version, shipped: Version, _ state: StoreState, in log: some CommitLog) throws {
    try self.init(after: cursor, shipped: shipped, isOfNameOnly: false, state, in: log)
  }

  private init(
    after cursor: Version, shipped: Version, isOfNameOnly: Bool, _ state: StoreState, in log: some CommitLog
  ) throws {
    self.isOfNameOnly = isOfNameOnly
    self.shipped = shipped
    first = try log.floor()
    let known = max(state.cursor, state.received)
    // What a former incarnation had acknowledged is not this one's to push: it is brought back, if the hub lacks it.
    let former = state.lineage.map(\.through).max() ?? 0
    lowest = isOfNameOnly ? .max : min(cursor, state.lowestRollback)
    isLoss = known > cursor || shipped < state.shipped
    formerThrough = state.formerThrough
    formerlyAcknowledged = state.acknowledged
    missesOwn = shipped < min(first, state.acknowledged)
    acknowledged = min(state.acknowledged, max(shipped, former, first))
    // With nothing lost no more can be pending again than what was acknowledged: a backlog is not gone through.
    let (start, end) =
      isLoss ? (min(max(first, formerThrough), acknowledged), state.version) : (acknowledged, state.acknowledged)
    try log.withStream(after: min(start, end), through: state.position) { stream in
      try stream.pass(through: state.position, to: end) { entry, _ in
        note(entry, state)
        return true
      }
    }
    // The first commit in a log that begins with the store's first version, or before its space was adopted, is the first
    // that was pulled.
    // After an earlier loss the versions in the log need not ascend.
    let isInOrder = state.lowestRollback == .max
    let isForeignCutOff = known > cursor && first > formerThrough && (!isInOrder || firstForeign > lowest + 1)
    isCutOff = missesOwn || isForeignCutOff
    missesForeign = isForeignCutOff || known > cursor && (!partial.isEmpty || !pages.isEmpty)
  }

  /// What the store had heard that the hub has under its present name, and the hub may not have: all that it did not surely have
  /// at the store's cursor.
  init(ofName state: StoreState, in log: some CommitLog) throws {
    try self.init(
      after: max(state.cursor, state.received),
      shipped: min(state.shipped, state.coverageMarks.local(at: state.cursor)), isOfNameOnly: true, state, in: log)
  }

  private mutating func note(_ entry: CommitStream.Entry, _ state: StoreState) {
    let header = entry.header
    if header.flags.contains(.rows) {
      if header.version > formerThrough { pages.insert(header.version) }
    } else if header.serverVersion > 0, header.version > formerThrough {
      firstForeign = min(firstForeign, header.serverVersion)
      if !header.flags.isDisjoint(with: [.partial, .excerpt]) { partial.insert(header.serverVersion) }
    } else if header.version > acknowledged, header.version <= state.acknowledged, state.isLocal(header) {
      changes += header.changeCount
      bytes += entry.payloadBytes
    }
  }

  var needsRows: Bool { isLoss && (missesOwn || missesForeign) }

  /// Whether the hub lacks the row, and the log does not have the commit that it is of.
  func isInRowsOnly(_ row: Row) -> Bool {
    if row.serverVersion == 0 { return row.version > shipped && row.version <= min(first, formerlyAcknowledged) }
    let isOfPage = pages.contains(row.version)
    return row.serverVersion > lowest && row.version > formerThrough && !(row.isTombstone && isOfPage)
      && (row.version <= first || partial.contains(row.serverVersion) || isOfPage)
  }

  /// `digest` is this log's where the hub has decided its commits; `head`, the hub's version now.
  func rollback(
    to cursor: Position, in space: Identity, digest: Digest, head: Version, _ state: StoreState
  ) -> RollbackRecord {
    // In another epoch the hub may have lost what it had confirmed under a former name, though its history through the cursor is
    // as it was.
    let isNewEpoch = state.hubEpoch != .zero && cursor.identity != state.hubEpoch
    // And what was brought back to it before it was restored again, and has not been pulled since.
    let mayBeLost =
      isNewEpoch && (!state.lineage.isEmpty && state.lowestRollback == .max || cursor.version < state.restoredBy)
    let history: RollbackRecord.Loss = isLoss && isCutOff ? .historyInPart : .history
    return RollbackRecord(
      space: space, cursor: cursor, shipped: shipped, shippedDigest: digest, acknowledged: acknowledged,
      changes: UInt64(changes), bytes: UInt64(bytes),
      loss: isOfNameOnly ? .confirmed : state.isRestoring || isLoss || mayBeLost ? history : .none,
      ownThrough: isLoss ? head : max(head, state.ownThrough))
  }
}

/// A row that is offered to a restored hub.
struct OfferedRow: Sendable {
  var key: [UInt8]
  var version: Version
  var time: HybridTime
  var value: [UInt8]?
  /// A change of this store, whoever waits for its receipt.
  var isOwn: Bool
}

extension WriteGroup {
  /// What the hub has under the present name is not what this store wrote; `lost` is pending again.
  func becomeNewIncarnation(_ incarnation: Identity, _ lost: LostHistory) throws {
    let former = state
    if lost.isLoss {
      append(
        lost.rollback(
          to: Position(identity: former.hubEpoch, version: former.cursor, digest: former.cursorDigest),
          in: former.hubSpace, digest: former.shippedDigest, head: former.ownThrough, former))
    }
    try append(IncarnationRecord(incarnation: incarnation, through: state.shipped))
  }

  /// Offers rows, deletions too, as commits of this store.
  func offer(_ rows: [OfferedRow]) throws {
    var succession = SuccessionRecord([])
    for offered in rows {
      // Written to meanwhile, it is offered as it is.
      guard try row(of: offered.key.bytes)?.version == offered.version else { continue }
      beginCommit(time: offered.time, flags: .reoffer)
      if let value = offered.value {
        try put(key: offered.key.bytes, value: value.bytes)
      } else {
        try delete(key: offered.key.bytes)
      }
      let version = endCommit()
      if offered.isOwn { succession.steps.append(.init(version: offered.version, successor: version)) }
    }
    try append(succession)
  }

  /// By its version `head` the hub has again what it lost and `log` has through `version`, nil: all of it, but for the commits
  /// `declined`.
  func recordRestored(
    through version: Version?, declined: [Version], head: Version, from log: some CommitLog
  ) throws {
    for version in declined { try offerAgain(version, from: log) }
    append(RestoredRecord(through: version ?? state.restoreThrough, head: head))
  }

  /// Offers what is still current of a commit in the log as a commit of this store.
  private func offerAgain(_ version: Version, from log: some CommitLog) throws {
    let limit = published.position
    try log.withStream(after: version - 1, through: limit) { stream in
      _ = try stream.next(through: limit) { entry, bytes in
        guard entry.header.version == version else {
          throw StoreError(.replication, "the hub declines version \(version), which is not here.", path: path)
        }
        if let successor = try Reoffer(current: entry, in: bytes, self)?.append(to: self) {
          try append(SuccessionRecord([.init(version: version, successor: successor)]))
        }
        return true
      }
    }
  }
}

extension CommitLog {
  /// The next commits of others that are to be brought back to a restored hub, and of what this store wrote under a former name
  /// what `screen` leaves of it, which was made of the same state: a change that had lost a conflict was never there. nil: that
  /// was all.
  func restoration(
    _ state: StoreState, _ screen: CommitScreen<some RowLookup>, maximumBytes: Int
  ) throws -> Restoration? {
    guard state.isRestoring else { return nil }
    let start = max(state.restoredThrough, state.formerThrough, try floor())
    var restoration = Restoration(
      segment: CommitSegment(after: start, through: start, digest: .zero, records: [], changeCount: 0),
      cursor: state.cursor)
    try withStream(after: start, through: state.position) { stream in
      try stream.pass(through: state.position, to: state.restoreThrough) { entry, bytes in
        let header = entry.header
        let isForeign =
          header.serverVersion > state.lowestRollback && header.flags.isDisjoint(with: [.partial, .excerpt, .rows])
        let name = isForeign ? header.origin : state.formerName(of: header)
        guard let name else { return true }
        let kept = isForeign ? .all : try screen.kept(of: entry, in: bytes)
        if case .none = kept { return true }
        let size = restoration.segment.records.count + entry.record.count
        if restoration.segment.changeCount > 0, size > maximumBytes { return false }
        restoration.segment.append(entry, kept, in: bytes, as: name)
        return true
      }
      restoration.segment.through = stream.version
    }
    return restoration.segment.changeCount > 0 ? restoration : nil
  }
}
