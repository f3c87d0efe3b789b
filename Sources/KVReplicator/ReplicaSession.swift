// The replica's side of one connection, as a value: events in, actions out. No I/O, no clock, no randomness.
//
// Invariants
// - Each action but `send`, `establish`, `shipEvery`, `notify` and those that end the session is answered by exactly one event. At most one log read, one store write (an
//   acknowledgement or a feed) and one wait for local commits are under way.
// - What the hub decided before it fed a commit is recorded here before that commit is applied: a decision never waits
//   behind a feed.
// - A push goes out only with credit, and begins where the one before ended. Nothing of it is kept after it was sent.
// - Credit for a feed is granted again when it is durable, never earlier; a feed without credit ends the session, so
//   what waits to be applied is bounded by the window.
// - Exceptions are confirmed to the hub only after they are durable here.
// - Liveness: as long as anything is unpushed, undecided or unpulled, an action or an answer of the hub is outstanding.
//   `checkLiveness` holds after every event, in release builds too.

import KVLog
import KVProtocol
import KVStore

struct ReplicaSession: Sendable {
  enum Event: Sendable {
    case connected
    case received(Message)
    /// The link is gone, or what came over it is no message.
    case lost(ReplicatorError)
    /// Answers `readDigest`; the local changes after what was shipped, through that version, come along.
    case digest(FoundDigest?, localChanges: Int, localBytes: Int)
    /// Answers `becomeNewIncarnation`.
    case becameNewIncarnation(ReplicaState)
    /// Answers `adopt`; so many rows were offered.
    case adopted(ReplicaState, rows: Int)
    /// Answers `rollBack`.
    case rolledBack(ReplicaState)
    /// Answers `readRestoration`; nil: nothing is left.
    case restorationRead(Restoration?)
    /// Answers `recordRestored`.
    case restorationRecorded(ReplicaState)
    /// Answers `readPush`; `state` as it was before the log was read.
    case pushRead(PushSegment?, state: ReplicaState)
    /// Answers `acknowledge`.
    case acknowledged(Acknowledged, state: ReplicaState)
    /// Answers `lapse`.
    case lapsed(ReplicaState)
    /// Answers `apply` and `load`.
    case applied(FeedOutcome, state: ReplicaState)
    /// Answers `awaitLocal`.
    case localAdvanced
    /// A push of so many bytes has left for the socket.
    case pushSent(bytes: Int)
    /// Answers any action that uses the store, which failed.
    case failed(SessionFailure)
    /// Time since anything was received and since the session began, and the bytes received since then.
    case tick(silence: Duration, elapsed: Duration = .zero, receivedBytes: Int = 0)
    /// So many callers want to know what the hub has by now, and when it is here.
    case fence(UInt64)
    /// The time that the session may take is over.
    case timeIsUp
    /// The store's scopes are others.
    case scopesChanged
    /// Ends the session once what is in flight is decided.
    case pause
    /// Ends the session when asked from outside.
    case stop
  }

  enum Action: Sendable {
    case send(Message)
    /// The handshake is over; frames to the hub have at most so large a payload.
    case establish(outboundFrameBytes: Int)
    case readDigest(Claim)
    /// The hub wants all commits, those too that were overwritten since.
    case shipEvery
    /// The hub has other commits under this store's name.
    case becomeNewIncarnation
    /// Go over to another space, or go on with that.
    case adopt(space: Identity, head: Position)
    /// The hub was restored, or the space or its epoch is new here.
    case rollBack(to: Position, in: Identity, shipped: Version, digest: Digest?, head: Version)
    case readRestoration(maximumBytes: Int)
    /// nil: nothing was left.
    case recordRestored(through: Version?, declined: [Version], head: Version)
    case readPush(after: Version, maximumBytes: Int)
    case acknowledge(OutboundPush.Decision, epoch: Identity)
    case apply(CommitSegment, epoch: Identity)
    case load(SnapshotPage)
    /// What is here is too old to go on from: all of it is to be loaded again.
    case lapse
    case awaitLocal(beyond: Version)
    /// Something that the program may want to know.
    case notify(SessionNotice)
    /// The session is over; nil: as intended.
    case end(ReplicatorError?)
    /// The session is over, and another one is to begin at once.
    case beginAgain
    /// The session is over because the store failed.
    case fail(SessionFailure)
  }

