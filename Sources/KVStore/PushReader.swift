// Reads a replica's log for shipping: runs of pending commits, without those that need not travel.
//
// What need not travel
// - A *void* change, which lost a conflict, is taken out of its commit, in either history.
// - With `ShippedHistory.latest`, a commit is passed over when nothing of it is current: each of its changes is void, or
//   was overwritten by a later local change. A commit of which anything is current goes whole, less what is void.
//
// Why nothing vanishes by that
// - A local change c of a key that is not current was followed by a local change or by a remote one. A remote change that
//   meets a pending local one makes void what was written of the key until then, c too, and c is shipped in neither history.
// - Otherwise a later local change d of the key exists, and it stays in the log after c until the hub has decided it. So c
//   is needed only if d does not get to the hub. d is either passed over for a later change still, and the last in that row
//   is current; or it is void, and then so is c, since a void reaches back to all versions before; or the hub finds it
//   stale: then what is current of it is offered again under a new version, which is the later change from then on; or it
//   waits for a pull with the re-offers before it (`holdUntil`), and what has not travelled stays pending.
// - A change that the hub refuses is decided, and so is what was passed over for it, which the hub might have taken. So a
//   hub that may refuse says so, and is shipped every commit (`shipEvery`): it judges each value, and keeps the last good one.
// - A resolution and a re-offer are local commits: they are later changes of their keys, and are overwritten like others.
// - What a restored hub has lost is pending again, and judged alike: of a commit that was stale, and offered again, nothing
//   is current, so it is not pushed beside what was offered in its place. A change that a commit of somebody else had
//   overwritten by then, who knew of it, counts as void: the hub has that commit again or a re-offer of it, and the change,
//   pushed with a cursor beyond it, would go over it.
// - A commit between `shipped` and `acknowledged` is decided; a run begins behind both. One that was sent and whose
//   acknowledgement was lost may be passed over the second time: the hub skips what it has decided, by its version.
// - The hub may have decided c, and the store not heard of it, when the store is put back to a copy without d, or a copy without
//   d goes on beside it. So a run of which anything was left out says with which log that was (`Horizon`), and the hub tells a
//   store of whose decisions it has not heard: with another log there it goes on as a new incarnation, and c is pending again.
//   Of what the store has heard, it heard after d was in its log.
//
// Invariants
// - A push and the cursor that it states come from one snapshot: what was void at that cursor is not in it.
// - What was found overwritten stays so: an older survey of the rows (`CurrentVersions`) passes over less than a new one
//   would, never more. Whether something is void is looked up as of now, each time.
// - A run counts every local change of the versions that it covers, those that do not travel too: they are decided with
//   it. So a run may be without records, and moves the acknowledged version all the same.
// - A run ends after so many bytes of the log, though little of them travels: progress shows, and a snapshot is not held long.

package import KVLog
import LMDB
import Synchronization

