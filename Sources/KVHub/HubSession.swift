// One replica's session, as a value: events in, actions out. No I/O, no clock, no randomness.
//
// Invariants:
// - At most one admission, one read of a feed or of a page, or wait, and one rows read are under way. The shell answers each such action
//   with exactly one event.
// - At most one page of rows is read or on its way to the socket, and one more is asked for.
// - Pushes are admitted in the order they came; while one admission is under way the next pushes are taken in, within
//   the credit that was granted. Credit is granted again when a push has been decided, never earlier.
// - A feed that was read while an admission was under way goes out after that admission's acknowledgement: the feed may
//   hold commits newer than the one acknowledged.
// - A feed goes out only with credit, and begins where the one before ended. Of the keys that the replica does not have,
//   nothing is fed.
// - A page goes out when all of its version was fed and nothing beyond it: the replica has all its keys at one version.
// - After `.close` no action follows, and no event matters.

package import KVLog
package import KVProtocol

package struct HubSession: Sendable {
  package enum Event: Sendable {
    case received(Message)
    /// Nothing more can be received: what came is not the protocol.
    case broken(ProtocolError)
    /// The link is gone.
    case closed
    /// Answers `.open`.
    case opened(SpaceState)
    /// Answers `.open` with no; or somebody outside the session ends it.
    case refused(Refusal)
    /// Answers `.admit`.
    case admitted(Acknowledgement)
    /// Answers `.restore`.
    case restored(RestorationOutcome)
    /// Answers `.read`; `nil`: nothing after it.
    case read(CommitSegment?)
    /// Answers `.readPage`.
    case page(SnapshotPage)
    /// Answers `.awaitHead`.
    case headMoved(Version)
    /// Answers `.readRows`.
    case rows(Rows)
    /// Answers `.preview`.
    case previewed(Preview)
    /// Answers `.readHead`.
    case head(Version)
    /// Answers any of them.
    case failed(HubStorageError)
    /// So many bytes more may be on their way here: as many as `windowWish` asked for, or fewer.
    case windowGrew(bytes: Int)
    /// A feed message or a page is on its way.
    case feedSent
    /// A page of rows or a preview is on its way.
    case rowsSent
    /// Time since the session began, and since the link last gave a sign of life.
    case tick(elapsed: Duration, silence: Duration)
    /// The hub shuts down.
    case shutdown
  }

  package enum Action: Sendable {
    case send(Message)
    case open(Hello)
    /// The handshake is over: session-sized frames are taken from now on.
    case establish(outboundFrameBytes: Int)
    case admit(PushSegment, replica: Identity, confirmed: Version)
    case restore(Restoration)
    case read(FeedRequest, maximumBytes: Int)
    case readPage(KeyInterval, for: Identity, deletions: Bool, maximumBytes: Int)
    case awaitHead(beyond: Version)
    case readRows(after: [UInt8]?, maximumBytes: Int)
    case preview(PreviewRequest, excluding: Identity)
    case readHead
    /// Ends the link once everything to be sent is out.
    case close
  }

  package struct Configuration: Sendable {
    /// Bytes of pushes that may be on their way here to begin with…
    package var windowBytes = ProtocolLimits.windowBytes
    /// …and when the session has been given more because it made use of them.
    package var maximumWindowBytes = ProtocolLimits.windowBytes
    package var handshakeTimeout = ProtocolLimits.handshakeTimeout
    package var heartbeatInterval = ProtocolLimits.heartbeatInterval
    package var idleLimit = ProtocolLimits.idleLimit
    /// Commits may be refused for what is in them.
    package var mayRefuse = false

    package init() {}
  }

  enum Phase {
    case awaitingHello
    case opening(Hello)
    case open
    case ended
  }

  let configuration: Configuration
  var phase = Phase.awaitingHello
  var inbound = InboundPushes()
  var outbound = OutboundFeed()
  var mode: SessionMode = []
  var replica = Identity.zero
  /// The newest version of the space that this session has heard of.
  var head: Version = 0
  /// The space was restored once: what it has lost after this version may be brought back.
  private var restoresAfter: Version?
  /// Commits that were brought back are being stored.
  private var isRestoring = false
  /// A page or a preview is being read, or is not yet on its way.
  private var isSendingRows = false
  /// Asked for while the one before was not yet reported as sent: the replica may have it already.
  private var nextInquiry: Inquiry?

  private enum Inquiry {
    case rows(RowsRequest)
    case preview(PreviewRequest)
  }
  /// The request that is being answered.
  private var headRequest: UInt64?
  private var isShuttingDown = false
  /// When the last ping went out.
  private var lastPing: Duration?
  private var pings: UInt64 = 0
  /// What the event being handled leads to.
  var actions: [Action] = []

  package init(_ configuration: Configuration) {
    self.configuration = configuration
  }

  package mutating func handle(_ event: Event) -> [Action] {
    if case .ended = phase { return [] }
    react(to: event)
    defer { actions = [] }
    return actions
  }

  /// How often the session wants a tick: often enough for every limit, whatever phase it is in by then.
  package var tickInterval: Duration {
    min(configuration.handshakeTimeout, min(configuration.heartbeatInterval, configuration.idleLimit) / 2)
  }

  private mutating func react(to event: Event) {
    switch event {
    case .received(let message): receive(message)
    case .broken(let error): reject(error)
    case .closed: end()
    case .opened(let state): opened(state)
    case .refused(let refusal): refuse(refusal)
    case .admitted(let acknowledgement): admitted(acknowledgement)
    case .restored(let outcome): restored(outcome)
    case .read(let segment): read(segment)
    case .page(let page): read(page)
    case .headMoved(let version): headMoved(version)
    case .rows(let rows): actions.append(.send(.rows(rows)))
    case .previewed(let preview): actions.append(.send(.preview(preview)))
    case .head(let version): answer(version)
    case .failed(let error): fail(error)
    case .windowGrew(let bytes): windowGrew(bytes)
    case .feedSent: feedSent()
    case .rowsSent: rowsSent()
    case .tick(let elapsed, let silence): tick(elapsed, silence)
    case .shutdown: shutDown()
    }
  }

  // MARK: Messages

  private mutating func receive(_ message: Message) {
    switch (phase, message) {
    case (.awaitingHello, .hello(let hello)):
      if let refusal = Handshake.check(hello) { return refuse(refusal) }
      phase = .opening(hello)
      actions.append(.open(hello))
    case (.open, .push(let push)) where mode.contains(.push):
      receive(push)
    case (.open, .restore(let restore)) where mode.contains(.push) && !isRestoring:
      receive(restore)
    case (.open, .credit(let bytes)) where mode.contains(.pull):
      grant(bytes)
    case (.open, .rowsRequest(let request)) where mode.contains(.compare) && nextInquiry == nil:
      nextInquiry = .rows(request)
      inquire()
    case (.open, .previewRequest(let request)) where mode.contains(.compare) && nextInquiry == nil:
      nextInquiry = .preview(request)
      inquire()
    case (.open, .headRequest(let number)) where mode.contains(.pull) && headRequest == nil:
      headRequest = number
      actions.append(.readHead)
    case (_, .ping(let number)):
      actions.append(.send(.pong(number)))
    case (_, .pong):
      break
    case (_, .goodbye), (_, .refuse):
      end()
    default:
      reject(.violation("a \(message.kind) message has no place here"))
    }
  }

  /// What was lost when the hub was restored comes back. Nothing else of the replica comes before it has been told.
  private mutating func receive(_ restore: Restore) {
    guard let restoresAfter, restore.cursor <= restoresAfter else {
      return reject(.violation("a restore has no place here: nothing was lost that is not beyond its cursor"))
    }
    do throws(ProtocolError) { try restore.segment.checkRestored() } catch { return reject(error) }
    guard mayBegin else { return }
    isRestoring = true
    actions.append(.restore(Restoration(segment: restore.segment, cursor: restore.cursor)))
  }

  private mutating func restored(_ outcome: RestorationOutcome) {
    isRestoring = false
    actions.append(
      .send(.restored(Restored(through: outcome.through, declined: outcome.declined, head: outcome.head))))
  }

  private mutating func inquire() {
    guard !isSendingRows, let inquiry = nextInquiry else { return }
    isSendingRows = true
    nextInquiry = nil
    switch inquiry {
    case .rows(let request):
      actions.append(
        .readRows(
          after: request.after,
          maximumBytes: max(
            ProtocolLimits.minimumRowsPageBytes, min(request.maximumBytes, ProtocolLimits.rowsPageBytes))))
    case .preview(let request):
      actions.append(.preview(request, excluding: replica))
    }
  }

  private mutating func answer(_ version: Version) {
    guard let number = headRequest else { return }
    headRequest = nil
    head = max(head, version)
    actions.append(.send(.head(number, version)))
  }

  private mutating func rowsSent() {
    isSendingRows = false
    inquire()
  }

  // MARK: Handshake

  private mutating func opened(_ state: SpaceState) {
    guard case .opening(let hello) = phase else { return }
    if let refusal = Handshake.decide(hello, state) { return refuse(refusal) }
    phase = .open
    // A replica of another space learns which one this is, and comes back as one of this.
    mode = state.common == nil ? [] : hello.mode
    replica = hello.replica
    head = state.head.version
    restoresAfter = state.formerEpochs.isEmpty ? nil : state.common?.version
    let coverage = SentCoverage(hello, state)
    var welcome = state.welcome(to: hello, coverage)
    inbound = InboundPushes(
      credit: configuration.windowBytes, decidedThrough: welcome.lastApplied, confirmed: hello.shipped.version,
      unconfirmed: welcome.unconfirmed)
    welcome.protocolVersion = min(hello.protocols.upperBound, ProtocolLimits.versions.upperBound)
    welcome.credit = configuration.windowBytes
    welcome.mayRefuse = configuration.mayRefuse
    actions.append(.establish(outboundFrameBytes: hello.maximumFrameBytes))
    actions.append(.send(.welcome(welcome)))
    if mode.contains(.pull) { outbound = OutboundFeed(after: welcome.common.version, credit: hello.credit) }
    outbound.coverage = coverage
    outbound.ownThrough = hello.ownThrough
    if mode.contains(.pull) {
      outbound.floor = state.retentionFloor
      pumpFeed()
    }
    if isShuttingDown { sayGoodbye() }
  }

  // MARK: Time

  private mutating func tick(_ elapsed: Duration, _ silence: Duration) {
    switch phase {
    case .awaitingHello:
      if elapsed >= configuration.handshakeTimeout { end() }
    case .open where silence >= configuration.heartbeatInterval:
      // Not given up without having asked: a hub that was suspended hears nothing for that time either.
      let hasAsked = lastPing.map { $0 > elapsed - silence } ?? false
      if hasAsked, silence >= configuration.idleLimit { return end() }
      guard lastPing.map({ elapsed - $0 >= configuration.heartbeatInterval }) ?? true else { return }
      lastPing = elapsed
      pings += 1
      actions.append(.send(.ping(pings)))
    default:
      break
    }
  }

  // MARK: The end

  /// What is being admitted is still acknowledged; what waits is not begun, and will be pushed again.
  private mutating func shutDown() {
    isShuttingDown = true
    switch phase {
    case .open where inbound.isAdmitting: break
    case .opening: break
    default: sayGoodbye()
    }
  }

  var mayBegin: Bool { !isShuttingDown }

  mutating func sayGoodbye() {
    actions.append(.send(.goodbye))
    end()
  }

  mutating func reject(_ error: ProtocolError) {
    switch error {
    case .unsupportedProtocol: refuse(Refusal(.unsupportedProtocol, error.description))
    case .stagingFull: refuse(Refusal(.busy, error.description))
    default:
      // A stranger gets no answer.
      if case .awaitingHello = phase { return end() }
      refuse(Refusal(.violation, error.description))
    }
  }

  mutating func refuse(_ refusal: Refusal) {
    actions.append(.send(.refuse(refusal)))
    end()
  }

  private mutating func fail(_ error: HubStorageError) {
    switch error {
    case .unknownSpace:
      refuse(Refusal(.unknownSpace, "there is no such space on this hub; check the name"))
    case .tooManySpaces:
      refuse(
        Refusal(
          .tooManySpaces, "the hub has as many spaces as it may have; use one of them, or have the limit raised there"))
    case .gap(let expected):
      refuse(
        Refusal(.gap, version: expected, "the hub has this replica's version \(expected) and expects what follows"))
    case .lapsed(let floor):
      refuse(
        Refusal(
          .gap, version: floor,
          "the hub no longer keeps what follows on what this replica has: it connects again, and loads a snapshot"))
    case .tooManyReplicas:
      refuse(
        Refusal(
          .otherOwner,
          "the holder of this token has as many replicas in this space as it may have; use one of them, or another token"
        ))
    case .malformed(let reason):
      refuse(Refusal(.violation, "a push is not acceptable: \(reason)"))
    case .full:
      refuse(
        Refusal(
          .storageFull,
          "the hub has no space left; free some there. What is pending stays pending, and goes on once there is room"))
    case .corrupt(let reason):
      refuse(
        Refusal(
          .storageCorrupt,
          "the hub's copy of the space is damaged and has to be restored there: \(reason) The replica is unharmed"))
    case .closed:
      sayGoodbye()
    case .failed(let reason):
      refuse(Refusal(.storageFailed, "the hub's storage failed: \(reason)"))
    }
  }

  private mutating func end() {
    phase = .ended
    actions.append(.close)
  }
}
