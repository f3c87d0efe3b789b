// A replica's store in memory, after the rules of replication and nothing else: what the simulator runs sessions over.
//
// Invariants:
// - It is a value: a copy taken when something became durable is what a power cut leaves.
// - `commits[i]` has version i + 1, `digests[i]` is the digest after i commits.

import KVLog
import KVProtocol

@testable import KVStore

struct ModelStore {
  struct Change {
    var key: [UInt8]
    var value: [UInt8]?
  }

  struct Commit {
    var origin: Identity
    var originVersion: Version
    var time: HybridTime
    var flags: CommitFlags
    var changes: [Change]
    var core: [UInt8]
  }

  struct Row: Equatable {
    var version: Version
    var origin: Identity
    var time: HybridTime
    var value: [UInt8]?
  }

  let identity: Identity
  var history = ShippedHistory.latest
  var commits: [Commit] = []
  var digests: [Digest]
  var rows: [[UInt8]: Row] = [:]
  var localChanges = 0
  var acknowledgedChanges = 0
  var acknowledged: Version = 0
  var shipped: Version = 0
  var shippedDigest: Digest
  var space = Identity.zero
  var epoch = Identity.zero
  var cursor: Version = 0
  var cursorDigest = Digest.zero
  var holdUntil: Version = 0
  var voids: [[UInt8]: Version] = [:]
  /// Values that lost a conflict.
  var journal: [[UInt8]] = []
  /// Values that a later local write of the same key replaced before any conflict.
  var overwritten: [[UInt8]] = []
  var lastTime: UInt64 = 0
  /// Local changes that were not shipped because later ones had overwritten them.
  var passedOver = 0

  init(identity: Identity) {
    self.identity = identity
    digests = [.origin(of: identity)]
    shippedDigest = digests[0]
  }

  var version: Version { Version(commits.count) }
  var hasPending: Bool { localChanges != acknowledgedChanges }

  var state: ReplicaState {
    var state = ReplicaState(
      identity: identity,
      local: Position(identity: identity, version: version, digest: digests[commits.count]),
      acknowledgedVersion: acknowledged, shipped: shipped, shippedDigest: shippedDigest,
      cursor: epoch == .zero ? nil : Position(identity: epoch, version: cursor, digest: cursorDigest),
      holdUntil: holdUntil > cursor ? holdUntil : 0, pendingChanges: localChanges - acknowledgedChanges,
      pendingBytes: 0,
      firstLogVersion: 1)
    state.hubSpace = space
    return state
  }

  /// The space and its epoch are new here; nothing was lost on either side.
  mutating func follow(_ position: Position, in space: Identity, shipped: Version) {
    precondition(position.version == cursor && shipped == self.shipped, "nothing is lost here")
    self.space = space
    epoch = position.identity
  }

  // MARK: Writing

  mutating func write(_ changes: [Change], clock: UInt64) {
    lastTime = max(lastTime + 1, clock)
    for change in changes {
      if let row = rows[change.key], row.origin == identity, let value = row.value { overwritten.append(value) }
    }
    append(changes, time: HybridTime(rawValue: lastTime), flags: [])
  }

  private mutating func append(_ changes: [Change], time: HybridTime, flags: CommitFlags) {
    append(
      Commit(
        origin: identity, originVersion: version + 1, time: time, flags: flags, changes: changes,
        core: ModelStore.core(identity, version + 1, time, flags, changes)))
  }

  private mutating func append(_ commit: Commit) {
    commits.append(commit)
    digests.append(digests[commits.count - 1].chained(version: version, core: commit.core.bytes))
    lastTime = max(lastTime, commit.time.rawValue)
    for change in commit.changes {
      rows[change.key] = Row(version: version, origin: commit.origin, time: commit.time, value: change.value)
    }
    if commit.origin == identity {
      localChanges += commit.changes.count
    } else if !hasPending {
      acknowledged = version
    }
  }

  // MARK: What a session asks for

