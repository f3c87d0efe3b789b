// What the replicator asks of a replica's store.
//
// Invariants
// - A push and the cursor that it states come from one snapshot: what was void at that cursor is not in it.
// - An acknowledgement with exceptions is durable, with what they lead to, before the replicator confirms them.

package import KVLog
import Synchronization

/// Where a replica stands, for the handshake.
package struct ReplicaState: Sendable, Equatable {
  /// Who pushes: the store's incarnation.
  package var identity: Identity
  package var local: Position
  package var acknowledgedVersion: Version
  /// What the hub has last confirmed of this store's log.
  package var shipped: Version
  package var shippedDigest: Digest
  /// The pull cursor; its identity is the hub's epoch. nil: never synchronised.
  package var cursor: Position?
  package var holdUntil: Version
  /// Some of the hub's positions passed, newest first.
  package var hubPositions: [Position] = []
  /// The first epoch of the hub's space; zero: never synchronised.
  package var hubSpace = Identity.zero
  /// The keys of which it has everything up to the cursor, and those that it wants besides.
  package var covered = Coverage.all
  package var missing = Coverage.none
  /// The prefixes that are wanted; nil: everything.
  package var scopes: [[UInt8]]?
  /// A restored hub is being brought what it has lost.
  package var isRestoring = false
  /// The hub is to feed this store's own commits too, as far as they are not beyond this version.
  package var ownThrough: Version = 0
  /// Not all that is here has been offered to the space that was adopted.
  package var isAdopting = false
  /// What the hub promised, and since when that counts.
  package var contact = HubContact()
  package var pendingChanges: Int
  package var pendingBytes: Int
  var coverageMarks = CoverageMarks()

  /// What the hub surely had of this store's log at its version `hub`.
  package func covered(at hub: Version) -> Version { min(coverageMarks.local(at: hub), acknowledgedVersion) }
}

extension ReplicaState {
  init(_ state: StoreState) {
    self.init(
      identity: state.incarnation,
      local: Position(identity: state.incarnation, version: state.version, digest: state.position.digest),
      acknowledgedVersion: state.acknowledged, shipped: state.shipped, shippedDigest: state.shippedDigest,
      cursor: state.hubEpoch == .zero
        ? nil : Position(identity: state.hubEpoch, version: state.cursor, digest: state.cursorDigest),
      holdUntil: state.isHeldForLoad ? .max : state.holdUntil > state.cursor ? state.holdUntil : 0,
      hubPositions: state.hubPositions.all(in: state.hubEpoch), hubSpace: state.hubSpace,
      covered: state.subscription.coverage, missing: state.subscription.missing, scopes: state.subscription.scopes,
      isRestoring: state.isRestoring, ownThrough: state.ownThrough > state.cursor ? state.ownThrough : 0,
      isAdopting: state.isAdopting, contact: state.contact,
      pendingChanges: state.pendingChanges, pendingBytes: state.pendingBytes, coverageMarks: state.coverageMarks)
  }
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

  /// With what the next part of the same acknowledgement led to.
  mutating func add(_ next: Acknowledged) {
    reoffered += next.reoffered
    holdUntil = max(holdUntil, next.holdUntil)
    parked += next.parked
  }
}

extension Store {
  package func replicaState() -> ReplicaState { ReplicaState(state) }

  /// The log's digest at `version`; nil beyond the end, or where the log no longer reaches.
  package func digest(at version: Version) throws -> Digest? {
    let state = state
    // First: a new incarnation begins with a digest of its own, the log of what was a backup with that of its source.
    if version == state.shipped { return state.shippedDigest }
    if version == 0 { return .origin(of: state.incarnation) }
    if version == state.version { return state.position.digest }
    guard version < state.version else { return nil }
    do throws(LogError) {
      return try LogReader.digest(at: version, configuration)
    } catch {
      if case .expired = error.kind { return nil }
      throw StoreError(error, path: path)
    }
  }

  /// The mark of this store's commit of that version; nil: there is none, or the log no longer has it.
  package func commitMark(at version: Version) throws -> Digest? {
    do { return try commitMark(at: version, state) } catch let error as LogError {
      if case .expired = error.kind { return nil }
      throw StoreError(error, path: path)
    }
  }

  /// Local changes, and their bytes, of the versions in (after, through].
  package func localChanges(after: Version, through: Version) throws -> (changes: Int, bytes: Int) {
    try published { try localChanges(after: after, through: through, state) }
  }

  /// The next run of pending commits after `after`, as ``PushReader`` reads it; for one run only.
  package func pushSegment(
    after: Version, maximumBytes: Int, history: ShippedHistory = .latest
  ) throws -> PushSegment? {
    try PushReader(self, history: history).next(after: after, maximumBytes: maximumBytes)
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
      total.add(outcome)
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
