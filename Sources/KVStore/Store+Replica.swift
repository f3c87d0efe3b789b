// What the replicator asks of a replica's store.
//
// Invariants
// - A push and the cursor that it states come from one snapshot: what was void at that cursor is not in it.
// - An acknowledgement with exceptions is durable, with what they lead to, before the replicator confirms them.

package import KVLog
import Synchronization

/// Where a replica stands, for the handshake.
package struct ReplicaState: Sendable, Equatable {
  package var identity: Identity
  package var incarnation: Identity
  package var local: Position
  package var acknowledgedVersion: Version
  /// What the hub has last confirmed of this store's log.
  package var shipped: Version
  package var shippedDigest: Digest
  /// The pull cursor; its identity is the hub's epoch. nil: never synchronised.
  package var cursor: Position?
  package var holdUntil: Version
  package var pendingChanges: Int
  package var pendingBytes: Int
  package var firstLogVersion: Version
}

/// What recording an acknowledgement led to.
package struct Acknowledged: Sendable, Equatable {
  /// Commits that were appended again because the hub found them stale.
  package var reoffered: Int
  /// The hub's version to pull past before anything is pushed; 0: none.
  package var holdUntil: Version
  /// Commits that were parked because the hub refused them.
  package var parked: Int

  package init(reoffered: Int = 0, holdUntil: Version = 0, parked: Int = 0) {
    self.reoffered = reoffered
    self.holdUntil = holdUntil
    self.parked = parked
  }
}

extension Store {
  package func replicaState() -> ReplicaState {
    let state = state
    return ReplicaState(
      identity: identity, incarnation: incarnation,
      local: Position(identity: identity, version: state.version, digest: state.position.digest),
      acknowledgedVersion: state.acknowledged, shipped: state.shipped, shippedDigest: state.shippedDigest,
      cursor: state.hubEpoch == .zero
        ? nil : Position(identity: state.hubEpoch, version: state.cursor, digest: state.cursorDigest),
      holdUntil: state.holdUntil > state.cursor ? state.holdUntil : 0, pendingChanges: state.pendingChanges,
      pendingBytes: state.pendingBytes, firstLogVersion: firstLogVersion)
  }

  private var firstLogVersion: Version {
    if case .writable(let core)? = try? backing() { return (try? core.log.firstVersion) ?? 1 }
    return 1
  }

  /// The log's digest at `version`; nil beyond the end, or where the log no longer reaches.
  package func digest(at version: Version) throws -> Digest? {
    let state = state
    // First, because what a backup of an empty store became begins with the digest of its source.
    if version == 0 { return .origin(of: identity) }
    if version == state.version { return state.position.digest }
    if version == state.shipped { return state.shippedDigest }
    guard version < state.version else { return nil }
    do throws(LogError) {
      return try LogReader.digest(at: version, configuration)
    } catch {
      if case .expired = error.kind { return nil }
      throw StoreError(error, path: path)
    }
  }

  /// Local changes, and their bytes, of the versions in (after, through].
  package func localChanges(after: Version, through: Version) throws -> (changes: Int, bytes: Int) {
    let state = state
    var counts = (changes: 0, bytes: 0)
    // What is acknowledged already counts no more; commits pulled while nothing was pending lie there too.
    let start = max(after, state.acknowledged)
    guard start < through else { return counts }
    try published {
      try withStream(after: start, through: state.position) { stream in
        while stream.version < through {
          let taken = try stream.next(through: state.position) { entry, _ in
            if entry.header.origin == identity {
              counts.changes += entry.header.changeCount
              counts.bytes += entry.payloadBytes
            }
            return true
          }
          if taken != .passed { break }
        }
      }
    }
    return counts
  }

