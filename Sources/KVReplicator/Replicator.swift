// The replica's side of synchronising, as programs use it.
//
// Invariants
// - At most one session of a store is under way: the store says so, whichever replicator it belongs to.
// - Memory does not grow with the backlog: a session holds at most its window in each direction and a segment it reads.

import KVLog
public import KVStore
import KVTransport
import KVProtocol
public import ServiceLifecycle
import Synchronization

/// Ships a store's log to a hub and brings back what other replicas wrote, exactly once, in bounded memory.
///
/// ```swift
/// let replicator = Replicator(store, hub: try HubAddress("kvsync://localhost:7447/notes"))
/// let report = try await replicator.syncOnce()
/// try await replicator.run()          // until cancelled, or as a service
/// for await event in replicator.events { … }
/// ```
///
/// A `Replicator` may be used from any thread. A store is synchronised by one call at a time, of this replicator or
/// another: a second one throws `StoreError` with the code `inUse`. Comparing is not synchronising.
public final class Replicator: Sendable, Service {
  let store: Store
  let hub: HubAddress
  let configuration: Configuration
  private let board: StatusBoard
  private let follower: LocalFollower
  private let control = RunControl()
  private let catchUps = CatchUps()
  /// It has gone over to another space once, and what comes up at the address next is foreign again.
  private let hasAdopted = Atomic(false)

  /// A replicator of `store`, which must be open for writing unless it only compares, with one space of one hub. Connects
  /// to nobody yet.
  public init(_ store: Store, hub: HubAddress, configuration: Configuration = Configuration()) {
    self.store = store
    self.hub = hub
    self.configuration = configuration.withinLimits
    board = StatusBoard(store)
    follower = LocalFollower(store, board.listeners)
  }

  deinit {
    follower.stop()
    board.listeners.end()
  }

  // MARK: Looking on

  /// What happens, from now on: ``Events``.
  public var events: Events {
    let subscription = board.listeners.subscribe(toEvents: true)
    follower.start()
    return Events(subscription: subscription)
  }

  /// How the replicator and its store stand now. Takes some microseconds; when the hub has decided something since the
  /// last time and more is pending, the log is read up to the oldest pending commit.
  public var status: ReplicatorStatus { board.status }

  /// How they stand, now and each time that it changes: ``Statuses``.
  public var statuses: Statuses {
    let subscription = board.listeners.subscribe(toEvents: false)
    follower.start()
    return Statuses(subscription: subscription, board: board)
  }

  /// Those who listen now.
  var listenerCount: Int { board.listeners.count }

  /// Suspends until everything that was written to the store before the call is on the hub, and everything that the hub had
  /// at some moment after the call is here. Brings nothing about: ``run()`` or ``syncOnce(_:budget:)`` does, of this
  /// replicator, in both directions; until then it waits.
  ///
  /// However many callers wait, it costs a message for each round trip. Throws what ends ``run()`` for good, `StoreError`
  /// (`closed`, `poisoned`, `readOnly`), or `CancellationError`.
  public func caughtUp() async throws {
    try await store.decided(through: store.localWork.version)
    try await catchUps.wait()
  }

  // MARK: Pausing

  /// Stops synchronising until ``resume()``: nothing is sent and nothing asked for any more, whatever happens to the
  /// network. What is in flight is decided by the hub and recorded here. ``run()`` goes on running and waits; a pass that is
  /// under way ends, ``SyncReport/isCutShort``. Writing to the store goes on. Not kept beyond this object's life.
  public func pause() {
    if control.setPaused(true) { board.paused(true) }
  }

  /// Ends ``pause()``: ``run()`` connects at once.
  public func resume() {
    if control.setPaused(false) { board.paused(false) }
  }

  // MARK: Synchronising

  /// One session: ends when everything written here before the call is decided by the hub, and everything that the hub
  /// had is here; or at the end of the budget. Changes that the hub found stale stay pending when only pushing: resolving
  /// them needs a pull, and ``SyncReport/awaitsPull`` says so. What was written after them is pushed all the same.
  ///
  /// What was acknowledged or applied is durable, and stays whatever is thrown. A graceful shutdown
  /// ends the session early; once it is connected, without an error.
  ///
  /// Throws ``ReplicatorError`` with any code but `invalidAddress` and `storeFailed`; `StoreError`: `inUse` (the store is
  /// being synchronised), `closed`, `readOnly`, `full`, `poisoned`, `corrupt`, `system`, or `replication` (the hub's answer
  /// does not fit what the store knows); `CancellationError`. A commit that the hub refuses is no error: it is parked.
  public func syncOnce(_ direction: Direction = .both, budget: Budget = Budget()) async throws -> SyncReport {
    let deadline = budget.duration.map { ContinuousClock.now + $0 }
    try checkNotPaused()
    try await store.beginSession()
    defer { store.endSession() }
    do {
      let outcome = try await leavingNotes {
        let outcome = try await session(direction, isLive: false, bytes: budget.bytes, deadline: deadline)
        if let error = outcome.error { throw error }
        return outcome
      }
      return outcome.report
    } catch {
      // Paused while it was connecting: nobody has cancelled the caller's task.
      if error is CancellationError, !Task.isCancelled { try checkNotPaused() }
      throw error
    }
  }

