// How a replicator works, and what a session does.

public import KVStore
import KVProtocol

extension Replicator {
  /// How a replicator works. The defaults suit most programs.
  public struct Configuration: Sendable {
    /// What becomes of conflicts. Replicas of one space should all use the same policy.
    public var policy = ConflictPolicy.lastWriterWins
    /// Whether commits that were overwritten here before they could be shipped are shipped all the same.
    public var history = ShippedHistory.latest
    /// Gives what is presented to the hub; at most 4,096 bytes, none by default. Asked before each connection, so that it
    /// may give a new token when the former one has expired or was revoked: ``Replicator/run()`` goes on with it. What it
    /// throws, and a token that is too long, is ``ReplicatorError/Code/notAuthorized``.
    public var token: @Sendable () async throws -> [UInt8] = { [] }
    /// Whom to trust to be the hub, for addresses with TLS.
    public var tls = TLS()
    /// Connects without TLS to other machines as well: where everybody between here and there may read and change
    /// everything, or where a tunnel sees to that.
    public var allowsInsecure = false
    /// Goes over to a hub or a space that is not the one this store is bound to, once and for good: everything that the
    /// store holds is offered there, and what is there is merged with it (<doc:Synchronising>). A replicator does that once:
    /// should yet another space come up at the address, that is ``ReplicatorError/Code/differentHub``, as it is without this.
    public var adoptsForeignHub = false
    /// Bytes that this replica holds of one session: half of it is the window of what the hub may send unasked. 4 KiB
    /// to 1 GiB; what is beyond is taken as the nearest of these.
    public var memoryBudgetBytes = ProtocolLimits.memoryBudgetBytes
    /// Bytes of commits that travel as one message, unless a single commit is larger. 1 byte (each commit alone) to
    /// 1 MiB; what is beyond is taken as the nearest of these.
    public var segmentBytes = ProtocolLimits.segmentBytes
    /// How long connecting may take, the look-up of the name included. This and the waits are 1 ms to 1 day; what is
    /// beyond is taken as the nearest of these.
    public var connectTimeout = ProtocolLimits.connectTimeout
    /// The ceiling of the first wait before ``Replicator/run()`` tries again…
    public var shortestRetry = Duration.milliseconds(500)
    /// …and of all waits.
    public var longestRetry = Duration.seconds(60)
    /// Tells when the network may be back: then it is tried at once, once a second at most, beside the waits.
    public var networkMonitor: any NetworkMonitor = SystemNetworkMonitor()
    /// Told how far a session is, several times a second. This one, ``caughtUp`` and ``repaired`` are called one after the
    /// other, on a thread that serves tasks: a session does not wait for them, but for the last to return at its end.
    public var progress: @Sendable (SyncReport) -> Void = { _ in }
    /// Told when ``Replicator/run()`` has to try again: why, and after how long.
    public var retrying: @Sendable (ReplicatorError, Duration) -> Void = { _, _ in }
    /// Told once a session, when hub and store first have nothing left for each other: what the session did so far.
    public var caughtUp: @Sendable (SyncReport) -> Void = { _ in }
    /// Told what was mended by itself: the hub or the store was restored or copied.
    public var repaired: @Sendable (Repair) -> Void = { _ in }

    /// Told in advance when the replica is about to be away for longer than the hub keeps its history, with or without a
    /// hub to ask: what ``ReplicatorEvent/lapseWarning(within:)`` says. Must not block.
    public var lapseWarning: @Sendable (_ within: Duration?) -> Void = { _ in }

    /// Milliseconds since 1970.
    var clock: @Sendable () -> UInt64 = { Store.clockMilliseconds }
    /// Shorter in tests.
    var heartbeatInterval = ProtocolLimits.heartbeatInterval
    var idleLimit = ProtocolLimits.idleLimit
    var stallLimit = ProtocolLimits.stallLimit

    /// The defaults.
    public init() {}
  }

  /// What a session does.
  public enum Direction: Sendable {
    /// Pushes and pulls.
    case both
    /// Sends local changes only. Stale ones are recorded again and stay pending until a pull.
    case push
    /// Applies what others wrote only. Resolutions of conflicts stay pending until a push.
    case pull

    var mode: SessionMode {
      switch self {
      case .both: [.push, .pull]
      case .push: [.push]
      case .pull: [.pull]
      }
    }
  }
}

extension Replicator.Configuration {
  /// The same, with nothing beyond what its documentation allows.
  var withinLimits: Self {
    let waits = Duration.milliseconds(1)...Duration.seconds(86_400)
    var configuration = self
    configuration.memoryBudgetBytes = memoryBudgetBytes.clamped(to: 4 << 10...ProtocolLimits.maximumCredit)
    configuration.segmentBytes = segmentBytes.clamped(to: 1...ProtocolLimits.maximumSegmentBytes)
    configuration.connectTimeout = connectTimeout.clamped(to: waits)
    configuration.shortestRetry = shortestRetry.clamped(to: waits)
    configuration.longestRetry = longestRetry.clamped(to: waits)
    return configuration
  }
}
