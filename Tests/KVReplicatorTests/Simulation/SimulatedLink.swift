// One connection in the simulator: the session of a replica, the session of the hub, and what is on its way between
// them. Whoever drives it decides what happens next, and when.
//
// Invariants
// - Messages arrive in order and whole, or not at all.
// - Work that a session asked for is done at one step and answered at a later one: anything can come in between, other
//   answers too.

import KVLog
import KVProtocol

@testable import KVHub
@testable import KVReplicator
@testable import KVStore

final class SimulatedLink {
  enum Packet {
    case message(Message)
    /// The other side has closed the link.
    case end
  }

  var replica: ReplicaSession
  var hub: HubSession
  private(set) var toHub: [Packet] = []
  private(set) var toReplica: [Packet] = []
  private var replicaWork: [ReplicaSession.Action] = []
  private var replicaAnswers: [ReplicaSession.Event] = []
  private var hubWork: [HubSession.Action] = []
  private var hubAnswers: [HubSession.Event] = []
  /// How the replica's session ended.
  private(set) var ending: ReplicatorError??
  /// Another session is to follow at once.
  private(set) var beginsAgain = false
  private(set) var isHubDone = false
  private var isCut = false
  private(set) var isPaused = false
  /// What was on the hub when somebody asked, in the order of asking, and how many of them were served.
  private var fences: [Version] = []
  private var served = 0
  /// Messages that have arrived so far, in both directions.
  private(set) var delivered = 0
  private(set) var receivedBytes = 0
  /// Which replica the hub has let in, and which it refuses commits of.
  private(set) var admitted: Identity?
  /// What happened that does not happen every day, since somebody last looked.
  var sightings: [RarePath] = []
  var surroundings = Surroundings()
  /// What was deleted when pages were read.
  private var deletions: [Version: [[UInt8]: ModelStore.HeldRow]] = [:]
  /// Sent, but behind a feed that is to come.
  private var heldAcknowledgements: [Message] = []

  /// What a connection has around it.
  struct Surroundings {
    /// New names of incarnations and epochs.
    var draw: () -> Identity = { .random() }
    /// A session of the replica begins: ends older ones of it, which finish what they are at.
    var join: (Identity) throws -> Bool = { _ in false }
    /// Versions of a push that the hub's program refuses.
    var refusals: (PushSegment) throws -> [CommitRefusal] = { _ in [] }
    var bug: DeliberateBug?

    /// Lets go of the other links: they hold this one as well.
    mutating func letGo() {
      join = { _ in false }
      refusals = { _ in [] }
    }
  }

  var isReplicaDone: Bool { ending != nil }
  var isOver: Bool { isReplicaDone && isHubDone }

  init(_ configuration: ReplicaSession.Configuration, hubWindowBytes: Int, store: ModelStore) {
    replica = ReplicaSession(configuration, state: store.replicaState)
    var hubConfiguration = HubSession.Configuration()
    hubConfiguration.windowBytes = hubWindowBytes
    hub = HubSession(hubConfiguration)
  }

  /// The link stands.
  func connect() throws { try tellReplica(.connected) }

  // MARK: What can happen

  enum Step: Int, CaseIterable {
    case deliverToHub, deliverToReplica
    case workAtReplica, answerReplica
    case workAtHub, answerHub
  }

  /// How many of these can be taken one after the other.
  func count(of step: Step, _ store: ModelStore, _ space: any SimulatedSpace) -> Int {
    switch step {
    case .deliverToHub: isHubDone ? 0 : toHub.count
    case .deliverToReplica: isReplicaDone ? 0 : toReplica.count
    case .workAtReplica: isReplicaDone || replicaWork.isEmpty ? 0 : replicaWork.count { isReady($0, store) }
    case .answerReplica: isReplicaDone ? 0 : replicaAnswers.count
    case .workAtHub: isHubDone || hubWork.isEmpty ? 0 : hubWork.count { isReady($0, space) }
    case .answerHub: isHubDone ? 0 : hubAnswers.count
    }
  }

  func canTake(_ step: Step, _ store: ModelStore, _ space: any SimulatedSpace) -> Bool {
    count(of: step, store, space) > 0
  }

