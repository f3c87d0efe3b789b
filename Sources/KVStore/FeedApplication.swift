// The replica's side of the conflict rules: applies what the hub fed, finds conflicts with pending changes, has them
// resolved, and moves the cursor.
//
// Invariants
// - Replaying the records gives the same rows without knowing the policy: remote commits are recorded and applied whole,
//   and local winners and merged values follow as resolution commits of their own, in the same group.
// - A key is contested once in a group, between the pending local change and the last remote one: the remote changes
//   before that were superseded by their own side.
// - Every local change that met a remote one is void from then on: it lost, or the resolution commit carries what stands.
//   So of each key at most one change is left to be shipped, and replicas that resolve against each other cannot make
//   each other's backlogs grow.
// - A group stays within a block of the log, however large the values are that conflict. A feed that leads to more is
//   applied in several groups, the cursor with the last; a commit that alone leads to more is recorded in parts.
// - What was recorded of a feed is not recorded again, although the cursor has not passed it: the state says how far.
// - Nothing pending, nothing looked up.

import KVLog

/// What `Store.apply` did.
package struct FeedOutcome: Sendable, Equatable {
  package var commits = 0
  package var changes = 0
  package var bytes = 0
  package var conflicts = 0
  /// Keys whose local side stands, or a merged value, in a new local commit.
  package var resolutions = 0
  /// False: the same feed has to be applied once more, for what did not fit.
  var isComplete = true
  /// Nothing was done: changes are pending, and what they met may have been deleted, which the page does not say.
  package var lacksDeletions = false

  /// With what was done next of the same feed, or page.
  mutating func add(_ next: FeedOutcome) {
    commits += next.commits
    changes += next.changes
    bytes += next.bytes
    conflicts += next.conflicts
    resolutions += next.resolutions
    lacksDeletions = next.lacksDeletions
  }
}

/// As much of a commit as is recorded at once.
private struct Portion {
  var changes: Range<Int>
  /// Key and value bytes.
  var payloadBytes = 0
}

extension WriteGroup {
  func apply(_ feed: CommitSegment, epoch: Identity, policy: ConflictPolicy) throws -> FeedOutcome {
    try checkHub(epoch)
    guard feed.after <= state.cursor else {
      throw StoreError(
        .replication,
        "the hub's feed begins after version \(feed.after), but this store has pulled only to \(state.cursor).")
    }
    var outcome = FeedOutcome()
    guard feed.through > state.cursor else { return outcome }
    var contests = Contests()
    var authors: [Identity: Version] = [:]
    let start = byteCount
    let bytes = feed.records.bytes
    var records = RecordCursor(over: bytes)
    var last = feed.after
    while outcome.isComplete, let record = try records.next(in: bytes) {
      guard record.kind == .commit else { throw LogFormatError(.unknownKind, at: record.record.lowerBound) }
      let commit = try CommitView(payload: record.payload, in: bytes)
      guard commit.header.version > last, commit.header.version <= feed.through else {
        throw LogFormatError(.badVersion, at: record.record.lowerBound)
      }
      try commit.checkTravelling(at: record.record.lowerBound, asExcerpt: true)
      last = commit.header.version
      guard last > max(state.cursor, state.received), try !isKnown(commit, in: bytes) else { continue }
      outcome.isComplete = byteCount - start + contests.bytes < StoreLimits.feedBytes
      if outcome.isComplete { outcome.isComplete = try apply(commit, in: bytes, policy, &contests, &outcome) }
      if outcome.isComplete { authors[commit.header.origin] = commit.header.originVersion }
    }
    for (author, version) in authors { try putKnown(version, of: author) }
    try resolve(&contests.all, policy)
    try pruneJournal()
    outcome.conflicts = contests.all.count { $0.outcome.isJournaled }
    outcome.resolutions = contests.all.count { $0.resolution != nil }
    if outcome.isComplete {
      append(CursorRecord(Position(identity: epoch, version: feed.through, digest: feed.digest)))
    } else if state.hubEpoch == .zero {
      // What is recorded belongs to this hub from its first part on.
      append(CursorRecord(Position(identity: epoch, version: 0, digest: .origin(of: epoch))))
    }
    return outcome
  }

  /// Whether the commit is here already: after a hub was restored, of somebody whose copy this store is, or its own. One of
  /// its own that is pending is not: that the hub has it is news.
  private func isKnown(_ commit: CommitView, in bytes: RawSpan) throws -> Bool {
    let isOwn = commit.header.origin == state.incarnation
    guard try commit.header.originVersion <= (isOwn ? state.acknowledged : known(of: commit.header.origin)) else {
      return try isOverwritten(commit, in: bytes)
    }
    // A hub that was never restored gives a version of an author once. That it was restored, a store need not have noticed: the
    // other one of two that had one name may have written what lies beyond this one's cursor, or it was put back itself, and others
    // brought back to the hub what it wrote before.
    let mayBeAnother = try isOurs(commit) && commit.header.originVersion > log.floor()
    guard state.lowestRollback < .max || mayBeAnother else { return true }
    return try logHas(commit, in: bytes)
  }

