// A hub's space on a model store: what `EmbeddedSpace` is on a store, with the same rules of admission and of what is
// brought back. And what the simulator asks of any space: the same as a hub does, but at once.

import KVLog
import KVProtocol

@testable import KVHub
@testable import KVStore

/// A space that answers without waiting, and of which copies can be made.
protocol SimulatedSpace: HubSpace {
  func admit(_ push: PushSegment, from replica: Identity, confirmed: Version) throws -> Acknowledgement
  func restore(_ restoration: Restoration) throws -> RestorationOutcome
  func beginEpoch(_ next: Identity, after epoch: Identity, through version: Version) throws
  /// All records that it ever had, for those who look on.
  func everything() throws -> [UInt8]
  /// What a copy of its directory would be, opened by a hub that has just been started.
  func copied() -> any SimulatedSpace
}

extension InMemorySpace: SimulatedSpace {
  func beginEpoch(_ next: Identity, after epoch: Identity, through version: Version) {
    beginEpoch(after: epoch, through: version, as: next)
  }

  func everything() throws -> [UInt8] {
    try feed(FeedRequest(after: 0, excluding: .zero), maximumBytes: .max)?.records ?? []
  }

  func copied() -> any SimulatedSpace { InMemorySpace(copying: self) }
}

extension SimulatedSpace {
  /// The keys that were deleted at `version`, each with its tombstone.
  func deletions(at version: Version) throws -> [[UInt8]: ModelStore.HeldRow] {
    var deletions: [[UInt8]: ModelStore.HeldRow] = [:]
    for commit in try ModelStore.commits(in: everything()) where commit.version <= version {
      let header = CommitHeader(
        version: commit.version, serverVersion: 0, origin: commit.origin, originVersion: commit.originVersion,
        time: commit.time, flags: commit.flags, changeCount: commit.changes.count)
      for change in commit.changes {
        deletions[change.key] =
          change.value == nil ? ModelStore.HeldRow(row: Row(header, isTombstone: true), bytes: []) : nil
      }
    }
    return deletions
  }
}

/// Sound to send: the simulation is one thread.
final class ModelSpace: SimulatedSpace, @unchecked Sendable {
  private(set) var store: ModelStore
  /// What is wrong with the hub, so that the simulator finds it.
  var bug: DeliberateBug?
  private var admissions = 0

  init(epoch: Identity) { store = ModelStore(identity: epoch) }

  private init(_ store: ModelStore, _ bug: DeliberateBug?) {
    self.store = store.reopened()
    self.bug = bug
  }

  func copied() -> any SimulatedSpace { ModelSpace(store, bug) }

  func head() -> Position {
    Position(identity: store.identity, version: store.version, digest: store.state.position.digest)
  }

  func formerEpochs() -> [Position] {
    store.state.lineage.map { Position(identity: $0.incarnation, version: $0.through, digest: .zero) }
  }

  func beginEpoch(_ next: Identity, after epoch: Identity, through version: Version) throws {
    _ = try store.perform { try $0.beginEpoch(next, after: epoch, through: version) }
  }

  func beginEpoch(after epoch: Identity, through version: Version) async throws {
    try beginEpoch(.random(), after: epoch, through: version)
  }

  func retentionFloor() -> Version { store.logFloor }

  func digest(at version: Version) -> Digest? { store.digest(at: version) }

  func owner(of replica: Identity, claimedBy principal: String?) -> String? { principal }

  func progress(of replica: Identity) -> ReplicaProgress? {
    var progress = store.progress[replica]
    if bug == .confirmedBeforeDurable { progress?.confirmed = 0 }
    return progress
  }

  func admit(_ push: PushSegment, from replica: Identity, confirmed: Version) throws -> Acknowledgement {
    admissions += 1
    do {
      let (acknowledgement, _) = try store.perform { group in
        group.isBlind = bug == .admissionSkipped
        group.forgetsProgress = bug == .progressForgotten && admissions % 4 == 0
        return try group.admit(push, from: replica, confirmed: confirmed)
      }
      if bug == .tombstoneSweptEarly { store.sweepTombstones() }
      return acknowledgement
    } catch AdmissionError.gap(let expected) {
      throw HubStorageError.gap(expected: expected)
    } catch AdmissionError.lapsed(let floor) {
      throw HubStorageError.lapsed(floor: floor)
    }
  }

  func restore(_ restoration: Restoration) throws -> RestorationOutcome {
    if bug == .restoredTwice { store = store.reopened() }
    return try store.perform { group in
      group.hidesLog = bug == .restoredTwice
      return try group.restore(restoration)
    }.0
  }

  func everything() -> [UInt8] { (store.archive + store.log).flatMap(\.record) }

  func lapse(through version: Version) { store.lapse(through: version) }

  func page(of interval: KeyInterval, for replica: Identity, deletions: Bool, maximumBytes: Int) -> SnapshotPage {
    let applied = store.progress[replica]?.lastApplied ?? 0
    var page = SnapshotPage(position: head(), applied: applied, interval: interval, record: [])
    var rows = RowsBuilder()
    var walk = ModelRows(store.rows, in: KeyRange(interval))
    while walk.advance() {
      let (key, held) = walk.current
      guard deletions || !held.row.isTombstone else { continue }
      guard rows.byteCount < maximumBytes else {
        page.interval.end = key
        break
      }
      rows.append(
        key: key.bytes, value: held.bytes.bytes, isDeletion: held.row.isTombstone,
        RowOrigin(serverVersion: held.row.version, time: held.row.time, author: held.row.origin))
    }
    if !rows.isEmpty { page.record = rows.record(of: page.position) }
    return page
  }

  func feedAtHand(_ request: FeedRequest, maximumBytes: Int) throws -> CommitSegment?? { nil }

  func feed(_ request: FeedRequest, maximumBytes: Int) throws -> CommitSegment? {
    let version = request.after
    let end = min(request.through ?? store.version, store.version)
    guard version < end else { return nil }
    guard version >= store.logFloor || request.coverage.isEmpty else {
      throw HubStorageError.lapsed(floor: store.logFloor)
    }
    var feed = CommitSegment(after: version, through: version, digest: .zero, records: [], changeCount: 0)
    try store.withStream(after: version, through: store.state.position) { stream in
      try stream.pass(through: store.state.position, to: end) { entry, bytes in
        let header = entry.header
        let isPushed = header.origin == request.replica && header.serverVersion == 0
        guard !isPushed || header.version <= request.ownThrough, !request.coverage.isEmpty else { return true }
        if !feed.records.isEmpty, feed.records.count + entry.record.count > maximumBytes { return false }
        try feed.append(entry.view, record: entry.record, within: request.coverage, in: bytes)
        return true
      }
      feed.through = stream.version
      feed.digest = stream.digest
    }
    return feed
  }

  func rows(after key: [UInt8]?, maximumBytes: Int) -> Rows {
    Rows(version: store.version, digest: store.state.position.digest, rows: [], isLast: true)
  }

  func versions(of keys: [[UInt8]]) -> [Version?] { keys.map { store.rows[$0]?.row.version } }

  func advance(beyond version: Version) async throws -> Version { store.version }
}
