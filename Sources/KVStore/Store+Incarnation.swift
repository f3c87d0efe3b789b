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
  /// Goes on under a new name: what the hub has under the present one is not what this store wrote. Of what it had confirmed,
  /// that is pending again which it did not surely have at the store's cursor: the hub may have been restored to before that,
  /// without anybody's noticing. Returns where the store stands.
  package func becomeNewIncarnation() async throws -> ReplicaState {
    try await mend { [self] in
      try LostHistory(ofName: $0, in: self)
    } record: { group, lost in
      try group.becomeNewIncarnation(.random(), lost)
    }
  }

  /// Follows the epoch of `cursor`, of the hub's space `space`. Goes back to `cursor` where the hub has nothing of what this
  /// store knew after it; of this store's commits the hub has decided those through `shipped`, where this log's digest is
  /// `digest`, nil: what the log says, if it reaches back so far; `head` is the hub's version now. With nothing to go back from,
  /// only the epoch changes. Returns where the store stands then.
  package func rollBack(
    to cursor: Position, in space: Identity, shipped: Version, digest: Digest?, head: Version
  ) async throws -> ReplicaState {
    let found = try await onBlockingThread { [self] in try published { try digest ?? self.digest(at: shipped) ?? .zero }
    }
    return try await mend { [self] in
      try LostHistory(after: cursor.version, shipped: shipped, $0, in: self)
    } record: { group, lost in
      group.append(lost.rollback(to: cursor, in: space, digest: found, head: head, group.state))
    }
  }

  /// Offers the rows of what the hub may lack and the log no longer has, and records the rest. If the log has lost more of its
  /// beginning meanwhile, it begins again: what was offered is not offered twice.
  func mend(
    _ look: @escaping @Sendable (StoreState) throws -> LostHistory,
    record: @escaping @Sendable (GroupWriter, LostHistory) throws -> Void
  ) async throws -> ReplicaState {
    let token = lease
    var isRecorded = false
    while !isRecorded {
      let state = state
      let lost = try await onBlockingThread { [self] in try published { try look(state) } }
      if lost.needsRows { try await offerRows { lost.isInRowsOnly($0) } }
      isRecorded = try await perform { group in
        try group.checkLease(token)
        guard try group.log.floor() == lost.first else { return false }
        try record(group, lost)
        return true
      }
    }
    return replicaState()
  }

  // MARK: From rows

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
        try group.offer(rows)
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
    return try read { snapshot in
      let state = try snapshot.state
      let screen = CommitScreen(rows: snapshot, state: state, history: .every, current: nil)
      return try restoration(state, screen, maximumBytes: maximumBytes)
    }
  }

  /// The hub has again what others had written and this log holds through `version`, but for the commits of the versions
  /// `declined`, whose keys somebody has written since: what is still current in them is offered as commits of this store.
  /// nil: there was nothing left. The hub has it by its version `head`. Durable when it returns.
  package func recordRestored(
    through version: Version?, declined: [Version], head: Version
  ) async throws -> ReplicaState {
    let token = lease
    try await perform { [self] group in
      try group.checkLease(token)
      try group.recordRestored(through: version, declined: declined, head: head, from: self)
    }
    return replicaState()
  }
}