  /// Whether this store wrote the commit: it was brought back to a restored hub; or that was before the store was copied or
  /// restored, and the hub has it from the other one of the two.
  private func isOwn(_ commit: CommitView, in bytes: RawSpan) throws -> Bool {
    let header = commit.header
    if header.origin == state.incarnation { return true }
    let isOfOurName = state.lineage.contains {
      $0.incarnation == header.origin && header.originVersion > $0.through && header.originVersion <= $0.until
    }
    return try state.hasPending && isOfOurName && logHas(commit, in: bytes)
  }

  /// Whether the commit is this store's, and nothing of it stood here any more when the hub was found to be restored, but what others
  /// wrote knowing of it: that comes after it, and is not to be covered by it until then.
  private func isOverwritten(_ commit: CommitView, in bytes: RawSpan) throws -> Bool {
    guard state.lowestRollback < .max, try isOwn(commit, in: bytes), try logHas(commit, in: bytes) else { return false }
    var isOverwritten = true
    var changes = ChangeCursor(commit)
    while let change = try changes.next(in: bytes) {
      guard isOverwritten else { continue }
      let row = try row(of: bytes.extracting(change.key))
      isOverwritten = row.map { $0.serverVersion > 0 && $0.version > commit.header.originVersion } ?? false
    }
    return isOverwritten
  }

  /// Whether the commit's name is this store's, or was.
  private func isOurs(_ commit: CommitView) -> Bool {
    let origin = commit.header.origin
    return origin == state.incarnation || state.lineage.contains { $0.incarnation == origin }
  }

  private func logHas(_ commit: CommitView, in bytes: RawSpan) throws -> Bool {
    try changesInLog(of: commit, in: bytes) != nil && !isHidden(commit, in: bytes)
  }

  /// How many changes the log has of the commit; nil: it does not have it.
  private func changesInLog(of commit: CommitView, in bytes: RawSpan) throws -> Int? {
    // What was pending when this store took another name is in its log under the former one.
    let names = [commit.header.origin] + (isOurs(commit) ? state.lineage.map(\.incarnation) : [])
    return try marks.with(log, after: log.floor(), through: published.position) { marks in
      names.compactMap { marks.changeCount(of: commit.mark(in: bytes, as: $0)) }.max()
    }
  }

  /// Whether what is pending here comes after the commit: this store wrote that, or had it before the hub was restored. Then
  /// a local change had met it, and what has stood since was written knowing of it.
  private func isEarlier(_ commit: CommitView, in bytes: RawSpan) throws -> Bool {
    if try isOwn(commit, in: bytes) { return true }
    let header = commit.header
    guard try state.lowestRollback < .max && header.originVersion <= known(of: header.origin) else { return false }
    // Of a commit with fewer, the changes that are contested may not have been here.
    return try changesInLog(of: commit, in: bytes).map { $0 >= header.changeCount } ?? false
  }

  /// Whether something that was not here has been applied since the hub was found to be restored, and comes before the
  /// commit in the hub's order: then it has to be applied again, over that.
  private func isHidden(_ commit: CommitView, in bytes: RawSpan) throws -> Bool {
    var isHidden = false
    var changes = ChangeCursor(commit)
    while let change = try changes.next(in: bytes) {
      guard !isHidden, let row = try row(of: bytes.extracting(change.key)) else { continue }
      isHidden = row.serverVersion > 0 && row.version > state.restoreThrough
    }
    return isHidden
  }

  /// A store's history belongs to one hub.
  func checkHub(_ epoch: Identity) throws(StoreError) {
    guard state.hubEpoch == .zero || state.hubEpoch == epoch else {
      throw StoreError(
        .replication,
        "this store synchronises with the space of epoch \(state.hubEpoch), and this one has epoch \(epoch). Use the hub and space it was bound to."
      )
    }
  }

