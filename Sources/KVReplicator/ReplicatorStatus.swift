// How a replicator stands, as programs see it.

public import KVLog

/// A snapshot of where a replicator and its store stand.
public struct ReplicatorStatus: Sendable, Hashable {
  /// What the replicator is doing.
  public enum State: Sendable, Hashable {
    /// Not connected: waiting to try again, or not running at all.
    case offline
    /// Looking the hub up, connecting, or shaking hands.
    case connecting
    /// Connected, with work left: which part of it is done, 0 to 1; steps a second over the last 5 s; steps left. A step is
    /// a local change that the hub decides, or a version of the hub that comes here.
    case catchingUp(progress: Double, rate: Double, remaining: Int)
    /// Connected; whatever is written on either side goes to the other at once.
    case live
    /// Paused by ``Replicator/pause()``.
    case paused
    /// The hub does not take the token. Nothing is lost; a new one is needed.
    case needsAuthorization
    /// Ended by an error that trying again does not help against: ``ReplicatorStatus/lastError``.
    case failed

    /// The state without its numbers, as a word.
    public var name: String {
      switch self {
      case .offline: "offline"
      case .connecting: "connecting"
      case .catchingUp: "catchingUp"
      case .live: "live"
      case .paused: "paused"
      case .needsAuthorization: "needsAuthorization"
      case .failed: "failed"
      }
    }
  }

  /// What the replicator is doing.
  public var state: State
  /// The store's version.
  public var localVersion: Version
  /// The local version up to which the hub has decided everything.
  public var acknowledgedVersion: Version
  /// The hub's version up to which everything is here.
  public var serverVersion: Version
  /// The hub's version as last heard of; nil: this replicator has not met it yet.
  public var hubVersion: Version?
  /// Local changes that the hub has not decided.
  public var pendingChanges: Int
  /// Their key and value bytes.
  public var pendingBytes: Int
  /// For how long the oldest of them has been pending, by the clock it was written by; nil: nothing is pending.
  public var oldestPendingAge: Duration?
  /// Versions of the hub that are not here, as far as is known; nil: this replicator has not met the hub yet.
  public var lagVersions: UInt64?
  /// For how long this store has not had all that the hub has: 0 while it is connected and has it; nil: it never had since
  /// the replicator was made.
  public var lag: Duration?
  /// When it will be tried again; nil: nothing is planned. Earlier when the network comes back.
  public var nextTry: Duration?
  /// Why the last attempt failed; nil once one has succeeded.
  public var lastError: ReplicatorError?
  /// Conflicts that wait for the program's decision.
  public var unresolvedConflicts: Int
  /// For how long the hub keeps what this store needs to go on; nil: they never had the same.
  public var hubRetention: HubRetention?
  /// What was mended, the last of each cause, oldest first: by this replicator, or by others of the store before it ran.
  public var repairs: [Repair]
}
