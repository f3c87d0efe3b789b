// What the hub needs of whatever keeps its spaces.
//
// The contract, which `StorageConformance` of `Tests/KVHubEmbeddedTests` checks for every storage:
//
// - *One history.* A space is one serial stream of commits, versions 1, 2, 3 …; its epoch names that history and
//   changes when the history does.
// - *Exactly once.* `admit` decides every commit of a replica once, in the order of the replica's versions. What was
//   decided is stored in the same atomic, durable step as its effects.
// - *Admission.* A commit is stale if a row of one of its keys was last written by another replica at a version beyond
//   what its author had seen of the key: the push's cursor within its coverage, nothing elsewhere. A stale commit is
//   consumed and not applied, and becomes an exception that names the newest such version. One that the push names among
//   its refusals is consumed too, and becomes an exception with that reason, whatever it met. Any other is applied whole.
//   Commits of one push that precede it count.
// - *Durability.* What `admit` returned, and what any reading function shows, survives power loss.
// - *Ordering.* A feed read after `admit` returned shows what was admitted. Versions that were once shown stay.
// - *Concurrency.* All functions may be called from any number of tasks at once. Those that are not `async`, but for
//   `feedAtHand`, may block on a disk; the hub calls them on threads made for that. Those that are begin, and may go on, on
//   an event loop, which they must not keep waiting.

package import KVLog
package import KVProtocol

package protocol HubStorage: Sendable {
  /// Opens the space. One that does not exist is made if `creating`, else it is ``HubStorageError/unknownSpace`` and
  /// nothing is left behind; beyond the storage's limit it is ``HubStorageError/tooManySpaces``. The name follows
  /// `SpaceName`. The same space twice gives the same object.
  func space(named name: String, creating: Bool) async throws -> any HubSpace

  /// Ends all spaces. Nothing is called afterwards; what is under way completes or fails with
  /// ``HubStorageError/closed``.
  func close() async throws
}

extension HubStorage {
  /// Opens the space, or makes it.
  package func space(named name: String) async throws -> any HubSpace {
    try await space(named: name, creating: true)
  }
}