  func digest(at version: Version) -> Digest? {
    version <= self.version ? digests[Int(version)] : nil
  }

  func localChanges(after: Version, through: Version) -> Int {
    let start = max(after, acknowledged)
    guard start < through else { return 0 }
    return commits[Int(start)..<Int(through)].reduce(0) { $0 + ($1.origin == identity ? $1.changes.count : 0) }
  }

  mutating func pushSegment(after: Version, maximumBytes: Int) -> PushSegment? {
    let start = max(after, acknowledged)
    guard hasPending, start < version else { return nil }
    var push = PushSegment(
      segment: CommitSegment(after: after, through: start, digest: .zero, records: [], changeCount: 0), cursor: cursor,
      localChanges: 0, localBytes: 0)
    for (index, commit) in commits.enumerated().dropFirst(Int(start)) {
      let version = Version(index + 1)
      if commit.origin == identity {
        var kept = commit.changes.filter { voids[$0.key, default: 0] < version }
        if history == .latest, !kept.contains(where: { isCurrent($0.key, version) }) {
          passedOver += kept.count
          kept = []
        }
        let core = ModelStore.core(identity, version, commit.time, commit.flags, kept)
        if push.localChanges > 0, !kept.isEmpty, push.segment.records.count + core.count > maximumBytes { break }
        push.localChanges += commit.changes.count
        if !kept.isEmpty {
          push.segment.records += ModelStore.record(version: version, serverVersion: 0, core: core)
          push.segment.changeCount += kept.count
        }
      }
      push.segment.through = version
    }
    push.segment.digest = digests[Int(push.segment.through)]
    return push.localChanges > 0 ? push : nil
  }

  /// Whether no later commit of this store changed the key.
  private func isCurrent(_ key: [UInt8], _ version: Version) -> Bool {
    rows[key].map { $0.origin != identity || $0.version <= version } ?? true
  }

  mutating func acknowledge(
    _ acknowledgement: Acknowledgement, digest: Digest, localChanges: Int, epoch: Identity
  ) -> Acknowledged {
    var outcome = Acknowledged()
    precondition(self.epoch == .zero || self.epoch == epoch)
    guard acknowledgement.through > shipped else { return outcome }
    precondition(digest == digests[Int(acknowledgement.through)], "the digest of another version is acknowledged")
    var reoffers: [(HybridTime, [Change])] = []
    for exception in acknowledgement.exceptions where exception.version > shipped {
      guard case .stale(let hubVersion) = exception.reason else { preconditionFailure("nothing is refused here") }
      let commit = commits[Int(exception.version) - 1]
      precondition(commit.origin == identity)
      let current = commit.changes.filter { change in
        rows[change.key].map { $0.version == exception.version && $0.value == change.value } ?? false
      }
      guard !current.isEmpty else { continue }
      reoffers.append((commit.time, current))
      outcome.holdUntil = max(outcome.holdUntil, hubVersion)
    }
    shipped = acknowledgement.through
    shippedDigest = digest
    acknowledgedChanges += localChanges
    precondition(acknowledgedChanges <= self.localChanges, "more is acknowledged than there is")
    acknowledged = hasPending ? max(acknowledged, shipped) : version
    self.epoch = epoch
    holdUntil = max(holdUntil, outcome.holdUntil)
    for (time, changes) in reoffers { append(changes, time: time, flags: .reoffer) }
    outcome.reoffered = reoffers.count
    return outcome
  }

