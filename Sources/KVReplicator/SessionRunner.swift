// Drives one `ReplicaSession` over one connection: feeds it events, carries out its actions.
//
// Invariants
// - The session is only touched under its lock; its actions are dispatched under the same lock, so that messages leave
//   in the order in which the session decided on them.
// - A message is taken from the connection when the one before has been handled: a hub that sends faster than it is
//   listened to is stopped by the socket.
// - Its tasks run on the connection's event loop, so that a change which goes live changes threads as rarely as it can. The
//   store's disk is never waited for there; a little that is in memory is read there. The program's closures run elsewhere.
// - Messages that wait for the socket are bounded in number; pushes among them, by the session, in bytes.
// - Time is kept for the session: ticks for its heartbeat and its watch, and the end of its budget.
// - When `run` returns, the connection is closed and nothing of the session is under way any more.

import KVLog
import KVProtocol
import KVStore
import KVTransport
import NIOPosix
import ServiceLifecycle
import Synchronization

final class SessionRunner: Sendable {
  struct Outcome: Sendable {
    var report: SyncReport
    /// nil: it ended as intended.
    var error: ReplicatorError?
    /// Another session is to follow at once.
    var isToBeginAgain = false
  }

  private struct State {
    var session: ReplicaSession
    var ending: Result<ReplicatorError?, any Error>?
    var isToBeginAgain = false
    /// What follows at once, when the lock is free: on the event loop, where alone it comes about.
    var due: [Due] = []
    /// What the status board was told last, and when.
    var noted = StatusBoard.Session()
    var lastNote: ContinuousClock.Instant?
    /// When hub and store were last found to have the same, in this session.
    var levelTime: UInt64?
    /// The cursor when the session began.
    let firstCursor: Version

    /// What has been done so far, and what is left as the session knows.
    var report: SyncReport {
      var report = session.report
      report.pendingChanges = session.state.pendingChanges
      report.pendingBytes = session.state.pendingBytes
      report.remainingServerVersions = session.remainingServerVersions
      report.isCutShort = session.isCutShort
      report.awaitsPull = session.awaitsPull
      return report
    }
  }

  private enum Due {
    case event(ReplicaSession.Event)
    case readPush(after: Version, maximumBytes: Int)
  }

  /// How often it is noted how far the session is.
  static let progressInterval = Duration.milliseconds(100)
  /// How soon other scopes are noticed.
  private static let scopesInterval = Duration.milliseconds(500)
  /// How long the last words may take.
  private static let farewell = Duration.seconds(1)

  private let store: Store
  private let pushes: PushReader
  private let policy: ConflictPolicy
  private let configuration: ReplicaSession.Configuration
  private let connection: Connection
  private let surroundings: Surroundings
  private let began = ContinuousClock.now
  private let state: Mutex<State>
  private let outbox: Outbox
  /// Ends when everything that the hub said has been handled.
  private let (hearing, hearingEnd) = AsyncStream<Void>.makeStream()
  private let news: SessionNews
  private let actions: ConnectionTasks

  /// What a session has around it. `progress`, `caughtUp` and `repaired` are called one after the other, on no event loop; only
  /// the session's end waits for them.
  struct Surroundings: Sendable {
    var board: StatusBoard
    var control: RunControl
    var catchUps: CatchUps
    /// When the session's budget is over.
    var deadline: ContinuousClock.Instant?
    /// Told how far the session is.
    var progress: @Sendable (SyncReport) -> Void
    /// Told when it first has nothing left.
    var caughtUp: @Sendable (SyncReport) -> Void
    /// Told what it mends.
    var repaired: @Sendable (Repair) -> Void
    /// Milliseconds since 1970.
    var clock: @Sendable () -> UInt64 = { Store.clockMilliseconds }
  }

  init(
    store: Store, history: ShippedHistory = .latest, policy: ConflictPolicy,
    configuration: ReplicaSession.Configuration, connection: Connection, surroundings: Surroundings
  ) {
    self.store = store
    pushes = PushReader(store, history: history)
    self.policy = policy
    self.configuration = configuration
    self.connection = connection
    actions = ConnectionTasks(of: connection)
    outbox = Outbox(of: connection)
    news = SessionNews(surroundings)
    self.surroundings = surroundings
    let local = store.replicaState()
    state = Mutex(
      State(session: ReplicaSession(configuration, state: local), firstCursor: local.cursor?.version ?? 0))
  }

