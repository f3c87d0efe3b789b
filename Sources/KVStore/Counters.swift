// The store's counters and its full description, as programs and the tool see them.

public import KVLog

/// Where a store stands, exact and in O(1).
public struct Counters: Sendable, Equatable {
  /// The store's counter of commits: every commit, local or applied, gets the next.
  public var localVersion: Version
  /// The pull cursor: everything of the hub up to this version of its is here. 0: never pulled.
  public var serverVersion: Version
  /// The local version up to which the hub has decided every local commit.
  public var acknowledgedVersion: Version
  /// Local changes that the hub has not decided yet.
  public var pendingChanges: Int
  /// Their key and value bytes.
  public var pendingBytes: Int
  /// Conflicts found and recorded, ever.
  public var conflicts: Int
  /// Those of them that wait for the program's decision.
  public var unresolvedConflicts: Int
  /// Commits that the hub refused, and that wait to be offered again or dropped.
  public var parkedCommits: Int
  /// Their key and value bytes.
  public var parkedBytes: Int
  /// The store goes over to another space, and not all that it holds has been offered there yet: the next session with that
  /// space goes on.
  public var isAdopting: Bool

  init(_ state: StoreState) {
    localVersion = state.version
    serverVersion = state.cursor
    acknowledgedVersion = state.acknowledged
    pendingChanges = state.pendingChanges
    pendingBytes = state.pendingBytes
    conflicts = Int(state.conflicts)
    unresolvedConflicts = Int(state.unresolvedConflicts)
    parkedCommits = Int(state.parkedCommits)
    parkedBytes = Int(state.parkedBytes)
    isAdopting = state.isAdopting
  }
}

/// Everything that ``Store/information()`` tells.
public struct StoreInformation: Sendable, Equatable {
  /// The store's directory, as it was given.
  public var path: String
  /// Who the store is.
  public var identity: Identity
  /// The name under which it writes commits (``Store/incarnation``).
  public var incarnation: Identity
  /// The epoch of the hub's space that the store synchronises with; nil: never synchronised.
  public var hubEpoch: Identity?
  /// Where the store stands, at the same version as `keys`.
  public var counters: Counters
  /// Keys that have a value.
  public var keys: Int
  /// Bytes of the replication log on disk, pre-written space included.
  public var logBytes: Int
  /// Files of the log.
  public var logSegments: Int
  /// The oldest version that the log still holds.
  public var firstLogVersion: Version
  /// Bytes used in the index's file.
  public var indexBytes: Int
  /// Bytes preallocated for the tail; 0 in a store opened read-only.
  public var tailBytes: Int
  /// The oldest read that keeps disk space from being used again, in any process; nil: there is none.
  public var oldestReader: OldestReader?
}
