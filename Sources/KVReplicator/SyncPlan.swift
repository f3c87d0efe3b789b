// What a session would do, as numbers.

/// The outcome of ``Replicator/plan(_:)``: what one session would send and bring, as of now.
///
/// When nobody writes meanwhile, the next ``Replicator/syncOnce(_:)`` reports just these numbers, unless there are
/// conflicts: what they lead to (resolutions to be sent, commits that the hub finds stale and that are offered again) depends
/// on which side is faster, and is not in them. Commits that wait for a pull are counted also when only pushing.
public struct SyncPlan: Sendable, Hashable {
  /// Local changes that the hub would decide.
  public var pendingChanges = 0
  /// Their key and value bytes.
  public var pendingBytes = 0
  /// Those of the changes that would not be sent: passed over, or void. See ``SyncReport/supersededChanges``.
  public var supersededChanges = 0
  /// Commits that would be sent…
  public var commitsToSend = 0
  /// …with so many changes…
  public var changesToSend = 0
  /// …of so many key and value bytes…
  public var bytesToSend = 0
  /// …in so many messages. A message may be without commits: it says that what it covers need not be sent.
  public var segmentsToSend = 0
  /// Commits of others that would come…
  public var commitsToReceive = 0
  /// …with so many changes…
  public var changesToReceive = 0
  /// …of so many key and value bytes…
  public var bytesToReceive = 0
  /// …in so many messages; joined where the hub sends faster than it is listened to.
  public var segmentsToReceive = 0
  /// Keys that others changed since this store last pulled, and that have another value pending here.
  public var expectedConflicts = 0
  /// The hub's version.
  public var hubVersion: UInt64 = 0
  /// There is no such space yet: the session would make it, if the hub makes spaces.
  public var createsSpace = false
  /// Why a session would end in nothing: store or hub was restored or copied, or the hub no longer has what this store needs.
  /// `nil`: nothing speaks against it. The numbers are those of the store alone then.
  public var obstacle: ReplicatorError?
}