  /// What the hub says of this store's log.
  struct Claim: Hashable, Sendable {
    /// It has decided through this version…
    var version: Version
    /// …where this is what it has of the log…
    var digest: Digest
    var kind: ReplicaProgress.DigestKind
    /// …and with what was left out for later commits through this one.
    var horizon: Horizon

    init(_ welcome: Welcome, shipped: Version) {
      version = welcome.lastApplied
      digest = welcome.appliedDigest
      kind = welcome.appliedKind
      // Of what it has heard, it heard after that was in its log.
      horizon = version > shipped ? welcome.horizon : .none
    }

    /// What a log has there, of which these are the digest and the mark of the commit at a version; nil: it does not reach there.
    func found(
      digest logDigest: (Version) throws -> Digest?, mark: (Version) throws -> Digest?
    ) rethrows -> FoundDigest? {
      guard let log = try logDigest(version), let compared = kind == .log ? log : try mark(version) else { return nil }
      let hasHorizon = try horizon.version <= version || logDigest(horizon.version) == horizon.digest
      return FoundDigest(log: log, isAsClaimed: compared == digest && hasHorizon)
    }
  }

  /// What the log has where the hub claims to know it: its digest, and whether it is this log that the hub knows.
  struct FoundDigest: Sendable {
    var log: Digest
    var isAsClaimed: Bool
  }

  struct Configuration: Sendable {
    var space: String
    var mode: SessionMode
    /// Goes on when everything is synchronised.
    var isLive: Bool
    var token: [UInt8] = []
    /// Goes over to the space where it is not the one known from before.
    var adopts = false
    var segmentBytes = ProtocolLimits.segmentBytes
    var windowBytes = ProtocolLimits.windowBytes
    /// Bytes of commits that may travel, in both directions; nil: any number.
    var budgetBytes: Int?
    var heartbeatInterval = ProtocolLimits.heartbeatInterval
    var idleLimit = ProtocolLimits.idleLimit
    var stallLimit = ProtocolLimits.stallLimit
  }

  enum Phase {
    case connecting
    case awaitingWelcome
    case checkingDigest(Welcome)
    case becomingNewIncarnation
    case adopting
    /// With a welcome, the session goes on from that.
    case rollingBack(onward: Welcome?)
    case lapsing
    /// What a restored hub has lost is brought back to it.
    case restoring
    case open
    case ended
  }

  let configuration: Configuration
  var phase = Phase.connecting
  var epoch = Identity.zero
  /// What the hub promises on this connection; nil: there was no welcome yet.
  var promise: HubPromise?
  var push: OutboundPush
  var pull: InboundFeed
  /// The store as last heard of.
  var state: ReplicaState
  /// What this session has done so far.
  var report = SyncReport()
  /// The hub's head as of the welcome or the last acknowledgement: how far a one-shot session pulls.
  var head: Version = 0
  /// How far a one-shot session pushes: what was here when it began, and what it led to itself. A program that writes
  /// all the time does not keep it from ending.
  var target: Version
  /// What was brought back last and is not yet decided.
  var restoringThrough: Version?
  /// The newest version that the hub said to have when it last fed or welcomed: what is left to be pulled.
  var fedHead: Version = 0
  /// It ended because everything was done.
  private(set) var hasFinished = false
  var budget = SessionBudget()
  var fence = HeadFence()
  var stall = StallWatch()
  private var pings: UInt64 = 0
  private var isPinging = false
  var actions: [Action] = []

  init(_ configuration: Configuration, state: ReplicaState) {
    self.configuration = configuration
    self.state = state
    push = OutboundPush(after: state.shipped)
    budget.bytes = configuration.budgetBytes
    pull = InboundFeed(cursor: state.cursor?.version ?? 0, credit: Self.firstCredit(configuration))
    target = state.local.version
  }