/// Reads the log of one store for one peer; used by one caller at a time.
package final class PushReader: Sendable {
  private let store: Store
  private let history: Mutex<ShippedHistory>
  private let tuning: Tuning
  private let survey = Mutex(Survey())

  private struct Survey {
    var known: CurrentVersions?
    /// Changes that were looked up since it covered what is read.
    var lookedUp = 0
  }

  /// What decides how the log is read, and not what is shipped.
  package struct Tuning: Sendable {
    /// See the limits of the same names.
    package var lookedUpChanges = StoreLimits.lookedUpChanges
    package var surveyedRowsPerChange = StoreLimits.surveyedRowsPerChange
    package var surveyedVersions = StoreLimits.surveyedVersions
    package var pushReadBytes = StoreLimits.pushReadBytes

    package init() {}
  }

  package init(_ store: Store, history: ShippedHistory, tuning: Tuning = Tuning()) {
    self.store = store
    self.history = Mutex(history)
    self.tuning = tuning
  }

  /// From now on nothing is passed over, but what is void.
  package func shipEvery() { history.withLock { $0 = .every } }

  private var coalesces: Bool { history.withLock { $0 } == .latest }

  /// The next run of pending commits after `after` (the version that the hub expects to continue from); at least one
  /// local commit, and no more than `maximumBytes` unless a single commit is larger. nil: none.
  package func next(after: Version, maximumBytes: Int) throws -> PushSegment? {
    try store.shipOnlyDurable()
    return try store.read { snapshot in
      let state = try snapshot.state
      let start = max(after, state.acknowledged)
      guard state.hasPending, start < state.version else { return nil }
      let screen = CommitScreen(
        rows: snapshot, state: state, history: history.withLock { $0 },
        current: try current(after: start, state, snapshot))
      defer { survey.withLock { $0.lookedUp += screen.lookedUp } }
      return try store.push(
        after: after, state, screen, maximumBytes: maximumBytes, readBytes: tuning.pushReadBytes)
    }
  }

  /// As `next` with what is pending, when that is nothing or one small commit, the newest: of that all is current, so no row
  /// is looked up, and it is in memory. With the state that it is of, which may be behind what other processes have published.
  /// nil: it is not so, and `next` may have to wait for a disk.
  package func nextAtHand(after: Version) throws -> (push: PushSegment?, state: ReplicaState)? {
    guard let state = store.stateAtHand else { return nil }
    let start = max(after, state.acknowledged)
    guard state.hasPending, start < state.version else { return (nil, ReplicaState(state)) }
    let mayBeVoid = state.version <= max(state.voidThrough, state.restoreThrough)
    guard after == start, state.version == start + 1, !mayBeVoid,
      var stream = store.streamAtHand(after: start, state)
    else { return nil }
    var push = PushSegment(after: after, through: start, state)
    let isLocal = try store.published {
      let isLocal = try stream.next(through: state.position) { entry, bytes in
        state.isLocal(entry.header) && push.append(entry, .all, in: bytes, as: state.incarnation, .max)
      }
      if isLocal {
        push.segment.through = stream.version
        push.segment.digest = try stream.digest
      }
      return isLocal
    }
    store.streams.put(stream)
    return isLocal ? (push, ReplicaState(state)) : nil
  }

  /// Whether the last run was decided by a survey.
  var isSurveying: Bool { survey.withLock { $0.known != nil } }

  /// What is known of the versions after `start`. It is found out when looking changes up has taken as long as that takes,
  /// and would go on: of a commit one current change is enough, so large commits that nobody has overwritten since need few
  /// look-ups, and nothing waits for a walk over all rows.
  private func current(after start: Version, _ state: StoreState, _ snapshot: Snapshot) throws -> CurrentVersions? {
    guard coalesces else { return nil }
    return try survey.withLock { survey in
      if let known = survey.known {
        if known.covers(start + 1) { return known }
        survey = Survey()
      }
      // At most all that is pending, at least in proportion to the versions that are left of it.
      let share = Double(state.version - start) / Double(state.version - state.acknowledged)
      let changes = Int(Double(state.pendingChanges) * share)
      let rows = try snapshot.sources.reduce(0) { try $0 + $1.reader.entryCount($1.tables.rows) }
      guard changes > tuning.lookedUpChanges, changes * tuning.surveyedRowsPerChange > rows,
        (survey.lookedUp + 1) * tuning.surveyedRowsPerChange > rows
      else { return nil }
      let window = min(state.version - start, Version(tuning.surveyedVersions))
      survey.known = try CurrentVersions(after: start, through: start + window, in: snapshot)
      return survey.known
    }
  }
}

/// Where the newest change of a key is looked up.
protocol RowLookup: AnyObject {
  func row(of key: RawSpan) throws -> Row?
  /// Local changes of the key up to this version are void; 0: none.
  func voidThrough(of key: [UInt8]) throws -> Version
}

extension Snapshot: RowLookup {
  func voidThrough(of key: [UInt8]) throws -> Version {
    try bytes(\.voids, key).map { $0.bytes.load(UInt64.self, at: 0) } ?? 0
  }
}

extension CommitLog {
  /// The next run of pending commits after `after`, as `screen` has them, which was made of the same state.
  func push(
    after: Version, _ state: StoreState, _ screen: CommitScreen<some RowLookup>, maximumBytes: Int, readBytes: Int
  ) throws -> PushSegment? {
    let start = max(after, state.acknowledged)
    guard state.hasPending, start < state.version else { return nil }
    var push = PushSegment(after: after, through: start, state)
    // A commit of one change has some 100 bytes besides it.
    push.segment.records.reserveCapacity(min(maximumBytes, state.pendingBytes + 128 * state.pendingChanges))
    var bytesRead = 0
    try withStream(after: start, through: state.position) { stream in
      try stream.pass(through: state.position, to: state.version) { entry, bytes in
        guard state.isLocal(entry.header) else { return true }
        if push.localChanges > 0, bytesRead >= readBytes { return false }
        let kept = try screen.kept(of: entry, in: bytes)
        guard push.append(entry, kept, in: bytes, as: state.incarnation, maximumBytes) else { return false }
        if !kept.isAll { push.horizon = Horizon(version: state.version, digest: state.position.digest) }
        bytesRead += entry.record.count
        return true
      }
      push.segment.through = stream.version
      push.segment.digest = try stream.digest
    }
    return push.localChanges > 0 ? push : nil
  }
}

/// What of a pending commit travels.
enum KeptChanges {
  case all
  case none
  /// The changes that are not void, as they lie in the bytes.
  case some([Range<Int>])

