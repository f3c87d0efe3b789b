// What becomes of a replica when it and its hub no longer have the same history: the store was copied or restored, or the
// hub was.
//
// A copy goes on under a new name. Nothing in its log is rewritten: what is pending is pushed as of the new incarnation, and
// what the hub had confirmed of the former one is known, should it come back as somebody else's.
//
// A hub that was restored has lost the end of its history. The store goes back to the newest position that both have: its own
// commits after that are pending again, and are pushed from the log, with their versions and times. What it had pulled from
// others is brought back commit by commit, as they were written, also from the log. The hub leaves out what its author or
// another replica has brought back already, for it knows how far it has the commits of each author. What the log no longer
// holds is offered from the rows, as commits of this store with the rows' times.
//
// Invariants
// - Each step is durable before the hub is told anything that follows from it, and can be begun again.
// - A row that is offered again is this store's from then on, so that it is not offered twice.

package import KVLog

extension Store {
  /// Goes on under a new name: what the hub has under the present one is not what this store wrote. With `restores`, the hub
  /// was restored as well and may lack what it once confirmed: that is brought back to it. Returns where the store stands.
  package func becomeNewIncarnation(restores: Bool) async throws -> ReplicaState {
    let token = lease
    try await perform { group in
      try group.checkLease(token)
      let state = group.state
      try group.append(IncarnationRecord(incarnation: .random(), through: state.shipped))
      guard restores else { return }
      group.append(
        RollbackRecord(
          space: state.hubSpace,
          cursor: Position(identity: state.hubEpoch, version: state.cursor, digest: state.cursorDigest), shipped: 0,
          shippedDigest: group.state.shippedDigest, acknowledged: state.acknowledged, changes: 0, bytes: 0,
          isRestoring: true))
    }
    return replicaState()
  }

  /// Follows the epoch of `cursor`, of the hub's space `space`. Goes back to `cursor` where the hub has nothing of what this
  /// store knew after it; of this store's commits the hub has decided those through `shipped`, where this log's digest is
  /// `digest`. With nothing to go back from, only the epoch changes. Returns where the store stands then.
  package func rollBack(
    to cursor: Position, in space: Identity, shipped: Version, digest: Digest
  ) async throws -> ReplicaState {
    let token = lease
    let state = state
    let log = try await onBlockingThread { [self] in try retained(after: cursor.version, shipped: shipped, state) }
    if log.missesOwn || log.missesForeign {
      try await offerRows { row in
        if row.serverVersion == 0 { return row.version > shipped && row.version <= min(log.first, state.acknowledged) }
        return row.serverVersion > log.lowest && row.version > state.formerThrough
          && !(row.isTombstone && log.pages.contains(row.version))
          && (row.serverVersion < log.firstForeign || log.partial.contains(row.serverVersion)
            || log.pages.contains(row.version))
      }
    }
    try await perform { group in
      try group.checkLease(token)
      group.append(
        RollbackRecord(
          space: space, cursor: cursor, shipped: shipped, shippedDigest: digest, acknowledged: log.acknowledged,
          changes: UInt64(log.changes), bytes: UInt64(log.bytes),
          isRestoring: group.state.isRestoring || log.isLoss))
    }
    return replicaState()
  }

  /// What the log still has of what a restored hub lacks.
  private struct RetainedLog: Sendable {
    /// The version after which the log begins.
    var first: Version
    /// The hub's versions beyond this are looked for.
    var lowest: Version
    /// Whether the hub has lost anything that this store knows. Of what it wrote, that is pending again, and the marks of what
    /// was void in it are gone: what is void is told by the rows from then on (`StoreState.restoreThrough`).
    var isLoss: Bool
    /// Whether some of what it lacks is in the rows only.
    var missesOwn: Bool
    var missesForeign = false
    /// The hub's version of the first commit of somebody else in the log, and those that are recorded in parts.
    var firstForeign = Version.max
    var partial: Set<Version> = []
    /// The versions of the pages of snapshots in the log: of what is in them, no commits are here.
    var pages: Set<Version> = []
    /// Where the acknowledged version goes back to, and what is pending again thereby.
    var acknowledged: Version
    var changes = 0
    var bytes = 0
  }

  private func retained(after cursor: Version, shipped: Version, _ state: StoreState) throws -> RetainedLog {
    let first = try core().log.firstVersion - 1
    let known = max(state.cursor, state.received)
    // What a former incarnation had acknowledged is not this one's to push: it is brought back, if the hub lacks it.
    let former = state.lineage.last?.through ?? 0
    let decided = max(shipped, former)
    var log = RetainedLog(
      first: first, lowest: min(cursor, state.lowestRollback),
      isLoss: known > cursor || shipped < state.shipped,
      missesOwn: shipped < min(first, state.acknowledged), acknowledged: min(state.acknowledged, max(decided, first)))
    let start = log.isLoss ? max(first, state.formerThrough) : log.acknowledged
    try published {
      try withStream(after: start, through: state.position) { stream in
        while stream.version < state.version {
          let taken = try stream.next(through: state.position) { entry, _ in
            let header = entry.header
            if header.flags.contains(.rows) {
              if header.version > state.formerThrough { log.pages.insert(header.version) }
            } else if header.serverVersion > 0, header.version > state.formerThrough {
              log.firstForeign = min(log.firstForeign, header.serverVersion)
              if !header.flags.isDisjoint(with: [.partial, .excerpt]) { log.partial.insert(header.serverVersion) }
            } else if header.version > log.acknowledged, header.version <= state.acknowledged, state.isLocal(header) {
              log.changes += header.changeCount
              log.bytes += entry.payloadBytes
            }
            return true
          }
          if taken != .passed { break }
        }
      }
    }
    // The first commit in a log that begins with the store's first version, or before its space was adopted, is the first
    // that was pulled.
    log.missesForeign =
      known > cursor
      && (!log.partial.isEmpty || !log.pages.isEmpty
        || first > state.formerThrough && log.firstForeign > log.lowest + 1)
    return log
  }