  /// Runs until the session ends; a graceful shutdown ends it with a goodbye. Throws what the store throws, and
  /// `CancellationError` when the task was cancelled before the end.
  func run() async throws -> Outcome {
    let contacts = ContactKeeper(store: store) { [weak self] in self?.contact }
    await withTaskCancellationHandler {
      await withGracefulShutdownHandler {
        await withDiscardingTaskGroup { group in
          group.addTask { await self.news.run { self.report } }
          group.addTask {
            await withTaskExecutorPreference(self.connection.executor) { await self.converse(contacts) }
            self.news.finish()
          }
        }
      } onGracefulShutdown: {
        self.react(to: .stop)
      }
    } onCancel: {
      self.actions.cancel()
    }
    surroundings.catchUps.serve(nil)
    connection.close()
    await contacts.note()
    let left = store.replicaState()
    let (ending, report, isToBeginAgain) = state.withLock { state in
      state.session.state = left
      return (state.ending, state.report, state.isToBeginAgain)
    }
    news.tell(last: report)
    guard let ending else { throw CancellationError() }
    let error = try ending.get()
    // A link that was closed by the cancellation is no failure of the link.
    if error != nil { try Task.checkCancellation() }
    return Outcome(report: report, error: error, isToBeginAgain: isToBeginAgain)
  }

  /// On the connection's event loop.
  private func converse(_ contacts: ContactKeeper) async {
    await withDiscardingTaskGroup { group in
      group.addTask { await self.receive() }
      group.addTask { await self.keepTime() }
      group.addTask { await self.watchForPause() }
      group.addTask { await self.watchScopes() }
      group.addTask { await contacts.run() }
      if let deadline = surroundings.deadline { group.addTask { await self.watchForEnd(at: deadline) } }
      handle(.connected)
      surroundings.catchUps.serve { [weak self] number in self?.handle(.fence(number)) }
      await transmit()
      group.cancelAll()
    }
    await actions.end()
  }

  /// What the hub promises, and since when that counts; nil: it has not said anything yet.
  private var contact: (HubContact, epoch: Identity)? {
    state.withLock { state in
      guard let promise = state.session.promise, state.session.state.cursor?.identity == state.session.epoch else {
        return nil
      }
      let contact = HubContact(
        levelTime: state.levelTime ?? state.session.state.contact.levelTime,
        retentionSeconds: promise.retentionSeconds, backedUp: promise.backedUp)
      return (contact, state.session.epoch)
    }
  }

  private func handle(_ event: ReplicaSession.Event) {
    react(to: event)
    guard connection.executor.isCurrent else { return }
    while let due = state.withLock({ $0.due.isEmpty ? nil : $0.due.removeFirst() }) {
      switch due {
      case .event(let event): react(to: event)
      case .readPush(let after, let maximumBytes):
        do {
          if let (push, state) = try pushes.nextAtHand(after: after) {
            react(to: .pushRead(push, state: state))
          } else {
            start(.readPush(after: after, maximumBytes: maximumBytes))
          }
        } catch {
          react(to: .failed(SessionFailure(error)))
        }
      }
    }
  }

  private func react(to event: ReplicaSession.Event) {
    state.withLock { state in
      let before = state.session.marks
      for action in state.session.handle(event) { dispatch(action, &state) }
      announce(since: before, state.session)
      note(&state)
      let now = ContinuousClock.now
      if state.session.hasAll {
        // What the hub wrote since it was last heard may be on its way.
        let silence = UInt64(clamping: connection.silence.milliseconds)
        let clock = surroundings.clock()
        state.levelTime = clock - min(silence, clock)
      }
      news.went(isCaughtUp: state.session.isCaughtUp, at: now)
    }
  }

  /// How far the session is.
  private var report: SyncReport { state.withLock { $0.report } }