  /// Applies a feed, the last writer winning.
  mutating func apply(_ feed: CommitSegment, epoch: Identity) throws -> FeedOutcome {
    var outcome = FeedOutcome()
    precondition(self.epoch == .zero || self.epoch == epoch)
    precondition(feed.after <= cursor, "a feed leaves a gap")
    guard feed.through > cursor else { return outcome }
    let seen = cursor
    for commit in try ModelStore.commits(in: feed.records)
    where commit.hubVersion > seen && commit.commit.origin != identity {
      var remote = commit.commit
      // Each key once, with the commit's last change of it.
      var last: [[UInt8]: [UInt8]?] = [:]
      for change in remote.changes { last[change.key] = .some(change.value) }
      let meetings = last.compactMap { key, value -> (key: [UInt8], local: Row, remote: [UInt8]?)? in
        guard let row = rows[key], row.origin == identity, row.version > acknowledged else { return nil }
        return (key, row, value)
      }
      remote.core = ModelStore.core(remote.origin, remote.originVersion, remote.time, remote.flags, remote.changes)
      append(remote)
      outcome.commits += 1
      outcome.changes += remote.changes.count
      var winners: [Version: (HybridTime, [Change])] = [:]
      for meeting in meetings {
        if meeting.local.value == meeting.remote {
          voids[meeting.key] = meeting.local.version
          // The later of two equal writes has its say against a third: its time must reach the others.
          guard (meeting.local.time, identity) > (remote.time, remote.origin) else { continue }
          winners[meeting.local.version, default: (meeting.local.time, [])].1
            .append(Change(key: meeting.key, value: meeting.local.value))
        } else if (meeting.local.time, identity) > (remote.time, remote.origin) {
          outcome.conflicts += 1
          if let value = meeting.remote { journal.append(value) }
          winners[meeting.local.version, default: (meeting.local.time, [])].1
            .append(Change(key: meeting.key, value: meeting.local.value))
        } else {
          outcome.conflicts += 1
          if let value = meeting.local.value { journal.append(value) }
          voids[meeting.key] = meeting.local.version
        }
      }
      outcome.resolutions += winners.values.reduce(0) { $0 + $1.1.count }
      for (_, winner) in winners.sorted(by: { $0.key < $1.key }) {
        append(winner.1, time: winner.0, flags: .resolution)
      }
    }
    self.epoch = epoch
    cursor = feed.through
    cursorDigest = feed.digest
    return outcome
  }
}

// MARK: - Bytes

extension ModelStore {
  static func core(
    _ origin: Identity, _ originVersion: Version, _ time: HybridTime, _ flags: CommitFlags, _ changes: [Change]
  ) -> [UInt8] {
    var core: [UInt8] = []
    core.append(origin)
    core.append(littleEndian: originVersion)
    core.append(littleEndian: time.rawValue)
    core.append(littleEndian: flags.rawValue)
    core.append(littleEndian: UInt16(0))
    core.append(littleEndian: UInt32(changes.count))
    for change in changes {
      core.append(change.value == nil ? 1 : 0)
      core.append(littleEndian: UInt16(change.key.count))
      core.append(littleEndian: UInt32(change.value?.count ?? 0))
      core += change.key
      core += change.value ?? []
    }
    return core
  }

  static func record(version: Version, serverVersion: Version, core: [UInt8]) -> [UInt8] {
    var record: [UInt8] = []
    record.append(littleEndian: UInt32(16 + core.count))
    record.append(littleEndian: UInt32(RecordKind.commit.rawValue))
    record.append(littleEndian: version)
    record.append(littleEndian: serverVersion)
    return record + core
  }

  static func commits(in records: [UInt8]) throws -> [(hubVersion: Version, commit: Commit)] {
    let bytes = records.bytes
    var cursor = RecordCursor(over: bytes)
    var commits: [(Version, Commit)] = []
    while let record = try cursor.next(in: bytes) {
      let view = try CommitView(payload: record.payload, in: bytes)
      var changes: [Change] = []
      var changeCursor = ChangeCursor(view)
      while let change = try changeCursor.next(in: bytes) {
        changes.append(
          Change(key: Array(records[change.key]), value: change.isDeletion ? nil : Array(records[change.value])))
      }
      commits.append(
        (
          view.header.version,
          Commit(
            origin: view.header.origin, originVersion: view.header.originVersion, time: view.header.time,
            flags: view.header.flags, changes: changes, core: Array(records[view.core]))
        ))
    }
    return commits
  }
}
