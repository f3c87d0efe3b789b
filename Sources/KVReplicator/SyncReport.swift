// What synchronising has done, and what it has left.

/// The sum of what one or more sessions did.
public struct SyncReport: Sendable, Hashable {
  /// Local changes that the hub has decided; each counts once, however often the link broke.
  public var pushedChanges = 0
  /// Their key and value bytes.
  public var pushedBytes = 0
  /// Commits of others applied here.
  public var pulledCommits = 0
  /// Their changes.
  public var pulledChanges = 0
  /// Their key and value bytes.
  public var pulledBytes = 0
  /// Conflicts found, resolved and recorded.
  public var conflicts = 0
  /// Commits that the hub found stale and that were offered again.
  public var reoffered = 0
  /// Commits that the hub refused: they are parked (`Store.parkedCommits(after:limit:)`).
  public var parked = 0
  /// Local changes that the hub has not decided when the report was made.
  public var pendingChanges = 0
  /// Whether some of these met newer changes of others on the hub and wait for a pull: pushing alone leaves them.
  public var awaitsPull = false

  /// A report of nothing.
  public init() {}

  mutating func add(_ other: SyncReport) {
    pushedChanges += other.pushedChanges
    pushedBytes += other.pushedBytes
    pulledCommits += other.pulledCommits
    pulledChanges += other.pulledChanges
    pulledBytes += other.pulledBytes
    conflicts += other.conflicts
    reoffered += other.reoffered
    parked += other.parked
    pendingChanges = other.pendingChanges
    awaitsPull = other.awaitsPull
  }

  var hasProgress: Bool { pushedChanges > 0 || pulledCommits > 0 || reoffered > 0 || parked > 0 }
}