  /// Tells whoever listens what has changed for the better.
  private func announce(since before: ReplicaSession.Marks, _ session: ReplicaSession) {
    let marks = session.marks
    guard marks != before else { return }
    let listeners = surroundings.board.listeners
    if marks.pushedChanges > before.pushedChanges, marks.shipped > before.shipped {
      listeners.tell(
        .acknowledged(
          versions: before.shipped + 1...marks.shipped, changes: marks.pushedChanges - before.pushedChanges))
    }
    if marks.conflicts > before.conflicts { listeners.tell(.conflicts(marks.conflicts - before.conflicts)) }
    if marks.fence > before.fence { surroundings.catchUps.reached(marks.fence) }
  }

  /// Tells the status board when the session is at another stage, and now and then how far it is.
  private func note(_ state: inout State) {
    let session = state.session.standing(since: state.firstCursor)
    let now = ContinuousClock.now
    let hasChanged = (session.isOpen, session.isCaughtUp) != (state.noted.isOpen, state.noted.isCaughtUp)
    guard hasChanged || state.lastNote.map({ now - $0 >= Self.progressInterval }) ?? true else { return }
    state.noted = session
    state.lastNote = now
    surroundings.board.note(session)
  }

  private func dispatch(_ action: ReplicaSession.Action, _ state: inout State) {
    switch action {
    case .send(let message):
      if case .push(let push) = message, let sent = state.session.push.inFlight.last {
        surroundings.board.listeners.tell(
          .sent(versions: push.segment.after + 1...push.segment.through, changes: sent.localChanges))
      }
      switch outbox.post(message) {
      case .sent: if let sent = Self.sent(message) { state.due.append(.event(sent)) }
      case .waiting: break
      case .dropped:
        // The closed link ends the session.
        state.ending = .success(
          ReplicatorError(.unreachable, "the hub reads nothing of what it is sent; try again later"))
        connection.close()
      }
    case .notify(let notice):
      if let repair = surroundings.board.tell(notice) { news.mended(repair) }
    case .establish(let bytes): connection.establish(outboundFrameBytes: bytes)
    case .shipEvery: pushes.shipEvery()
    case .end(let error): state.ending = state.ending ?? .success(error)
    case .beginAgain:
      state.ending = state.ending ?? .success(nil)
      state.isToBeginAgain = true
    case .fail(let failure): state.ending = .failure(failure.error)
    default: break
    }
    switch action {
    case .send, .establish, .shipEvery, .notify: break
    case .readPush(let after, let maximumBytes) where connection.executor.isCurrent:
      state.due.append(.readPush(after: after, maximumBytes: maximumBytes))
    case .end, .beginAgain, .fail:
      outbox.finish()
      start(action)
    default: start(action)
    }
  }

  private func start(_ action: ReplicaSession.Action) { actions.start { [self] in await perform(action) } }

  // MARK: The link

  private func receive() async {
    defer { hearingEnd.finish() }
    do {
      for try await message in connection.messages { handle(.received(message)) }
      handle(.lost(ReplicatorError(.unreachable, "the hub closed the connection; try again when it is back")))
    } catch {
      handle(
        .lost((error as? TransportError).map(ReplicatorError.init) ?? ReplicatorError(.unreachable, "\(error)")))
    }
  }

  /// Sends what the session says, to its last words; then nothing is left to do.
  private func transmit() async {
    do throws(TransportError) {
      try await outbox.run { message in
        if let sent = Self.sent(message) { handle(sent) }
      }
      await connection.finish(within: Self.farewell)
    } catch {
      // The receiving half says why, unless it is this half alone that failed: a refusal may wait to be read.
      let patience = Task { [hearingEnd] in
        try await Task.sleep(for: Self.farewell)
        hearingEnd.finish()
      }
      for await _ in hearing {}
      patience.cancel()
      handle(.lost(ReplicatorError(error)))
    }
  }

  /// What the session is told when the message is on its way.
  private static func sent(_ message: Message) -> ReplicaSession.Event? {
    if case .push(let push) = message { .pushSent(bytes: push.chargedBytes) } else { nil }
  }

  private func keepTime() async {
    let interval = min(configuration.heartbeatInterval, configuration.idleLimit, configuration.stallLimit) / 2
    while !Task.isCancelled {
      // A silent link is found out when its limit is over, and not at the next tick after that.
      let left = configuration.idleLimit - connection.silence
      do { try await Task.sleep(for: max(.milliseconds(1), min(interval, left))) } catch { return }
      handle(
        .tick(
          silence: connection.silence, elapsed: ContinuousClock.now - began, receivedBytes: connection.receivedBytes))
    }
  }