package protocol HubSpace: Sendable {
  /// The newest version and the digest there; the identity is the epoch.
  func head() throws -> Position

  /// The epochs that the space had before, the oldest first, each with the version through which the present history is
  /// surely that of the epoch. Their digests say nothing.
  func formerEpochs() throws -> [Position]

  /// Begins a new epoch, if `epoch` is still the present one: somebody knows more of it than the space does, and has in
  /// common what is through `version`. Durable when it returns.
  func beginEpoch(after epoch: Identity, through version: Version) async throws

  /// The oldest cursor that `feed` can continue from.
  func retentionFloor() throws -> Version

  /// For how many seconds what was fed once is surely kept for those who were not fed it; 0: for ever.
  var retentionSeconds: UInt64 { get }

  /// The version of the present epoch that a backup covers, as whoever keeps the backups says; 0: none. What was known a
  /// second ago will do.
  func backedUpVersion() -> Version

  /// The digest at a version; `nil` if that lies beyond the head or below the retention floor.
  func digest(at version: Version) throws -> Digest?

  /// Whose the replica is in this space: the principal that claimed it first, which is this one if nobody has; `nil`:
  /// nobody has, and nobody does. Durable when it returns. Throws ``HubStorageError/tooManyReplicas`` when this principal
  /// may not have another one.
  func owner(of replica: Identity, claimedBy principal: String?) throws -> String?

  /// What has been decided of a replica; `nil`: it has never pushed here.
  func progress(of replica: Identity) throws -> ReplicaProgress?

  /// Decides a run of the replica's commits, by the rules above.
  ///
  /// - The run must begin at or before what was last decided, else ``HubStorageError/gap(expected:)``; what was decided
  ///   before is skipped.
  /// - Exceptions through `confirmed` are forgotten.
  /// - The result covers everything decided of the replica so far: `through` is its last applied version,
  ///   `exceptions` are all that are unconfirmed, `head` is the space's version after it, `backedUp` is as
  ///   `backedUpVersion` has it.
  ///
  /// Returns once durable. A push that throws has changed nothing, unless the error is ``HubStorageError/failed(_:)``:
  /// then its outcome is found out by `progress(of:)`, after the storage has been opened again if it asks for that.
  func admit(
    _ push: PushSegment, from replica: Identity, confirmed: Version
  ) async throws -> Acknowledgement

  /// Takes back commits of others that the space has lost and a replica still has, by these rules:
  ///
  /// - A commit that its author has pushed, or somebody brought back, before is skipped; what is taken counts as decided of
  ///   its author, with a digest of zero.
  /// - A commit is declined if a key of it was written beyond the restoration's cursor, but for commits brought back since
  ///   the epoch began that were older, or if the restoration says so; so are later commits of the same author in the
  ///   run.
  /// - It is applied under its author's name and with its author's time.
  ///
  /// Returns once durable. A failure has changed nothing, as with `admit`.
  func restore(_ restoration: Restoration) async throws -> RestorationOutcome

  /// The commits that the request is for, as far as `maximumBytes` goes, or one commit if that is larger; `through` also
  /// covers those left out, so `records` may be empty. `nil` at the head, or at the request's end.
  func feed(_ request: FeedRequest, maximumBytes: Int) throws -> CommitSegment?

  /// As `feed`, where that waits for nothing: the commits are few, durable and in memory. `nil` where it is not so. Called on
  /// an event loop.
  func feedAtHand(_ request: FeedRequest, maximumBytes: Int) throws -> CommitSegment??

  /// The rows from the beginning of `interval` on in key order, at the head, those deleted only with `deletions`: as far as
  /// `maximumBytes` goes, or one row if that is larger. Its interval ends behind its last row, or where `interval` does when
  /// that was all. What it says of `replica` is of the same moment.
  func page(of interval: KeyInterval, for replica: Identity, deletions: Bool, maximumBytes: Int) throws -> SnapshotPage

  /// Waits until the head is beyond `version`; gives the head.
  func advance(beyond version: Version) async throws -> Version

  /// The rows after `key` in key order, at one version: at least one, then as many as fit in about `maximumBytes`.
  func rows(after key: [UInt8]?, maximumBytes: Int) throws -> Rows

  /// The versions of the newest changes of these keys, deletions too; `nil` where there is none.
  func versions(of keys: [[UInt8]]) throws -> [Version?]
}

extension HubSpace {
  package var retentionSeconds: UInt64 { 0 }
  package func backedUpVersion() -> Version { 0 }
}

/// What a replica is to be fed of a space.
package struct FeedRequest: Hashable, Sendable {
  package var after: Version
  /// nil: to the head.
  package var through: Version?
  /// Whose commits are left out, but for those that somebody brought back to the space after it was restored…
  package var replica: Identity
  /// …and those through this version.
  package var ownThrough: Version = 0
  /// Of each commit, only the changes of these keys.
  package var coverage: Coverage

  package init(after: Version, through: Version? = nil, excluding replica: Identity, within coverage: Coverage = .all) {
    self.after = after
    self.through = through
    self.replica = replica
    self.coverage = coverage
  }
}

/// Why a storage did not do what it was asked for.
package enum HubStorageError: Error, Hashable, Sendable {
  case unknownSpace
  /// There are as many spaces as there may be.
  case tooManySpaces
  /// The push does not begin where the last one ended.
  case gap(expected: Version)
  /// The log begins after what the replica has.
  case lapsed(floor: Version)
  /// The principal has as many replicas in this space as it may have.
  case tooManyReplicas
  /// The push breaks the rules that `CommitSegment.check` states.
  case malformed(String)
  /// No space left; nothing was changed.
  case full(String)
  case closed
  /// What is stored fails its checks.
  case corrupt(String)
  /// Anything else: what happened and what to do.
  case failed(String)
}