  mutating func handle(_ event: Event) -> [Action] {
    if case .ended = phase {
      note(event)
      return []
    }
    react(to: event)
    checkLiveness()
    defer { actions = [] }
    return actions
  }

  private mutating func react(to event: Event) {
    switch event {
    case .connected: greet()
    case .received(let message):
      isPinging = false
      receive(message)
    case .lost(let error):
      // What is being mended needs no link, and the next session finds it mended.
      if !isMending { end(error) }
    case .digest(let digest, let changes, let bytes): compare(digest, changes, bytes)
    case .becameNewIncarnation(let state): becameNewIncarnation(state)
    case .adopted(let state, let rows): adopted(state, rows)
    case .rolledBack(let state): rolledBack(state)
    case .restorationRead(let restoration): restorationRead(restoration)
    case .restorationRecorded(let state): restorationRecorded(state)
    case .pushRead(let segment, let state): read(segment, state)
    case .acknowledged(let outcome, let state): recorded(outcome, state)
    case .lapsed(let state): lapsed(state)
    case .applied(let outcome, let state): applied(outcome, state)
    case .localAdvanced:
      push.isAwaitingLocal = false
      push.isExhausted = false
      proceed()
    case .pushSent(let bytes):
      push.unsentBytes -= bytes
      stall.progress += 1
      proceed()
    case .failed(let failure):
      phase = .ended
      actions.append(.fail(failure))
    case .tick(let silence, let elapsed, let receivedBytes): tick(silence, elapsed, receivedBytes)
    case .fence(let number): want(number)
    case .timeIsUp: runOut()
    case .scopesChanged: if case .open = phase { leaveAndBeginAgain() }
    case .pause: pause()
    case .stop: leave()
    }
  }

  /// What the store had begun to write when the session ended was done all the same, and counts.
  private mutating func note(_ event: Event) {
    switch event {
    case .acknowledged(let outcome, _): count(outcome)
    case .applied(let outcome, _): count(outcome)
    default: break
    }
  }

  // MARK: Messages

  private mutating func receive(_ message: Message) {
    switch message {
    case .ping, .pong: break
    default: stall.progress += 1
    }
    switch (phase, message) {
    case (.awaitingWelcome, .welcome(let welcome)): check(welcome)
    case (_, .refuse(let refusal)) where refusal.code == .replicaRestored && !isMending: becomeNewIncarnation()
    case (_, .refuse(let refusal)): if !isMending { end(error(refusal)) }
    case (.open, .acknowledgement(let acknowledgement)): receive(acknowledgement)
    // The hub need not wait for what has to be looked at or mended here first: what it feeds meanwhile waits for that.
    // A later session is fed it again.
    case (.adopting, .feed), (.adopting, .page): break
    case (_, .feed(let feed)) where isWelcomed: receive(feed)
    case (_, .page(let page)) where isWelcomed: receive(page)
    case (_, .restored(let restored)): receive(restored)
    case (.open, .credit(let bytes)):
      guard bytes > 0, bytes <= ProtocolLimits.maximumCredit - max(0, push.credit) else {
        return violation("it grants more credit than a session may hold")
      }
      push.credit += bytes
      proceed()
    case (_, .ping(let number)): actions.append(.send(.pong(number)))
    case (_, .pong(let number)): if number == stall.ping { stall.hasEcho = true }
    case (.open, .head(let number, let version)): receiveHead(number, version)
    case (_, .goodbye): end(ReplicatorError(.unavailable, "the hub shut down; try again when it is back"))
    default: violation("a \(message.kind) message has no place here")
    }
  }

  mutating func violation(_ what: String) {
    actions.append(.send(.refuse(Refusal(.violation, what))))
    end(ReplicatorError(.protocolViolation, "the hub does not follow the protocol: \(what). Upgrade the older side."))
  }

  mutating func end(_ error: ReplicatorError?) {
    phase = .ended
    actions.append(.end(error))
  }

  static func silent(for silence: Duration) -> String {
    "nothing was heard of the hub for \(silence.components.seconds) s; check the network, and that the address is that of "
      + "a kvsync hub"
  }