  /// `choice` says which of several answers comes first: they are given by tasks that know nothing of each other.
  /// Returns true when something became durable at the replica.
  func take(
    _ step: Step, _ store: inout ModelStore, _ space: any SimulatedSpace, choice: Int = 0
  ) throws -> Bool {
    switch step {
    case .deliverToHub:
      delivered += 1
      switch toHub.removeFirst() {
      case .message(let message): try tellHub(.received(message))
      case .end: try tellHub(.closed)
      }
    case .deliverToReplica:
      delivered += 1
      switch toReplica.removeFirst() {
      case .message(let message):
        if case .feed(let feed) = message { receivedBytes += feed.chargedBytes }
        if case .page(let page) = message { receivedBytes += page.chargedBytes }
        note(message)
        try tellReplica(.received(message))
      case .end: try tellReplica(.lost(ReplicatorError(.unreachable, "the hub closed the connection")))
      }
    case .workAtReplica:
      guard let index = replicaWork.firstIndex(where: { isReady($0, store) }) else { return false }
      let (event, isDurable) = try work(replicaWork.remove(at: index), &store)
      replicaAnswers.append(event)
      return isDurable
    case .answerReplica:
      try tellReplica(replicaAnswers.remove(at: choice % replicaAnswers.count))
    case .workAtHub:
      guard let index = hubWork.firstIndex(where: { isReady($0, space) }) else { return false }
      hubAnswers.append(try work(hubWork.remove(at: index), space))
    case .answerHub:
      try tellHub(hubAnswers.remove(at: choice % hubAnswers.count))
    }
    return false
  }

  // MARK: Ends

  /// The link breaks. So many messages still reach the hub; the replica hears nothing more.
  func cut(reachingHub count: Int) {
    toHub.removeLast(max(0, toHub.count - count))
    toReplica = []
    if ending == nil { ending = .some(ReplicatorError(.unreachable, "cut")) }
  }

  /// The hub notices that the link is gone.
  func close() throws {
    if !isHubDone { try tellHub(.closed) }
  }

  /// What is on its way is lost, and what is sent from now on; each side is told, or finds out by itself.
  func cut(tellingReplica: Bool, tellingHub: Bool) {
    isCut = true
    toHub = tellingHub && !isHubDone ? [.end] : []
    toReplica = tellingReplica && !isReplicaDone ? [.end] : []
  }

  /// The replica's process is gone, and says nothing any more.
  func replicaDied() {
    replicaWork = []
    replicaAnswers = []
    toReplica = []
    if ending == nil { ending = .some(ReplicatorError(.unreachable, "it died")) }
  }

  func hubDied() {
    isHubDone = true
    hubWork = []
    hubAnswers = []
    toHub = []
  }

  /// The replica's session is over. Of what it had begun at the store, the first `count` steps happen all the same.
  func finishReplicaWork(_ count: Int, _ store: inout ModelStore) throws -> Bool {
    var isDurable = false
    for action in replicaWork.prefix(count) where isReady(action, store) {
      switch action {
      case .acknowledge, .apply, .load, .lapse, .rollBack, .becomeNewIncarnation, .recordRestored:
        isDurable = try work(action, &store).isDurable || isDurable
      default: break
      }
    }
    replicaWork = []
    return isDurable
  }

  var pendingReplicaWork: Int { replicaWork.count }

  /// A newer session of the same replica has come; what is under way at the storage ends before that is let in.
  func replace(_ space: any SimulatedSpace) throws {
    guard !isHubDone else { return }
    try tellHub(.refused(Refusal(.replaced, "another connection of this replica took over")))
    for action in hubWork {
      if case .admit = action { _ = try work(action, space) }
      if case .restore = action { _ = try work(action, space) }
    }
    hubWork = []
  }

  // MARK: From outside

  func stop() throws { try tellReplica(.stop) }

  func pause() throws {
    isPaused = true
    try tellReplica(.pause)
  }

  func runOut() throws { try tellReplica(.timeIsUp) }

  /// Somebody waits for what the hub has, of which this is the newest version.
  func fence(_ head: Version) throws {
    fences.append(head)
    try tellReplica(.fence(UInt64(fences.count)))
  }

  func tickReplica(silence: Duration, elapsed: Duration) throws {
    try tellReplica(.tick(silence: silence, elapsed: elapsed, receivedBytes: receivedBytes))
  }

  func tickHub(silence: Duration, elapsed: Duration) throws {
    try tellHub(.tick(elapsed: elapsed, silence: silence))
    releaseAcknowledgements()
  }

  func shutDownHub() throws { try tellHub(.shutdown) }

  // MARK: Sessions

  private func tellReplica(_ event: ReplicaSession.Event) throws {
    for action in replica.handle(event) {
      switch action {
      case .send(let message):
        if isPaused {
          switch message {
          case .push, .credit, .headRequest: throw Simulation.Failure("paused, and it sends a \(message.kind)")
          default: break
          }
        }
        note(message)
        sendToHub(.message(message))
        if case .push(let push) = message { replicaAnswers.append(.pushSent(bytes: push.chargedBytes)) }
      case .establish, .shipEvery: break
      case .notify(let notice): note(notice)
      case .end(let error):
        ending = .some(error)
        sendToHub(.end)
      case .beginAgain:
        ending = .some(nil)
        beginsAgain = true
        sendToHub(.end)
      case .fail(let failure): throw failure.error
      default: replicaWork.append(action)
      }
    }
    let reached = Int(replica.fence.reached)
    for head in fences[served..<reached] where replica.state.cursor?.version ?? 0 < head {
      throw Simulation.Failure("caught up, and what the hub had at \(head) is not here")
    }
    if reached > served { sightings.append(.fenceServed) }
    served = reached
  }

