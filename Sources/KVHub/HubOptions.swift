// How a hub is to be run.

import KVLog
import KVProtocol

public import Logging

extension Hub {
  /// Where a hub listens and what it allows. The defaults suit a hub of some hundred replicas. A number beyond what is
  /// allowed is taken as the nearest that is; a duration is 1 ms to 1 day.
  public struct Options: Sendable {
    /// The address to listen on; "0.0.0.0" or "::" for all.
    public var host: String
    /// The port to listen on; 0 lets the system choose, and ``Hub/address`` tells.
    public var port: Int
    /// The hub's certificate; `nil`: connections are not encrypted, which is for the loopback interface.
    public var tls: TLS?
    /// Serves without TLS, or without tokens, on addresses that other machines can reach: where everybody on the
    /// network may read and change everything, or where a tunnel sees to that.
    public var allowsInsecure = false
    /// Connections beyond this many are refused as busy. 1 to 65,536.
    public var maximumConnections = 1_024
    /// Bytes of commits one connection may have in flight towards this hub, when it makes use of that: it begins with
    /// 256 KiB. A connection holds about twice as much at most, a commit larger than this aside. 4 KiB to 1 GiB.
    public var windowBytes = 4 << 20
    /// Bytes in flight over all connections, beyond the 256 KiB that each begins with. When they are used up nobody is
    /// refused: windows do not grow.
    public var inFlightBytes = HubLimits.inFlightBytes
    /// Bytes of unfinished messages and of commits larger than 256 KiB that wait for their turn, over all connections: room
    /// for four of the largest commits at once. Beyond that a push is refused as busy.
    public var stagedBytes = HubLimits.stagedBytes
    /// How long a replica may take to send one frame, or to take one: at most 1 MiB. A slower one is dropped.
    public var frameLimit = HubLimits.frameLimit
    /// How long a stranger may take to introduce itself.
    public var handshakeTimeout: Duration = .seconds(10)
    /// A silent link is probed after this long…
    public var heartbeatInterval: Duration = .seconds(10)
    /// …and given up after this long.
    public var idleLimit: Duration = .seconds(30)
    /// How long ``Hub/shutdown()`` waits for what is being stored.
    public var shutdownLimit: Duration = .seconds(10)
    /// Who may come in. Where other machines can reach the hub, everybody may not, unless ``allowsInsecure`` is set.
    public var access = Access.everybody
    /// How often the credentials of live sessions are asked about again: revoking one ends its sessions within twice this.
    public var accessInterval = HubLimits.accessInterval
    /// Credentials that are none and may come from one network address at once; beyond that it is refused for a while,
    /// whatever it shows. An IPv6 address stands for its /64 network. 1 to 65,536.
    public var failedTries = HubLimits.failedTries
    /// How long it takes until an address has one more such try.
    public var failedTryInterval = HubLimits.failedTryInterval
    /// What commits may have. What is beyond is refused: the replica parks the commit and goes on.
    public var limits = Limits()
    /// Looks at each commit before it is taken; a rejection refuses it. The default takes all.
    ///
    /// Runs before every decision about a commit, and once for each: not when a replica sends again what was decided. Called
    /// on threads made for it, for several replicas at the same time, for the commits of one replica one after the other
    /// and in order: one that takes long holds up its replica, and nobody else. When it throws nothing is decided, and the replica
    /// tries again later. What becomes of an accepted commit is not yet certain then: it may still be stale.
    public var validate: (@Sendable (_ commit: borrowing ValidatedCommit) throws -> Rejection?)?
    /// Told of failures of the storage, of connections that were dropped, and of start and end. Logs nothing by default.
    public var logger: Logger

    /// Options with these, and the defaults for everything else: the loopback interface only, a port that the system
    /// chooses, nothing logged.
    public init(
      host: String = "127.0.0.1", port: Int = 0,
      logger: Logger = Logger(label: "kvsync.hub") { _ in SwiftLogNoOpLogHandler() }
    ) {
      self.host = host
      self.port = port
      self.logger = logger
    }
  }
}

extension Hub {
  /// What a commit may have to be taken; by default as much as a replica can write. A number beyond what is allowed is
  /// taken as the nearest that is.
  public struct Limits: Sendable, Hashable {
    /// Bytes of a key, 1 to 511.
    public var keyBytes = LogLimits.maximumKeyBytes
    /// Bytes of a value, 0 to 16 MiB.
    public var valueBytes = LogLimits.maximumValueBytes
    /// Bytes of a commit: for each change 7, its key and its value, and 40 in all. 48 to 64 MiB.
    public var commitBytes = LogLimits.maximumCommitBytes

    /// As much as a replica can write.
    public init() {}
  }
}

extension Hub.Options {
  /// The same, with nothing beyond what its documentation allows.
  var withinLimits: Self {
    let times = Duration.milliseconds(1)...Duration.seconds(86_400)
    var options = self
    options.maximumConnections = maximumConnections.clamped(to: 1...65_536)
    options.windowBytes = windowBytes.clamped(to: 4 << 10...ProtocolLimits.maximumCredit)
    options.inFlightBytes = max(0, inFlightBytes)
    options.stagedBytes = max(0, stagedBytes)
    options.limits.keyBytes = limits.keyBytes.clamped(to: 1...LogLimits.maximumKeyBytes)
    options.limits.valueBytes = limits.valueBytes.clamped(to: 0...LogLimits.maximumValueBytes)
    options.limits.commitBytes = limits.commitBytes.clamped(to: 48...LogLimits.maximumCommitBytes)
    options.frameLimit = frameLimit.clamped(to: times)
    options.handshakeTimeout = handshakeTimeout.clamped(to: times)
    options.heartbeatInterval = heartbeatInterval.clamped(to: times)
    options.idleLimit = idleLimit.clamped(to: times)
    options.accessInterval = accessInterval.clamped(to: times)
    options.failedTries = failedTries.clamped(to: 1...65_536)
    options.failedTryInterval = failedTryInterval.clamped(to: times)
    options.shutdownLimit = shutdownLimit.clamped(to: times)
    return options
  }
}