  /// The store is brought to where a new session can begin.
  private var isMending: Bool {
    switch phase {
    case .becomingNewIncarnation, .adopting, .rollingBack(nil): true
    default: false
    }
  }

  private var isWelcomed: Bool {
    switch phase {
    case .connecting, .awaitingWelcome, .ended: false
    default: true
    }
  }

  private mutating func tick(_ silence: Duration, _ elapsed: Duration, _ receivedBytes: Int) {
    if silence >= configuration.idleLimit, !isMending {
      return end(ReplicatorError(.unreachable, Self.silent(for: silence)))
    }
    checkForStall(elapsed, receivedBytes: receivedBytes)
    guard isWelcomed, silence >= configuration.heartbeatInterval, !isPinging else { return }
    _ = ping()
  }

  /// Asks whether the hub is there; gives the question's number.
  mutating func ping() -> UInt64 {
    pings += 1
    isPinging = true
    actions.append(.send(.ping(pings)))
    return pings
  }

  // MARK: Going on

  /// Does whatever can be done now; ends a one-shot session when nothing is left.
  mutating func proceed() {
    guard case .open = phase else { return }
    pumpStore()
    pumpPush()
    pumpFence()
    if isCut || (!configuration.isLive && isComplete) {
      hasFinished = isComplete
      return leave()
    }
    guard configuration.isLive, configuration.mode.contains(.push), push.isExhausted, !push.isAwaitingLocal else {
      return
    }
    push.isAwaitingLocal = true
    actions.append(.awaitLocal(beyond: push.exhaustedAt))
  }

  /// Everything pushed is decided and recorded, and everything that was fed is applied.
  var isAtRest: Bool {
    pull.waiting.isEmpty && !push.hasUndecided && !isWritingStore && !push.isReading && push.held == nil
  }

  /// At rest, nothing is left to be read that may be pushed, and what was fed is all the hub had.
  private var isComplete: Bool {
    guard isAtRest, push.unproven == nil, !mayReadMore else { return false }
    return !configuration.mode.contains(.pull) || (pull.cursor >= head && state.missing.isEmpty)
  }

  /// Hub and store have nothing left for each other, as far as is known here. A live session goes on.
  var isCaughtUp: Bool {
    guard case .open = phase else { return hasFinished }
    return isComplete
  }

  /// Re-offers wait for the cursor, and what was written after them with them.
  var isHeldBack: Bool {
    push.unproven != nil || configuration.mode.contains(.pull) && isHeld
  }

  /// So does everything while the hub feeds this store's own again, since in this session it does not feed what is pushed in it. What
  /// is waited for may be a version that the hub had and has lost: then it is all that it has.
  private var isHeld: Bool {
    let end = max(state.holdUntil, state.ownThrough)
    return end > pull.cursor && (end == .max || head > pull.cursor)
  }

  /// Re-offers wait for a session that pulls.
  var awaitsPull: Bool { !configuration.mode.contains(.pull) && state.holdUntil > pull.cursor }

  var isWritingStore: Bool { push.isRecording || pull.isApplying }

  /// Whatever can be done has been begun: what remains is somebody else's turn.
  private func checkLiveness() {
    guard case .open = phase else { return }
    precondition(isComplete || isLiveOrAwaited, "nobody is waited for, and nothing is done")
    precondition(isWritingStore || (push.decision == nil && pull.waiting.isEmpty), "a write of the store was forgotten")
    precondition(push.held == nil || !maySend, "a push was forgotten")
    precondition(push.isReading || !mayReadPush || push.held != nil || isSettling, "a read of the log was forgotten")
    precondition(push.isAwaitingLocal || !configuration.isLive || !push.isExhausted, "nobody waits for local commits")
    // The hub owes credit, decisions and feeds only while this side owes none.
    precondition(
      !configuration.mode.contains(.pull) || isWritingStore || pull.credit > 0 || budget.isLimited,
      "the hub was never granted credit again")
  }

  /// Something is under way here, or due from the hub, or may come from either side at any time.
  private var isLiveOrAwaited: Bool {
    configuration.isLive || isWritingStore || push.isReading || push.unsentBytes > 0 || awaited != nil
  }
}