  // MARK: From rows

  private struct OfferedRow: Sendable {
    var key: [UInt8]
    var version: Version
    var time: HybridTime
    var value: [UInt8]?
    /// A change of this store, whoever waits for its receipt.
    var isOwn: Bool
  }

  /// Offers the rows that `isWanted`, deletions too, as commits of this store, in key order and in steps of bounded size.
  /// Returns how many there were.
  @discardableResult
  func offerRows(_ isWanted: @escaping @Sendable (Row) -> Bool) async throws -> Int {
    let token = lease
    var offered = 0
    var after: [UInt8]?
    var isAtEnd = false
    while !isAtEnd {
      let from = after
      let (rows, last) = try await onBlockingThread { [self] in try page(after: from, isWanted) }
      isAtEnd = last == nil
      after = last
      guard !rows.isEmpty else { continue }
      try await perform { group in
        try group.checkLease(token)
        var succession = SuccessionRecord([])
        for row in rows {
          // Written to meanwhile, it is offered as it is.
          guard try group.row(of: row.key.bytes)?.version == row.version else { continue }
          group.beginCommit(time: row.time, flags: .reoffer)
          if let value = row.value {
            try group.put(key: row.key.bytes, value: value.bytes)
          } else {
            try group.delete(key: row.key.bytes)
          }
          let version = group.endCommit()
          if row.isOwn { succession.steps.append(.init(version: row.version, successor: version)) }
        }
        try group.append(succession)
      }
      offered += rows.count
    }
    return offered
  }

  /// Wanted rows after `key`, and the last key that was looked at; nil at the end.
  private func page(
    after key: [UInt8]?, _ isWanted: (Row) -> Bool
  ) throws -> (rows: [OfferedRow], last: [UInt8]?) {
    try read { snapshot in
      var rows: [OfferedRow] = []
      var last: [UInt8]?
      var bytes = 0
      var looked = 0
      try snapshot.forEachRow(in: KeyRange(from: key.map { $0 + [0] })) { key, row, value in
        looked += 1
        if isWanted(row) {
          bytes += key.byteCount + value.byteCount
          rows.append(
            OfferedRow(
              key: key.copied(), version: row.version, time: row.time, value: row.isTombstone ? nil : value.copied(),
              isOwn: row.serverVersion == 0))
        }
        guard bytes < StoreLimits.groupBytes, looked < StoreLimits.lookedAtPerPage else {
          last = key.copied()
          return false
        }
        return true
      }
      return (rows, last)
    }
  }

  // MARK: From the log

  /// The next commits of others that are to be brought back to a restored hub, as they are in this log, with the versions
  /// that the hub had given them. At least one commit, and no more than `maximumBytes` unless that one is larger. nil: that
  /// was all.
  package func restorationSegment(maximumBytes: Int) throws -> Restoration? {
    try shipOnlyDurable()
    let state = state
    guard state.isRestoring else { return nil }
    let start = max(state.restoredThrough, state.formerThrough, try core().log.firstVersion - 1)
    var restoration = Restoration(
      segment: CommitSegment(after: start, through: start, digest: .zero, records: [], changeCount: 0),
      cursor: state.cursor)
    try published {
      try withStream(after: start, through: state.position) { stream in
        while stream.version < state.restoreThrough {
          let taken = try stream.next(through: state.position) { entry, bytes in
            let header = entry.header
            let isForeign =
              header.serverVersion > state.lowestRollback
              && header.flags.isDisjoint(with: [.partial, .excerpt, .rows])
            guard isForeign || state.isFormerlyAcknowledged(header) else { return true }
            let size = restoration.segment.records.count + entry.record.count
            if restoration.segment.changeCount > 0, size > maximumBytes { return false }
            restoration.segment.records.append(bytes.extracting(entry.record))
            restoration.segment.changeCount += header.changeCount
            return true
          }
          if taken != .passed { break }
        }
        restoration.segment.through = stream.version
      }
    }
    return restoration.segment.changeCount > 0 ? restoration : nil
  }

  /// The hub has again what others had written and this log holds through `version`, but for the commits of the versions
  /// `declined`, whose keys somebody has written since: what is still current in them is offered as commits of this store.
  /// nil: there was nothing left. Durable when it returns.
  package func recordRestored(through version: Version?, declined: [Version]) async throws -> ReplicaState {
    let token = lease
    try await perform { [self] group in
      try group.checkLease(token)
      for version in declined { try offerAgain(version, group) }
      group.append(RestoredRecord(through: version ?? group.state.restoreThrough))
    }
    return replicaState()
  }

  /// Offers what is still current of a commit in this log as a commit of this store.
  private func offerAgain(_ version: Version, _ group: GroupWriter) throws {
    let limit = group.core.publication.state.position
    try withStream(after: version - 1, through: limit) { stream in
      _ = try stream.next(through: limit) { entry, bytes in
        guard entry.header.version == version else {
          throw StoreError(.replication, "the hub declines version \(version), which is not here.", path: path)
        }
        if let successor = try Reoffer(current: entry, in: bytes, group)?.append(to: group) {
          try group.append(successor: successor, of: version)
        }
        return true
      }
    }
  }
}