  private func sendToHub(_ packet: Packet) {
    if !isCut { toHub.append(packet) }
  }

  private func tellHub(_ event: HubSession.Event) throws {
    for action in hub.handle(event) {
      switch action {
      case .send(let message): send(message)
      case .establish: break
      case .close:
        isHubDone = true
        if !isCut { toReplica.append(.end) }
      default: hubWork.append(action)
      }
    }
  }

  private func send(_ message: Message) {
    if surroundings.bug == .acknowledgementBehindFeed, case .acknowledgement = message {
      heldAcknowledgements.append(message)
      return
    }
    if !isCut { toReplica.append(.message(message)) }
    if case .page = message { hubAnswers.append(.feedSent) }
    if case .feed(let feed) = message {
      hubAnswers.append(.feedSent)
      if !feed.segment.records.isEmpty { releaseAcknowledgements() }
    }
  }

  private func releaseAcknowledgements() {
    if !isCut { toReplica += heldAcknowledgements.map(Packet.message) }
    heldAcknowledgements = []
  }

  private func isReady(_ action: ReplicaSession.Action, _ store: ModelStore) -> Bool {
    if case .awaitLocal(let version) = action { store.version > version } else { true }
  }

  private func isReady(_ action: HubSession.Action, _ space: any SimulatedSpace) -> Bool {
    if case .awaitHead(let version) = action { ((try? space.head().version) ?? 0) > version } else { true }
  }

  // MARK: Work

  private func work(
    _ action: ReplicaSession.Action, _ store: inout ModelStore
  ) throws -> (ReplicaSession.Event, isDurable: Bool) {
    switch action {
    case .readDigest(let claim):
      // What has gone from the log is not found.
      let found = try claim.found(digest: store.digest(at:)) { version in
        version > store.logFloor ? try store.commitMark(at: version, store.state) : nil
      }
      var counts = (changes: 0, bytes: 0)
      if found != nil {
        counts = try store.localChanges(after: store.state.shipped, through: claim.version, store.state)
      }
      return (.digest(found, localChanges: counts.changes, localBytes: counts.bytes), false)
    case .readPush(let after, let maximumBytes):
      let state = store.replicaState
      let segment = try store.pushSegment(after: after, maximumBytes: maximumBytes)
      if let segment { note(segment, maximumBytes) }
      // Only what is durable is shipped.
      return (.pushRead(segment, state: state), surroundings.bug != .confirmedBeforeDurable)
    case .acknowledge(let decision, let epoch):
      let (outcome, isDurable) = try store.acknowledge(
        decision.acknowledgement, digest: decision.digest, localChanges: decision.localChanges,
        localBytes: decision.localBytes, epoch: epoch, isUnproven: decision.isUnproven)
      if decision.isUnproven, outcome.reoffered > 0 { sightings.append(.unheardOfferedAgain) }
      if outcome.reoffered > 0 { sightings.append(.staleOfferedAgain) }
      if outcome.parked > 0 { sightings.append(.parked) }
      return (
        .acknowledged(outcome, state: store.replicaState),
        isDurable && surroundings.bug != .confirmedBeforeDurable
      )
    case .apply(let run, let epoch):
      let known = store.conflicts.count
      let (outcome, isDurable) = try store.apply(run, epoch: epoch)
      for conflict in store.conflicts[min(known, store.conflicts.count)...] { sightings.append(RarePath(conflict)) }
      return (.applied(outcome, state: store.replicaState), isDurable)
    case .awaitLocal: return (.localAdvanced, false)
    case .rollBack(let cursor, let space, let shipped, let digest, let head):
      let wasRestoring = store.state.isRestoring
      let offered = try store.rollBack(to: cursor, in: space, shipped: shipped, digest: digest, head: head)
      if offered > 0 { sightings.append(.rowsOffered) }
      if wasRestoring { sightings.append(.restoredWhileBringingBack) }
      return (.rolledBack(store.replicaState), true)
    case .becomeNewIncarnation:
      if surroundings.bug != .incarnationKept, try store.becomeNewIncarnation(surroundings.draw()) {
        sightings.append(.confirmedIsPending)
      }
      return (.becameNewIncarnation(store.replicaState), true)
    case .readRestoration(let maximumBytes):
      if surroundings.bug == .restorationForgotten { return (.restorationRead(nil), true) }
      return (.restorationRead(try store.restoration(maximumBytes: maximumBytes)), true)
    case .recordRestored(let version, let declined, let head):
      if !declined.isEmpty { sightings.append(.restorationDeclined) }
      try store.recordRestored(through: version, declined: declined, head: head)
      return (.restorationRecorded(store.replicaState), true)
    case .load(let page):
      sightings.append(.pageLoaded)
      let known = store.conflicts.count
      let (outcome, isDurable) = try store.load(page)
      for conflict in store.conflicts[min(known, store.conflicts.count)...] { sightings.append(RarePath(conflict)) }
      let range = Coverage([page.interval])
      store.saw(deletions: (deletions[page.position.version] ?? [:]).filter { range.contains($0.key.bytes) })
      return (.applied(outcome, state: store.replicaState), isDurable)
    case .lapse:
      sightings.append(.lapsed)
      store.lapse()
      return (.lapsed(store.replicaState), true)
    case .adopt: throw Simulation.Failure("there is one space, and nothing to adopt")
    case .send, .establish, .shipEvery, .notify, .end, .beginAgain, .fail:
      preconditionFailure("not work")
    }
  }