  /// The next run of pending commits after `after` (the version that the hub expects to continue from), void changes
  /// taken out; at least one commit, and no more than `maximumBytes` unless a single commit is larger. nil: none.
  package func pushSegment(after: Version, maximumBytes: Int) throws -> PushSegment? {
    try shipOnlyDurable()
    return try read { snapshot in
      let state = try snapshot.state
      let start = max(after, state.acknowledged)
      guard state.hasPending, start < state.version else { return nil }
      let voids = state.voidThrough > state.acknowledged ? snapshot : nil
      var push = PushSegment(
        segment: CommitSegment(after: after, through: start, digest: .zero, records: [], changeCount: 0),
        cursor: state.cursor, localChanges: 0, localBytes: 0)
      push.segment.records.reserveCapacity(maximumBytes)
      try withStream(after: start, through: state.position) { stream in
        reading: while stream.version < state.version {
          let taken = try stream.next(through: state.position) { entry, bytes in
            guard entry.header.origin == identity else { return true }
            let size = push.segment.records.count + entry.record.count
            if push.localChanges > 0, size > maximumBytes { return false }
            try push.append(entry, in: bytes, voids: entry.header.version <= state.voidThrough ? voids : nil)
            return true
          }
          if taken != .passed { break reading }
        }
        push.segment.through = stream.version
        push.segment.digest = try stream.digest
      }
      return push.localChanges > 0 ? push : nil
    }
  }

  /// Applies a run of the hub's commits, resolves conflicts with pending changes, and moves the pull cursor, in one
  /// durable step, or in several where the values in conflict are very large. A run that brings nothing but the cursor
  /// is not synced on its own.
  package func apply(_ feed: CommitSegment, epoch: Identity, policy: ConflictPolicy) async throws -> FeedOutcome {
    var total = FeedOutcome()
    let token = lease
    while true {
      let outcome = try await perform { [path] group in
        try group.checkLease(token)
        do {
          return try group.apply(feed, epoch: epoch, policy: policy)
        } catch let error as LogFormatError {
          throw StoreError(.replication, "what the hub sent is not a run of commits: \(error).", path: path)
        }
      }
      total.commits += outcome.commits
      total.changes += outcome.changes
      total.bytes += outcome.bytes
      total.conflicts += outcome.conflicts
      if outcome.isComplete { return total }
    }
  }

  /// Suspends until the store's version is beyond `version`.
  package func advance(beyond version: Version) async throws -> Version {
    try await core().publication.wait(for: .versionBeyond(version)).version
  }

  func published<Result>(_ body: () throws -> Result) throws -> Result {
    do { return try body() } catch { throw StoreError.published(error, path: path) }
  }
}

extension PushSegment {
  /// Adds a local commit; with `voids`, without the changes that lost a conflict.
  fileprivate mutating func append(_ entry: CommitStream.Entry, in bytes: RawSpan, voids: Snapshot?) throws {
    localChanges += entry.header.changeCount
    localBytes += entry.payloadBytes
    guard let voids, let kept = try entry.changesNotVoid(in: bytes, voids) else {
      segment.records.append(bytes.extracting(entry.record))
      segment.changeCount += entry.header.changeCount
      return
    }
    guard kept.count > 0 else { return }
    segment.records.append(commit: entry.header, changes: kept, in: bytes)
    segment.changeCount += kept.count
  }
}

extension CommitStream.Entry {
  /// The changes that may be shipped; nil when all may.
  fileprivate func changesNotVoid(in bytes: RawSpan, _ snapshot: Snapshot) throws -> [Range<Int>]? {
    var kept: [Range<Int>] = []
    var cursor = ChangeCursor(view)
    while let change = try cursor.next(in: bytes) {
      let key = bytes.extracting(change.key).copied()
      let voidThrough = try snapshot.bytes(\.voids, key).map { $0.bytes.load(UInt64.self, at: 0) } ?? 0
      if voidThrough < header.version {
        kept.append(change.key.lowerBound - ChangeEncoding.headerByteCount..<change.value.upperBound)
      }
    }
    return kept.count == header.changeCount ? nil : kept
  }
}
