// The hub's side of the rules: takes a replica's commits exactly once, in order, and declines what was written without
// knowing of a newer change of somebody else.
//
// Invariants
// - What is applied of a replica, and that it is applied, become durable in the same block.
// - A commit is applied whole or declined whole. One that was refused before the admission is declined, whatever it met.
// - What adds nothing is decided and not written.
// - Who is fed what it has not seen pushes nothing that may have met what the hub has forgotten: it would hear of that, and take
//   what it pushed for void, after that was taken. It begins again, and finds that it has lapsed.
// - A look-up per change is needed only when somebody else wrote after the push's cursor.

package import KVLog

/// Why a push was not taken, or a feed cannot be had.
package enum AdmissionError: Error, Hashable {
  /// The push does not begin where the last one ended.
  case gap(expected: Version)
  /// A commit in the push was not written by the replica that sent it.
  case foreignCommit(version: Version)
  case malformed(String)
  /// The log begins after what the replica has: what it has not seen may be forgotten, deletions too.
  case lapsed(floor: Version)
}

extension WriteGroup {
  func admit(
    _ push: PushSegment, from replica: Identity, confirmed: Version
  ) throws -> Acknowledgement {
    var progress = try progress(of: replica) ?? ReplicaProgress(of: replica)
    progress.confirm(through: confirmed)
    let segment = push.segment
    let floor = try log.floor()
    guard !push.hasLapsed(floor: floor) else { throw AdmissionError.lapsed(floor: floor) }
    // What others brought back of this replica it may not have known of when it pushed: it has to look first.
    let isVerified = progress.digestKind == .log || segment.after == progress.lastApplied
    guard segment.after <= progress.lastApplied, isVerified else {
      throw AdmissionError.gap(expected: progress.lastApplied)
    }
    if segment.through > progress.lastApplied {
      do {
        try take(push, progress: &progress)
      } catch let error as LogFormatError {
        throw AdmissionError.malformed("\(error)")
      }
      progress.decided(push)
      try append(progress)
    }
    return Acknowledgement(through: progress.lastApplied, exceptions: progress.unconfirmed, head: state.version)
  }

  private func take(_ push: PushSegment, progress: inout ReplicaProgress) throws {
    let bytes = push.segment.records.bytes
    var records = RecordCursor(over: bytes)
    var last = push.segment.after
    var refusals = RefusalCursor(push.refusals)
    var messageRoom = refusals.isEmpty ? 0 : progress.messageRoom
    while let record = try records.next(in: bytes) {
      guard record.kind == .commit else { throw LogFormatError(.unknownKind, at: record.record.lowerBound) }
      let commit = try CommitView(payload: record.payload, in: bytes)
      try commit.checkTravelling(at: record.record.lowerBound)
      let version = commit.header.version
      guard version > last, version <= push.segment.through else {
        throw LogFormatError(.badVersion, at: record.record.lowerBound)
      }
      last = version
      guard commit.header.origin == progress.replica else { throw AdmissionError.foreignCommit(version: version) }
      guard version > progress.lastApplied else { continue }
      guard progress.unconfirmed.count < LogLimits.maximumExceptions else {
        throw AdmissionError.malformed("more than \(LogLimits.maximumExceptions) decisions were never confirmed")
      }
      if let refusal = refusals.next(for: version) {
        progress.refuse(refusal, messageRoom: &messageRoom)
      } else if try addsNothing(commit, in: bytes) {
        continue
      } else if let newer = try newerVersion(than: push, has: commit, in: bytes, by: progress.replica) {
        progress.unconfirmed.append(CommitException(version: version, reason: .stale(hubVersion: newer)))
      } else {
        try admit(commit, in: bytes)
      }
    }
  }

  /// Applies a commit as its author wrote it. `serverVersion` is the version it had before the hub was restored; 0: none.
  func admit(_ commit: CommitView, in bytes: RawSpan, serverVersion: Version = 0) throws {
    let header = append(
      core: bytes.extracting(commit.core), of: commit.header, serverVersion: serverVersion,
      payloadBytes: commit.payloadBytes)
    var changes = ChangeCursor(commit)
    while let change = try changes.next(in: bytes) {
      try putRow(
        bytes.extracting(change.key), bytes.extracting(change.value), isDeletion: change.isDeletion, of: header)
    }
  }

  /// Whether the hub has what is offered again here: the same rows, of the same time. It was restored and got it back from somebody
  /// else, where what a replica offered again before is not told from its first form otherwise; or the replica is the copy of one
  /// that brought it.
  func addsNothing(_ commit: CommitView, in bytes: RawSpan) throws -> Bool {
    guard commit.header.flags.mayComeAgain else { return false }
    var changes = ChangeCursor(commit)
    while let change = try changes.next(in: bytes) {
      let isHere = try withRow(bytes.extracting(change.key)) { row, value in
        row.time == commit.header.time && row.isTombstone == change.isDeletion
          && value.isEqual(to: bytes.extracting(change.value))
      }
      guard isHere ?? false else { return false }
    }
    return true
  }

  /// The newest version, by somebody else and beyond what the replica had seen of it, of any key of the commit; nil admits
  /// it. Checks the commit's changes on the way, so that nothing malformed is appended.
  private func newerVersion(
    than push: PushSegment, has commit: CommitView, in bytes: RawSpan, by replica: Identity
  ) throws -> Version? {
    let isWhole = push.coverage.isAll
    let surely = isWhole ? push.cursor : 0
    let needsLookUp = !(state.soleAuthor == replica && surely >= state.soleAuthorSince) && surely < state.version
    var newest: Version?
    var changes = ChangeCursor(commit)
    while let change = try changes.next(in: bytes) {
      guard needsLookUp else { continue }
      let key = bytes.extracting(change.key)
      guard let row = try row(of: key), row.origin != replica else { continue }
      let known = isWhole || push.coverage.contains(key) ? push.cursor : 0
      if row.version > known { newest = max(newest ?? 0, row.version) }
    }
    return newest
  }
}