  /// ``syncOnce(_:budget:)`` that only sends.
  public func push(budget: Budget = Budget()) async throws -> SyncReport { try await syncOnce(.push, budget: budget) }

  /// ``syncOnce(_:budget:)`` that only receives.
  public func pull(budget: Budget = Budget()) async throws -> SyncReport { try await syncOnce(.pull, budget: budget) }

  /// Synchronises until cancelled or shut down gracefully: live in both directions, connecting again with jittered
  /// backoff: a random wait below a ceiling that doubles from ``Configuration/shortestRetry`` to
  /// ``Configuration/longestRetry`` (full jitter, after M. Brooker, "Exponential Backoff and Jitter", 2015); and at once
  /// when ``Configuration/networkMonitor`` says that the network may be back.
  ///
  /// A token that is not accepted (any more) is no end either: it waits, and asks ``Configuration/token`` again.
  ///
  /// Throws any other ``ReplicatorError`` whose ``ReplicatorError/isTransient`` is false, or `StoreError` as
  /// ``syncOnce(_:budget:)`` does. Cancellation ends it without an error.
  public func run() async throws {
    try await run(.both)
  }

  /// As ``run()``, in one direction or both; throws the same.
  public func run(_ direction: Direction) async throws {
    try await store.beginSession()
    defer { store.endSession() }
    let network = Task { [configuration, control] in
      for await _ in configuration.networkMonitor.returns() { control.networkIsBack() }
    }
    defer { network.cancel() }
    do {
      try await leavingNotes { try await keepSynchronising(direction) }
    } catch {
      catchUps.fail(error)
      throw error
    }
  }

  /// Runs `work`, says on the board how it ended, and leaves what the board says for other processes, from time to time
  /// and at the end.
  private func leavingNotes<Result: Sendable>(_ work: () async throws -> Result) async throws -> Result {
    board.recall(StatusNote.left(in: store)?.repairs ?? [])
    let keeper = NoteKeeper(store: store, hub: hub, board: board)
    let keeping = Task { await keeper.run() }
    let watcher = LapseWatcher(
      store: store, clock: configuration.clock, isLevel: { [board] in board.isLevel }
    ) { [board, configuration] notice in
      _ = board.tell(notice)
      if case .lapseWarning(let within) = notice { configuration.lapseWarning(within) }
    }
    let watching = Task { await watcher.run() }
    func end(_ error: ReplicatorError?) async {
      board.ended(error)
      watching.cancel()
      await watching.value
      keeping.cancel()
      await keeping.value
      await keeper.leave()
    }
    do {
      let result = try await work()
      await end(nil)
      return result
    } catch {
      await end(Self.told(error))
      throw error
    }
  }

  private func keepSynchronising(_ direction: Direction) async throws {
    var backoff = Backoff(shortest: configuration.shortestRetry, longest: configuration.longestRetry)
    /// When the next try is due. One that a hint leads to comes in addition, and leaves it as it is.
    var due = ContinuousClock.now
    while !Task.isCancelled, !Task.isShuttingDownGracefully {
      if control.isPaused {
        await cancelWhenGracefulShutdown { [control] in await control.untilResumed() }
        continue
      }
      let signs = control.signs
      let failure: ReplicatorError
      do {
        let began = ContinuousClock.now
        let outcome = try await session(direction, isLive: true)
        // A session that had nothing to do, and held, was no failed attempt either.
        let hasHeld = ContinuousClock.now - began >= configuration.longestRetry
        if outcome.report.hasProgress || hasHeld {
          backoff.progressed()
          due = .now
        }
        // It ended as intended: paused, or shut down.
        guard let error = outcome.error else { continue }
        failure = error
      } catch let error as ReplicatorError {
        failure = error
      } catch is CancellationError {
        continue
      }
      // Another token may be had by then; nothing was consumed with the former one.
      guard failure.isTransient || failure.code == .notAuthorized else { throw failure }
      let now = ContinuousClock.now
      if due <= now { due = now + backoff.next(random: .random(in: 0..<1)) }
      board.retrying(failure, after: due - now)
      configuration.retrying(failure, due - now)
      let isHint = await cancelWhenGracefulShutdown { [control, due] in
        await control.wait(until: due, seen: signs)
      }
      if !isHint { due = .now }
    }
  }

