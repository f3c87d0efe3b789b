// An entry of the conflict journal, as programs and the tool see it.

public import KVLog

/// An entry of the conflict journal. It is durable with the commit that led to it, and stays for as long as
/// ``Store/Options/conflictRetention`` says; what waits for the program's decision stays until that was made.
public struct Conflict: Sendable, Equatable, Identifiable {
  /// Which side of a conflict stands.
  public enum Winner: String, Sendable {
    /// What was written here.
    case local
    /// What came from the hub.
    case remote
    /// What the policy, or the program, made of both.
    case merged
    /// Not decided yet. What came from the hub stands meanwhile.
    case undecided
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

    /// Reads what ``description`` wrote; nil for anything else.
    public init?(_ description: String) {
      let parts = description.split(separator: ".", omittingEmptySubsequences: false)
      guard parts.count == 2, let version = Version(parts[0]), let ordinal = UInt32(parts[1]) else { return nil }
      self.init(version: version, ordinal: ordinal)
    }

    /// The order of the journal.
    public static func < (left: ID, right: ID) -> Bool {
      (left.version, left.ordinal) < (right.version, right.ordinal)
    }

    /// `VERSION.ORDINAL`.
    public var description: String { "\(version).\(ordinal)" }
  }

  /// Both values of a conflict that was left to the program; nil: it was a deletion.
  public struct Sides: Sendable, Equatable {
    /// What was written here.
    public var local: [UInt8]?
    /// What came from the hub.
    public var remote: [UInt8]?
  }

  /// What the program decides.
  public enum Decision: Sendable, Hashable {
    /// What was written here is written again.
    case local
    /// Nothing is written: the row stays as it is by now.
    case remote
    /// This is written.
    case value([UInt8])
    /// The key is deleted.
    case delete
  }

  /// Names the conflict in this store.
  public var id: ID
  /// The key that both changed.
  public var key: [UInt8]
  /// Which side stands.
  public var winner: Winner
  /// The value that lost (of a merge, and of what is undecided, the local one); nil: it was a deletion.
  public var losingValue: [UInt8]?
  /// Both values, of a conflict that was left to the program; nil of others, of which the losing value is kept.
  public var sides: Sides?
  /// When the conflict was found.
  public var foundTime: HybridTime
  /// The commit of this store that carries the program's decision, or the reverted value; nil: there is none.
  public var decidedVersion: Version?
  /// Whether the losing value was written again by ``Store/revertConflict(_:)``.
  public var isReverted: Bool
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
    let lost = record.lost
    (winner, losingValue) = (record.winner, lost.isDeletion ? nil : lost.value)
    if record.outcome == .unresolved {
      sides = Sides(
        local: record.localIsDeletion ? nil : record.losingValue,
        remote: record.remoteIsDeletion ? nil : record.remoteValue)
    }
    foundTime = record.foundTime
    decidedVersion = record.decidedVersion == 0 ? nil : record.decidedVersion
    isReverted = record.isReverted
    localVersion = record.localVersion
    localTime = record.localTime
    serverVersion = record.serverVersion
    remoteTime = record.remoteTime
    remoteOrigin = record.remoteOrigin
  }
}

extension ConflictRecord {
  var winner: Conflict.Winner {
    switch outcome {
    case .remoteWon, .identical: .remote
    case .localWon: .local
    case .merged: .merged
    case .unresolved:
      switch decision {
      case .none: .undecided
      case .local: .local
      case .remote: .remote
      case .value, .deletion: .merged
      }
    }
  }

  /// The side that does not stand; of two, the local one.
  var lost: (value: [UInt8], isDeletion: Bool) {
    if outcome == .unresolved, decision == .local { return (remoteValue, remoteIsDeletion) }
    return (losingValue, outcome == .localWon ? remoteIsDeletion : localIsDeletion)
  }
}

/// How long the conflict journal keeps its entries. What goes beyond one of these goes, the oldest first, when the store
/// next applies something from the hub. What waits for the program's decision neither goes nor counts.
public struct ConflictRetention: Sendable, Hashable {
  /// Entries.
  public var count: Int
  /// Their bytes: keys, values and 96 bytes for each.
  public var bytes: Int
  /// Since they were found.
  public var age: Duration

  /// With these limits, and for nil the defaults: 10 million entries, 1 GiB, 366 days.
  public init(count: Int? = nil, bytes: Int? = nil, age: Duration? = nil) {
    self.count = count ?? StoreLimits.journalCount
    self.bytes = bytes ?? StoreLimits.journalBytes
    self.age = age ?? StoreLimits.journalAge
  }

  /// Keeps everything.
  public static let all = ConflictRetention(count: .max, bytes: .max, age: .seconds(Int64.max))
}