  var isAll: Bool { if case .all = self { true } else { false } }
}

/// Decides what of a pending commit travels.
final class CommitScreen<Rows: RowLookup> {
  private let rows: Rows
  private let coalesces: Bool
  private let current: CurrentVersions?
  /// No change beyond this version is void.
  private let voidThrough: Version
  /// What a restored hub had lost is not beyond this version.
  private let lostThrough: Version
  /// Changes whose rows were looked up to find out whether they are current.
  private(set) var lookedUp = 0

  init(rows: Rows, state: StoreState, history: ShippedHistory, current: CurrentVersions?) {
    self.rows = rows
    coalesces = history == .latest
    self.current = current
    voidThrough = state.voidThrough > state.acknowledged ? state.voidThrough : 0
    lostThrough = state.restoreThrough
  }

  func kept(of entry: CommitStream.Entry, in bytes: RawSpan) throws -> KeptChanges {
    let version = entry.header.version
    if coalesces {
      if let current, current.covers(version) {
        guard current.contains(version) else { return .none }
      } else {
        guard try isCurrent(entry, in: bytes) else { return .none }
      }
    }
    return version <= max(voidThrough, lostThrough) ? try notVoid(entry, in: bytes) : .all
  }

  /// Whether anything of the commit was not overwritten by a later local change, and is not void.
  private func isCurrent(_ entry: CommitStream.Entry, in bytes: RawSpan) throws -> Bool {
    var changes = ChangeCursor(entry.view)
    while let change = try changes.next(in: bytes) {
      let key = bytes.extracting(change.key)
      lookedUp += 1
      guard let row = try rows.row(of: key) else { return true }
      if row.version <= entry.header.version { return true }
      if row.serverVersion > 0, try !isVoid(key, entry.header.version) { return true }
    }
    return false
  }

  private func notVoid(_ entry: CommitStream.Entry, in bytes: RawSpan) throws -> KeptChanges {
    var kept: [Range<Int>] = []
    var changes = ChangeCursor(entry.view)
    while let change = try changes.next(in: bytes) {
      if try !isVoid(bytes.extracting(change.key), entry.header.version) {
        kept.append(change.key.lowerBound - ChangeEncoding.headerByteCount..<change.value.upperBound)
      }
    }
    return kept.isEmpty ? .none : kept.count == entry.header.changeCount ? .all : .some(kept)
  }

  private func isVoid(_ key: RawSpan, _ version: Version) throws -> Bool {
    if version <= lostThrough, let row = try rows.row(of: key), row.serverVersion > 0, row.version > version {
      return true
    }
    guard version <= voidThrough else { return false }
    return try version <= rows.voidThrough(of: key.copied())
  }
}

extension PushSegment {
  /// Of what is pending in that state, nothing yet.
  fileprivate init(after: Version, through start: Version, _ state: StoreState) {
    self.init(
      segment: CommitSegment(after: after, through: start, digest: .zero, records: [], changeCount: 0),
      cursor: state.cursor, localChanges: 0, localBytes: 0)
  }

  /// Takes a local commit in, or what is kept of it; false when it does not fit behind what is there. What a former
  /// incarnation wrote is pushed as of the present one: under the former one the hub has other commits. But it may have this one
  /// too, so it is a re-offer.
  fileprivate mutating func append(
    _ entry: CommitStream.Entry, _ kept: KeptChanges, in bytes: RawSpan, as incarnation: Identity,
    _ maximumBytes: Int
  ) -> Bool {
    if case .none = kept {
    } else {
      let size = segment.records.count + entry.record.count
      if localChanges > 0, size > maximumBytes { return false }
    }
    localChanges += entry.header.changeCount
    localBytes += entry.payloadBytes
    let isRenamed = entry.header.origin != incarnation
    segment.append(entry, kept, in: bytes, as: incarnation, isRenamed ? [.reoffer] : [])
    return true
  }
}

extension CommitSegment {
  /// Adds what is kept of a commit, as one of `origin`, with `flags` besides its own.
  mutating func append(
    _ entry: CommitStream.Entry, _ kept: KeptChanges, in bytes: RawSpan, as origin: Identity, _ flags: CommitFlags = []
  ) {
    switch kept {
    case .none: break
    case .all:
      let start = records.count
      records.append(bytes.extracting(entry.record))
      if entry.header.origin != origin {
        records.rename(recordAt: start, as: origin, flags: entry.header.flags.union(flags))
      }
      changeCount += entry.header.changeCount
    case .some(let changes):
      var header = entry.header
      header.origin = origin
      header.flags.formUnion(flags)
      records.append(commit: header, changes: changes, in: bytes)
      changeCount += changes.count
    }
  }
}
