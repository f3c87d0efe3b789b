// The replica's side of synchronising, as programs use it.
//
// Invariants
// - At most one session of a store is under way: the store says so, whichever replicator it belongs to.
// - Memory does not grow with the backlog: a session holds at most its window in each direction and a segment it reads.

public import KVStore
import KVTransport
import KVProtocol
public import ServiceLifecycle

/// Ships a store's log to a hub and brings back what other replicas wrote, exactly once, in bounded memory.
///
/// ```swift
/// let replicator = Replicator(store, hub: try HubAddress("kvsync://localhost:7447/notes"))
/// let report = try await replicator.syncOnce()
/// try await replicator.run()          // until cancelled, or as a service
/// ```
///
/// A `Replicator` may be used from any thread. A store is synchronised by one call at a time, of this replicator or
/// another: a second one throws `StoreError` with the code `inUse`. Comparing is not synchronising.
public final class Replicator: Sendable, Service {
  /// How a replicator works. The defaults suit most programs.
  public struct Configuration: Sendable {
    /// What becomes of conflicts. Replicas of one space should all use the same policy.
    public var policy = ConflictPolicy.lastWriterWins
    /// Presented to the hub; at most 4,096 bytes, else every call throws ``ReplicatorError/Code/notAuthorized``.
    public var token: [UInt8] = []
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
    /// Told how far a session is, several times a second; must not block.
    public var progress: @Sendable (SyncReport) -> Void = { _ in }
    /// Told when ``Replicator/run()`` has to try again: why, and after how long.
    public var retrying: @Sendable (ReplicatorError, Duration) -> Void = { _, _ in }
    /// Told once a session, when hub and store first have nothing left for each other: what the session did so far.
    public var caughtUp: @Sendable (SyncReport) -> Void = { _ in }

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

  private let store: Store
  private let hub: HubAddress
  private let configuration: Configuration

  /// A replicator of `store`, which must be open for writing unless it only compares, with one space of one hub. Connects
  /// to nobody yet.
  public init(_ store: Store, hub: HubAddress, configuration: Configuration = Configuration()) {
    self.store = store
    self.hub = hub
    self.configuration = configuration.withinLimits
  }

  /// One session: ends when everything written here before the call is decided by the hub, and everything that the hub
  /// had is here. Changes that the hub found stale stay pending when only pushing: resolving them needs a pull, and
  /// ``SyncReport/awaitsPull`` says so. What was written after them is pushed all the same.
  ///
  /// What was acknowledged or applied is durable, and stays whatever is thrown. A graceful shutdown
  /// ends the session early; once it is connected, without an error.
  ///
  /// Throws ``ReplicatorError`` with any code but `invalidAddress`; `StoreError`: `inUse` (the store is being
  /// synchronised), `closed`, `readOnly`, `full`, `poisoned`, `corrupt`, `system`, or `replication` (the hub's answer does
  /// not fit what the store knows); `CancellationError`. A commit that the hub refuses is no error: it is parked.
  public func syncOnce(_ direction: Direction = .both) async throws -> SyncReport {
    try await store.beginSession()
    defer { store.endSession() }
    let outcome = try await session(direction, isLive: false)
    if let error = outcome.error { throw error }
    return outcome.report
  }

  /// Synchronises until cancelled or shut down gracefully: live in both directions, connecting again with jittered
  /// backoff: a random wait below a ceiling that doubles from ``Configuration/shortestRetry`` to
  /// ``Configuration/longestRetry`` (full jitter, after M. Brooker, "Exponential Backoff and Jitter", 2015).
  ///
  /// Throws a ``ReplicatorError`` whose ``ReplicatorError/isTransient`` is false, or `StoreError` as ``syncOnce(_:)``
  /// does. Cancellation ends it without an error.
  public func run() async throws {
    try await run(.both)
  }

  /// As ``run()``, in one direction or both; throws the same.
  public func run(_ direction: Direction) async throws {
    try await store.beginSession()
    defer { store.endSession() }
    var backoff = Backoff(shortest: configuration.shortestRetry, longest: configuration.longestRetry)
    while !Task.isCancelled, !Task.isShuttingDownGracefully {
      let failure: ReplicatorError
      do {
        let began = ContinuousClock.now
        let outcome = try await session(direction, isLive: true)
        // A session that had nothing to do, and held, was no failed attempt either.
        let hasHeld = ContinuousClock.now - began >= configuration.longestRetry
        if outcome.report.hasProgress || hasHeld { backoff.progressed() }
        guard let error = outcome.error else { return }
        failure = error
      } catch let error as ReplicatorError {
        failure = error
      } catch is CancellationError {
        return
      }
      guard failure.isTransient else { throw failure }
      let wait = backoff.next(random: .random(in: 0..<1))
      configuration.retrying(failure, wait)
      try? await cancelWhenGracefulShutdown { try await Task.sleep(for: wait) }
    }
  }

  private func session(_ direction: Direction, isLive: Bool) async throws -> SessionRunner.Outcome {
    var session = ReplicaSession.Configuration(space: hub.space, mode: direction.mode, isLive: isLive)
    session.token = configuration.token
    session.segmentBytes = configuration.segmentBytes
    session.windowBytes = configuration.memoryBudgetBytes / 2
    try checkToken()
    let connection = try await cancelWhenGracefulShutdown { try await self.connect() }
    let runner = SessionRunner(
      store: store, policy: configuration.policy, configuration: session, connection: connection,
      progress: configuration.progress, caughtUp: configuration.caughtUp)
    return try await runner.run()
  }

  private func checkToken() throws {
    let limit = ProtocolLimits.maximumTokenBytes
    guard configuration.token.count <= limit else {
      throw ReplicatorError(
        .notAuthorized,
        "the token has \(configuration.token.count) bytes, and a token has \(limit) at most. Use a shorter one.")
    }
  }

  private func connect() async throws -> Connection {
    do throws(TransportError) {
      return try await Connection.connect(host: hub.host, port: hub.port, timeout: configuration.connectTimeout)
    } catch {
      if error == .cancelled { throw CancellationError() }
      throw ReplicatorError(error)
    }
  }

  /// Compares the store with the hub, row by row in key order, without sending values and in bounded memory. Changes
  /// neither side, works on a store that is open read-only, and makes no space.
  ///
  /// Reads the rows of both up to the first that differs. When either side is written meanwhile it begins again, five
  /// times in all. That store or hub was restored or copied is not thrown but told by ``Comparison/obstacle``.
  ///
  /// Throws ``ReplicatorError``: `unreachable`, `unavailable` (also: the data keeps changing), `unknownSpace`,
  /// `invalidSpace`, `notAuthorized`, `differentHub`, `hubCorrupt`, `unsupported`, `protocolViolation`; `StoreError`:
  /// `closed`, `corrupt`, `system`; `CancellationError`.
  public func compare() async throws -> Comparison {
    try checkToken()
    let connection = try await connect()
    defer { connection.close() }
    // A hub that falls silent is not waited for: the closed connection ends the comparison.
    let watch = Task {
      while connection.silence < ProtocolLimits.idleLimit { try await Task.sleep(for: ProtocolLimits.idleLimit / 6) }
      connection.close()
    }
    defer { watch.cancel() }
    let comparer = Comparer(store: store, space: hub.space, token: configuration.token, connection: connection)
    do {
      return try await comparer.run()
    } catch let error as ReplicatorError where connection.silence >= ProtocolLimits.idleLimit {
      throw ReplicatorError(error.code, ReplicaSession.silent(for: connection.silence))
    } catch {
      // A link that the cancellation broke is no failure of the link.
      try Task.checkCancellation()
      throw error
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