  /// One session, and those that it leads to: a store that was copied, or adopts a space, goes on under another name.
  private func session(
    _ direction: Direction, isLive: Bool, bytes: Int? = nil, deadline: ContinuousClock.Instant? = nil
  ) async throws -> SessionRunner.Outcome {
    var report = SyncReport()
    var vainBeginnings = 0
    while vainBeginnings < Self.maximumBeginnings {
      let bytes = bytes.map { max(0, $0 - report.pushedBytes - report.pulledBytes) }
      var outcome = try await oneSession(direction, isLive: isLive, bytes: bytes, deadline: deadline, after: report)
      vainBeginnings = outcome.report.hasProgress ? 0 : vainBeginnings + 1
      report.add(outcome.report)
      outcome.report = report
      guard outcome.isToBeginAgain else { return outcome }
    }
    throw ReplicatorError(
      .replicaRestored,
      "the hub takes this store for a copy again and again; are several copies of its directory in use?")
  }

  private static let maximumBeginnings = 5

  private func oneSession(
    _ direction: Direction, isLive: Bool, bytes: Int?, deadline: ContinuousClock.Instant?, after earlier: SyncReport
  ) async throws -> SessionRunner.Outcome {
    var session = ReplicaSession.Configuration(space: hub.space, mode: direction.mode, isLive: isLive)
    session.adopts = configuration.adoptsForeignHub && !hasAdopted.load(ordering: .relaxed)
    let former = store.replicaState().hubSpace
    defer {
      if former != .zero, former != store.replicaState().hubSpace { hasAdopted.store(true, ordering: .relaxed) }
    }
    session.segmentBytes = configuration.segmentBytes
    session.windowBytes = configuration.memoryBudgetBytes / 2
    session.budgetBytes = bytes
    session.heartbeatInterval = configuration.heartbeatInterval
    session.idleLimit = configuration.idleLimit
    session.stallLimit = configuration.stallLimit
    board.connecting()
    let (connection, token) = try await cancelWhenGracefulShutdown {
      let token = try await self.token()
      return (try await self.connectUnlessPaused(), token)
    }
    session.token = token
    let runner = SessionRunner(
      store: store, history: configuration.history, policy: configuration.policy, configuration: session,
      connection: connection,
      surroundings: SessionRunner.Surroundings(
        board: board, control: control, catchUps: catchUps, deadline: deadline,
        progress: { [configuration] in configuration.progress(earlier.adding($0)) },
        caughtUp: { [configuration] in configuration.caughtUp(earlier.adding($0)) },
        repaired: configuration.repaired, clock: configuration.clock))
    return try await runner.run()
  }

  /// What a status says of an error; nil when nothing went wrong.
  private static func told(_ error: any Error) -> ReplicatorError? {
    switch error {
    case let error as ReplicatorError: error
    case is CancellationError: nil
    default: ReplicatorError(.storeFailed, "\(error)")
    }
  }

  private func checkNotPaused() throws(ReplicatorError) {
    guard control.isPaused else { return }
    throw ReplicatorError(.paused, "the replicator is paused. Resume it first.")
  }

  func token() async throws -> [UInt8] {
    let token: [UInt8]
    do {
      token = try await configuration.token()
    } catch is CancellationError {
      throw CancellationError()
    } catch {
      throw ReplicatorError(.notAuthorized, "there is no token for the hub: \(error). Provide one.")
    }
    let limit = ProtocolLimits.maximumTokenBytes
    guard token.count <= limit else {
      throw ReplicatorError(
        .notAuthorized, "the token has \(token.count) bytes, and a token has \(limit) at most. Use a shorter one.")
    }
    return token
  }

  func connect() async throws -> Connection {
    do throws(TransportError) {
      return try await Connection.connect(
        host: hub.host, port: hub.port, tls: hub.usesTLS ? configuration.tls.files : nil,
        allowsPlaintext: configuration.allowsInsecure, timeout: configuration.connectTimeout)
    } catch {
      if error == .cancelled { throw CancellationError() }
      throw ReplicatorError(error)
    }
  }

  /// As `connect`; throws `CancellationError` as soon as the replicator is paused.
  private func connectUnlessPaused() async throws -> Connection {
    try await withThrowingTaskGroup(of: Connection.self) { group in
      group.addTask { try await self.connect() }
      group.addTask { [control] in
        await control.untilPaused()
        throw CancellationError()
      }
      defer { group.cancelAll() }
      guard let connection = try await group.next() else { throw CancellationError() }
      return connection
    }
  }
}