  private func work(_ action: HubSession.Action, _ space: any SimulatedSpace) throws -> HubSession.Event {
    switch action {
    case .open(let hello): return try open(hello, space)
    case .admit(var push, let replica, let confirmed):
      do {
        push.refusals = try surroundings.refusals(push)
        if let applied = try space.progress(of: replica)?.lastApplied, push.segment.after < applied {
          sightings.append(.sentAgain)
        }
        return .admitted(try space.admit(push, from: replica, confirmed: confirmed))
      } catch let error as HubStorageError {
        if case .gap = error { sightings.append(.gap) }
        return .failed(error)
      }
    case .restore(let restoration):
      sightings.append(.broughtBack)
      return .restored(try space.restore(restoration))
    case .read(let request, let maximumBytes):
      do {
        return .read(try space.feed(request, maximumBytes: maximumBytes))
      } catch let error as HubStorageError {
        // Its log has lost what was to come next.
        return .failed(error)
      }
    case .readPage(let interval, let replica, let deletions, let maximumBytes):
      let page = try space.page(of: interval, for: replica, deletions: deletions, maximumBytes: maximumBytes)
      self.deletions[page.position.version] = try space.deletions(at: page.position.version)
      return .page(page)
    case .awaitHead: return .headMoved(try space.head().version)
    case .readRows(let key, let maximumBytes):
      return .rows(try space.rows(after: key, maximumBytes: maximumBytes))
    case .preview(let request, let replica):
      return .previewed(try space.preview(request, excluding: replica))
    case .readHead: return .head(try space.head().version)
    case .send, .establish, .close: preconditionFailure("not work")
    }
  }

  /// As `HubConnection` does it.
  private func open(_ hello: Hello, _ space: any SimulatedSpace) throws -> HubSession.Event {
    var state = try space.state(for: hello)
    if let common = state.common, Handshake.findsHubRestored(hello, state), surroundings.bug != .epochIgnored {
      sightings.append(.newEpoch)
      try space.beginEpoch(surroundings.draw(), after: state.head.identity, through: common.version)
      state = try space.state(for: hello)
    }
    if hello.mode.isSynchronising, Handshake.decide(hello, state) == nil {
      if try surroundings.join(hello.replica) {
        sightings.append(.replaced)
        state = try space.state(for: hello)
      }
      admitted = hello.replica
    }
    return .opened(state)
  }
}

// MARK: - What is seen

extension SimulatedLink {
  private func note(_ message: Message) {
    switch message {
    case .welcome(let welcome):
      if welcome.lastApplied > replica.state.shipped { sightings.append(.decidedUnheard) }
      if !welcome.unconfirmed.isEmpty { sightings.append(.exceptionsToldAgain) }
      if welcome.appliedKind == .commit { sightings.append(.broughtBackByOthers) }
      if case .resume = replica.standing(welcome), replica.state.cursor != nil { sightings.append(.resumed) }
    case .push(let push):
      if push.segment.records.isEmpty { sightings.append(.emptyPush) }
      if push.chargedBytes > hub.configuration.windowBytes { sightings.append(.hubWindowOverdrawn) }
    default: break
    }
  }

  private func note(_ notice: SessionNotice) {
    switch notice {
    case .hubRestored: sightings.append(.hubRestored)
    case .becameNewIncarnation: sightings.append(.newIncarnation)
    default: break
    }
  }

  private func note(_ push: PushSegment, _ maximumBytes: Int) {
    if push.localChanges > push.segment.changeCount { sightings.append(.coalesced) }
    if push.segment.records.count > maximumBytes { sightings.append(.largeCommit) }
  }
}
