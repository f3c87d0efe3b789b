// What synchronising has done, and what it has left.

/// The sum of what one or more sessions did.
public struct SyncReport: Sendable, Hashable {
  /// Local changes that the hub has decided; each counts once, however often the link broke.
  public var pushedChanges = 0
  /// Their key and value bytes.
  public var pushedBytes = 0
  /// Those of the changes that were not sent: of commits that ``ShippedHistory/latest`` passes over, and changes that had
  /// lost a conflict.
  public var supersededChanges = 0
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
  /// Rows that were offered to another space because it was adopted (``Replicator/Configuration/adoptsForeignHub``).
  public var adoptedRows = 0
  /// Local changes that the hub has not decided when the report was made.
  public var pendingChanges = 0
  /// Their key and value bytes.
  public var pendingBytes = 0
  /// Versions of the hub that the cursor has not passed, as far as is known. Those of what was just pushed from here count
  /// until the hub's feed, which leaves them out, has gone past them: an upper bound of what others have written. 0 when
  /// only pushing.
  public var remainingServerVersions: UInt64 = 0
  /// Whether the session ended before everything was done, at its budget or because it was paused.
  public var isCutShort = false
  /// Whether some of these met newer changes of others on the hub and wait for a pull: pushing alone leaves them.
  public var awaitsPull = false

  /// A report of nothing.
  public init() {}

  mutating func add(_ other: SyncReport) {
    pushedChanges += other.pushedChanges
    pushedBytes += other.pushedBytes
    supersededChanges += other.supersededChanges
    pulledCommits += other.pulledCommits
    pulledChanges += other.pulledChanges
    pulledBytes += other.pulledBytes
    conflicts += other.conflicts
    reoffered += other.reoffered
    parked += other.parked
    adoptedRows += other.adoptedRows
    pendingChanges = other.pendingChanges
    pendingBytes = other.pendingBytes
    remainingServerVersions = other.remainingServerVersions
    isCutShort = other.isCutShort
    awaitsPull = other.awaitsPull
  }

  func adding(_ later: SyncReport) -> SyncReport {
    var sum = self
    sum.add(later)
    return sum
  }

  var hasProgress: Bool { adoptedRows > 0 || pushedChanges > 0 || pulledCommits > 0 || reoffered > 0 || parked > 0 }
}