  private func watchForPause() async {
    await surroundings.control.untilPaused()
    if !Task.isCancelled { handle(.pause) }
  }

  /// Another process may change them too.
  private func watchScopes() async {
    let scopes = store.replicaState().scopes
    while store.replicaState().scopes == scopes {
      do { try await Task.sleep(for: Self.scopesInterval) } catch { return }
    }
    handle(.scopesChanged)
  }

  private func watchForEnd(at deadline: ContinuousClock.Instant) async {
    do { try await Task.sleep(until: deadline, clock: .continuous) } catch { return }
    handle(.timeIsUp)
  }

  // MARK: The store

  private func perform(_ action: ReplicaSession.Action) async {
    do {
      switch action {
      case .end, .beginAgain, .fail:
        // A hub that does not take the last words is not waited for.
        try await Task.sleep(for: Self.farewell)
        connection.close()
      default:
        if let event = try await answer(to: action) { handle(event) }
      }
    } catch is CancellationError {
      // The session is over, or the program wants it to be.
    } catch {
      handle(.failed(SessionFailure(error)))
    }
  }

  private func answer(to action: ReplicaSession.Action) async throws -> ReplicaSession.Event? {
    let store = store
    switch action {
    case .readDigest(let claim):
      return try await blocking {
        let digest = try store.foundDigest(claim)
        let shipped = store.replicaState().shipped
        let counts = digest == nil ? (0, 0) : try store.localChanges(after: shipped, through: claim.version)
        return .digest(digest, localChanges: counts.0, localBytes: counts.1)
      }
    case .readPush(let after, let maximumBytes):
      return try await blocking { [pushes] in
        let state = store.replicaState()
        return .pushRead(try pushes.next(after: after, maximumBytes: maximumBytes), state: state)
      }
    case .acknowledge(let decision, let epoch):
      let outcome = try await store.acknowledge(
        decision.acknowledgement, digest: decision.digest, localChanges: decision.localChanges,
        localBytes: decision.localBytes, epoch: epoch, isUnproven: decision.isUnproven)
      return .acknowledged(outcome, state: store.replicaState())
    case .apply(let run, let epoch):
      let outcome = try await store.apply(run, epoch: epoch, policy: policy)
      return .applied(outcome, state: store.replicaState())
    case .load(let page):
      let outcome = try await store.load(page, policy: policy)
      return .applied(outcome, state: store.replicaState())
    case .lapse:
      return .lapsed(try await store.lapse())
    case .awaitLocal(let version):
      _ = try await store.advance(beyond: version)
      return .localAdvanced
    case .becomeNewIncarnation:
      return .becameNewIncarnation(try await store.becomeNewIncarnation())
    case .adopt(let space, let head):
      let (state, rows) = try await store.adopt(space: space, head: head)
      return .adopted(state, rows: rows)
    case .rollBack(let cursor, let space, let shipped, let digest, let head):
      return .rolledBack(
        try await store.rollBack(to: cursor, in: space, shipped: shipped, digest: digest, head: head))
    case .readRestoration(let maximumBytes):
      return try await blocking { .restorationRead(try store.restorationSegment(maximumBytes: maximumBytes)) }
    case .recordRestored(let version, let declined, let head):
      return .restorationRecorded(try await store.recordRestored(through: version, declined: declined, head: head))
    case .send, .establish, .shipEvery, .notify, .end, .beginAgain, .fail:
      return nil
    }
  }
}

/// Runs what may wait for the disk away from the threads that serve tasks.
func blocking<R: Sendable>(_ work: @escaping @Sendable () throws -> R) async throws -> R {
  try await NIOThreadPool.singleton.runIfActive(work)
}

/// What the store threw, on its way through the session.
struct SessionFailure: Error {
  let error: any Error

  init(_ error: any Error) { self.error = error }
}

extension Store {
  /// nil: the log no longer has it, or not yet.
  func foundDigest(_ claim: ReplicaSession.Claim) throws -> ReplicaSession.FoundDigest? {
    try claim.found(digest: digest(at:), mark: commitMark(at:))
  }
}
