// How a replica resolves a conflict, and how it remembers one.

public import KVLog

/// What happens when a change arrives from the hub for a key that has a pending local change with other bytes.
///
/// Whatever the policy, the losing value goes into the conflict journal (``Store/conflicts(after:limit:)``).
public enum ConflictPolicy: Sendable {
  /// The change with the later hybrid time wins; the replica's identity breaks ties. The same on all replicas.
  case lastWriterWins
  /// What was written here stands.
  case localWins
  /// What comes from the hub stands.
  case remoteWins
  /// Both become one value; nil deletes the key. Runs while other writes wait: keep it short, and the same for the same
  /// input on every replica. A result of more than 16 MiB cannot be stored, nor one that makes those of one durable step
  /// exceed 80 MiB: then the remote change wins.
  case merge(@Sendable (MergeInput) -> [UInt8]?)
}

/// The two sides of a conflict; a nil value is a deletion.
public struct MergeInput: Sendable {
  /// The key that both changed.
  public var key: [UInt8]
  /// The value written here.
  public var local: [UInt8]?
  /// When it was written.
  public var localTime: HybridTime
  /// The value that came from the hub.
  public var remote: [UInt8]?
  /// When that was written, by the clock of the replica that wrote it.
  public var remoteTime: HybridTime
}

/// An entry of the conflict journal. Entries are durable with the commit that led to them, and are never removed.
public struct Conflict: Sendable, Equatable {
  /// Which side of a conflict stands.
  public enum Winner: String, Sendable {
    /// What was written here.
    case local
    /// What came from the hub.
    case remote
    /// What the policy made of both.
    case merged
  }

  /// The version under which this store recorded the remote commit, and the conflict's number in it.
  public struct ID: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// This store's version of the remote commit.
    public var version: Version
    /// Tells the conflicts of that commit apart.
    public var ordinal: UInt32

    /// The name of a conflict, for ``Store/conflicts(after:limit:)``.
    public init(version: Version, ordinal: UInt32) {
      self.version = version
      self.ordinal = ordinal
    }

    /// The order of the journal.
    public static func < (left: ID, right: ID) -> Bool {
      (left.version, left.ordinal) < (right.version, right.ordinal)
    }

    /// `VERSION.ORDINAL`.
    public var description: String { "\(version).\(ordinal)" }
  }

  /// Names the conflict in this store.
  public var id: ID
  /// The key that both changed.
  public var key: [UInt8]
  /// Which side stands.
  public var winner: Winner
  /// The value that lost (for a merge, the local one); nil: it was a deletion.
  public var losingValue: [UInt8]?
  /// This store's version of the local change.
  public var localVersion: Version
  /// When that was written.
  public var localTime: HybridTime
  /// The hub's version of the remote change.
  public var serverVersion: Version
  /// When that was written, by the clock of the replica that wrote it.
  public var remoteTime: HybridTime
  /// The replica that wrote the remote change.
  public var remoteOrigin: Identity

  init(_ record: ConflictRecord) {
    id = ID(version: record.commitVersion, ordinal: record.ordinal)
    key = record.key
    let loserIsDeletion: Bool
    switch record.outcome {
    case .remoteWon, .identical: (winner, loserIsDeletion) = (.remote, record.localIsDeletion)
    case .localWon: (winner, loserIsDeletion) = (.local, record.remoteIsDeletion)
    case .merged: (winner, loserIsDeletion) = (.merged, record.localIsDeletion)
    }
    losingValue = loserIsDeletion ? nil : record.losingValue
    localVersion = record.localVersion
    localTime = record.localTime
    serverVersion = record.serverVersion
    remoteTime = record.remoteTime
    remoteOrigin = record.remoteOrigin
  }
}