  /// Returns whether that was the whole commit.
  private func apply(
    _ commit: CommitView, in bytes: RawSpan, _ policy: ConflictPolicy, _ contests: inout Contests,
    _ outcome: inout FeedOutcome
  ) throws -> Bool {
    let count = commit.header.changeCount
    // All look-ups come before the first row is written: afterwards this commit's own rows would be found.
    let portion = try portion(of: commit, in: bytes, from: Int(state.receivedPart), policy, &contests)
    let isLast = portion.changes.upperBound == count
    if portion.changes == 0..<count {
      contests.recorded(try record(commit, in: bytes, portion, &outcome))
    } else {
      var part: [UInt8] = []
      var header = commit.header
      if !isLast { header.flags.insert(.partial) }
      part.append(commit: header, changes: try commit.changeRanges(portion.changes, in: bytes), in: bytes)
      let span = part.bytes
      var records = RecordCursor(over: span)
      guard let record = try records.next(in: span) else { throw LogFormatError(.cutShort, at: 0) }
      let view = try CommitView(payload: record.payload, in: span)
      contests.recorded(try self.record(view, in: span, portion, &outcome))
    }
    return isLast
  }

  /// The changes of the commit from `first` on that one block has room for together with what they lead to, at least
  /// one. The keys among them that are pending here become contests.
  private func portion(
    of commit: CommitView, in bytes: RawSpan, from first: Int, _ policy: ConflictPolicy, _ contests: inout Contests
  ) throws -> Portion {
    guard first < commit.header.changeCount else {
      throw StoreError(
        .replication, "the hub's commit \(commit.header.version) is not the one that was recorded in part.")
    }
    let limit = contests.bytes + StoreLimits.conflictBytes
    let header = commit.header
    // What this store wrote later stands over what comes back of it, pending or not.
    let isOfPresentSelf = header.origin == state.incarnation
    let after = isOfPresentSelf ? min(state.acknowledged, header.originVersion) : state.acknowledged
    let looksUp = state.hasPending || isOfPresentSelf
    let isEarlier = try looksUp && isEarlier(commit, in: bytes)
    var portion = Portion(changes: first..<first)
    var changes = ChangeCursor(commit)
    var index = 0
    while let change = try changes.next(in: bytes) {
      defer { index += 1 }
      // The changes after the portion are only checked.
      guard index == portion.changes.upperBound else { continue }
      if looksUp, !contests.meet(change, of: header, isEarlier: isEarlier, in: bytes),
        let (local, localValue) = try localRow(bytes.extracting(change.key), after: after)
      {
        let contest = Contest(
          change, of: header, isEarlier: isEarlier, in: bytes, local: local, localValue: localValue)
        if index > first, contests.bytes + contest.bytes(policy) > limit { continue }
        contests.add(contest, policy)
      }
      portion.changes = first..<index + 1
      portion.payloadBytes += change.key.count + change.value.count
    }
    return portion
  }

  /// The row of the key, if it is a local change of a later version: pending, after the acknowledged one.
  private func localRow(_ key: RawSpan, after version: Version) throws -> (Row, value: [UInt8])? {
    try withRow(key) { row, value in
      row.serverVersion == 0 && row.version > version ? (row, value.copied()) : nil
    } ?? nil
  }

  /// Records and applies the commit, which is what `portion` speaks of; returns it under its own version.
  private func record(
    _ commit: CommitView, in bytes: RawSpan, _ portion: Portion, _ outcome: inout FeedOutcome
  ) throws -> CommitHeader {
    let header = append(
      core: bytes.extracting(commit.core), of: commit.header, serverVersion: commit.header.version,
      payloadBytes: portion.payloadBytes)
    var changes = ChangeCursor(commit)
    while let change = try changes.next(in: bytes) {
      try putRow(
        bytes.extracting(change.key), bytes.extracting(change.value), isDeletion: change.isDeletion, of: header)
    }
    if !header.flags.contains(.partial) { outcome.commits += 1 }
    outcome.changes += header.changeCount
    outcome.bytes += portion.payloadBytes
    return header
  }
}

extension CommitView {
  /// What a commit must be to come from somewhere else; `offset` is where it lies.
  func checkTravelling(at offset: Int, asExcerpt: Bool = false) throws(LogFormatError) {
    let foreign: CommitFlags = asExcerpt ? [.partial, .rows] : [.partial, .rows, .excerpt]
    guard header.flags.isDisjoint(with: foreign) else { throw LogFormatError(.badFlags, at: offset) }
    if header.changeCount == 0 { throw LogFormatError(.badValue, at: offset) }
  }

  /// Where the changes of these numbers lie.
  fileprivate func changeRanges(_ numbers: Range<Int>, in bytes: RawSpan) throws -> [Range<Int>] {
    var ranges: [Range<Int>] = []
    var changes = ChangeCursor(self)
    var number = 0
    while let change = try changes.next(in: bytes) {
      if numbers.contains(number) {
        ranges.append(change.key.lowerBound - ChangeEncoding.headerByteCount..<change.value.upperBound)
      }
      number += 1
    }
    return ranges
  }
}
