// The replica's half of the handshake: it says where it stands, and finds out from the hub's answer what has become of both.
//
// - The hub's copy of what this replica pushed is what its log holds, and the hub has what the replica pulled: resume.
// - The hub has something else of it, or more than its log, or less of what this store has not heard of, because of commits that
//   its log does not have, or was told that this store knows what was declined, and it does not: the store was copied or restored. It
//   goes on as a new incarnation, with a new session.
// - The space is another one than the replica was bound to: an error, unless it is to adopt it (ReplicaSession+Adoption).
// - The hub lacks what the replica had pulled, or had acknowledged: the hub was restored. The replica goes back to what both
//   have, brings back what it had from others, then goes on.
// - The hub knows only from others, who brought them back, of commits of which this replica has not heard: of those before the
//   last, the hub may have found some stale, or refused them, and been restored since. The replica pulls first, and offers
//   again what it does not find there.

import KVLog
import KVProtocol
import KVStore

extension ReplicaSession {
  /// What the hub's answer means.
  enum Standing {
    /// Go on, perhaps in a new epoch.
    case resume
    /// The hub has decided more than this store knows, or says so by one commit only: if its commits there are these.
    case ahead
    /// The hub was restored, and lacks what this store knows of it.
    case hubRestored
    /// What the hub has of this store is not what its log holds.
    case replicaRestored
    case impossible(ReplicatorError)
  }

  mutating func greet() {
    phase = .awaitingWelcome
    let hello = hello
    pull.isWithDeletions = hello.wantsDeletions
    actions.append(.send(.hello(hello)))
  }

  var hello: Hello {
    var hello = Hello(
      mode: configuration.mode.union(configuration.adopts ? .adopt : []), replica: state.identity,
      space: configuration.space, cursor: cursor,
      lastVersion: state.local.version,
      shipped: Position(identity: state.identity, version: state.shipped, digest: state.shippedDigest),
      token: configuration.token)
    hello.positions = state.hubPositions
    hello.cursorSpace = state.hubSpace
    hello.credit = pull.credit
    hello.covered = state.covered
    if configuration.mode.contains(.pull) { hello.missing = state.missing }
    hello.wantsDeletions = state.pendingChanges > 0
    hello.ownThrough = state.ownThrough
    return hello
  }

  /// A store that has pushed and never pulled knows the hub's epoch, and its history through nothing.
  private var cursor: Position? {
    guard let cursor = state.cursor, cursor.version == 0 else { return state.cursor }
    return .start(of: cursor.identity)
  }

  mutating func check(_ welcome: Welcome) {
    guard welcome.credit > 0, welcome.credit <= ProtocolLimits.maximumCredit else {
      return violation("it grants a credit of \(welcome.credit) bytes to begin with")
    }
    guard welcome.confirmed <= welcome.lastApplied else {
      return violation(
        "it says that version \(welcome.confirmed) was confirmed, and has decided \(welcome.lastApplied)")
    }
    guard !isForeign(welcome), !state.isAdopting else { return adopt(welcome) }
    guard areAcceptable(welcome.acknowledgement, after: state.shipped) else { return }
    epoch = welcome.head.identity
    head = welcome.head.version
    fedHead = head
    promise = HubPromise(welcome)
    push.credit = welcome.credit
    actions.append(.establish(outboundFrameBytes: welcome.maximumFrameBytes))
    if welcome.mayRefuse { actions.append(.shipEvery) }
    // What the hub feeds begins there, whatever has to be done before it can be applied.
    let isWithDeletions = pull.isWithDeletions
    pull = InboundFeed(cursor: welcome.common.version, credit: pull.credit)
    pull.isWithDeletions = isWithDeletions
    guard welcome.covered.isEmpty || welcome.covered == state.covered else {
      return violation("it goes on with other keys than are here")
    }
    pull.covered = welcome.covered
    pull.hasLapsed = configuration.mode.contains(.pull) && welcome.covered != state.covered
    pull.missing = state.missing.union(state.covered).subtracting(welcome.covered)
    goOn(from: welcome)
  }

  private mutating func goOn(from welcome: Welcome) {
    let isBound = state.cursor?.identity == epoch && state.hubSpace == welcome.space
    switch standing(welcome) {
    case .resume where !isBound, .ahead where !isBound:
      // Nothing was lost: only the name of the space, or its epoch, is new.
      rollBack(welcome, onward: welcome)
    case .resume: begin()
    case .impossible(let error): end(error)
    case .replicaRestored: becomeNewIncarnation()
    case .ahead, .hubRestored:
      // Before it is believed, what the hub has of our history must be ours.
      phase = .checkingDigest(welcome)
      actions.append(.readDigest(Claim(welcome, shipped: state.shipped)))
    }
  }

  func standing(_ welcome: Welcome) -> Standing {
    guard ProtocolLimits.versions.contains(welcome.protocolVersion), welcome.codec == 0 else {
      return .impossible(
        ReplicatorError(
          .unsupported, "the hub chose a protocol or codec that was not offered. Upgrade the older side."))
    }
    let cursor = state.cursor?.version ?? 0
    guard welcome.common.version <= min(cursor, welcome.head.version) else {
      return .impossible(
        ReplicatorError(
          .protocolViolation,
          "the hub takes version \(welcome.common.version) for known here, and this store has pulled \(cursor). Upgrade "
            + "the older side."))
    }
    guard welcome.lastApplied <= state.local.version, welcome.isConfirmed(through: state.shipped) else {
      return .replicaRestored
    }
    guard Claim(welcome, shipped: state.shipped).horizon.version <= state.local.version else { return .replicaRestored }
    let isSame = welcome.appliedDigest == state.shippedDigest || welcome.appliedKind == .commit
    guard welcome.lastApplied != state.shipped || isSame else { return .replicaRestored }
    if welcome.common.version < cursor || proven(welcome) < state.shipped { return .hubRestored }
    let isProven = welcome.appliedKind == .log || welcome.lastApplied == 0
    return welcome.lastApplied > state.shipped || !isProven ? .ahead : .resume
  }

  /// Through which version of this store's log the hub surely has what it has decided. What others brought back says so of the last
  /// commit only: their logs may have begun in the middle. Then it is what the hub had when it was where both have the same, unless
  /// nothing was lost since the hub said so itself.
  private func proven(_ welcome: Welcome) -> Version {
    let isAsBefore = state.cursor?.identity == welcome.head.identity && state.cursor?.version == welcome.common.version
    return welcome.appliedKind == .log || isAsBefore
      ? welcome.lastApplied : min(welcome.lastApplied, state.covered(at: welcome.common.version))
  }

  /// What this log has where the hub has decided this store's commits; nil: the log no longer reaches there.
  mutating func compare(_ found: FoundDigest?, _ localChanges: Int, _ localBytes: Int) {
    guard case .checkingDigest(let welcome) = phase else { return }
    // What is acknowledged may be gone from the log; what is not cannot be.
    let isUnknown = found == nil && welcome.lastApplied <= state.shipped
    guard isUnknown || found?.isAsClaimed == true else { return becomeNewIncarnation() }
    guard case .ahead = standing(welcome) else { return rollBack(welcome, found) }
    guard welcome.lastApplied > state.shipped, let digest = found?.log else { return begin() }
    push.sentThrough = welcome.lastApplied
    push.decidedThrough = welcome.lastApplied
    let decision = OutboundPush.Decision(
      acknowledgement: welcome.acknowledgement, digest: digest, localChanges: localChanges, localBytes: localBytes,
      isUnproven: welcome.appliedKind == .commit)
    if !decision.isUnproven {
      push.note(decision)
    } else if configuration.mode.contains(.pull) {
      push.unproven = decision
    } else {
      return end(
        ReplicatorError(
          .hubRestored,
          "the hub was restored to an older state, and has commits of this store from other replicas: synchronise once in both "
            + "directions, to find out which."))
    }
    begin()
  }

  // MARK: A copy

  mutating func becomeNewIncarnation() {
    phase = .becomingNewIncarnation
    actions.append(.becomeNewIncarnation)
  }

  mutating func becameNewIncarnation(_ state: ReplicaState) {
    actions.append(.notify(.becameNewIncarnation(state.identity)))
    leaveAndBeginAgain()
  }

  // MARK: A hub that was restored

  private mutating func rollBack(_ welcome: Welcome, _ found: FoundDigest? = nil, onward: Welcome? = nil) {
    phase = .rollingBack(onward: onward)
    let shipped = min(proven(welcome), state.shipped)
    if welcome.common.version < state.cursor?.version ?? 0 || shipped < state.shipped {
      let known = state.cursor?.version ?? 0
      actions.append(
        .notify(
          .hubRestored(
            HubRestoration(
              local: shipped < state.shipped ? shipped + 1...state.shipped : nil,
              server: welcome.common.version < known ? welcome.common.version + 1...known : nil))))
    }
    actions.append(
      .rollBack(
        to: Position(identity: epoch, version: welcome.common.version, digest: welcome.common.digest),
        in: welcome.space, shipped: shipped,
        digest: shipped == state.shipped
          ? state.shippedDigest : shipped == welcome.lastApplied ? found?.log ?? welcome.appliedDigest : nil,
        head: welcome.head.version))
  }

  /// Both sides have a history in common again: the next session goes on from there. This one does if nothing but the name
  /// of the space or the epoch was new.
  mutating func rolledBack(_ state: ReplicaState) {
    if case .rollingBack(let welcome?) = phase {
      self.state = state
      precondition(state.cursor?.identity == epoch && state.hubSpace == welcome.space, "the store follows the epoch")
      return goOn(from: welcome)
    }
    leaveAndBeginAgain()
  }

  /// What a hub lost that was restored comes first; everything else would be judged without it.
  private mutating func begin() {
    guard state.isRestoring else {
      return pull.hasLapsed ? lapse() : open()
    }
    // What is brought back goes on where it was.
    if budget.isPausing { return leave() }
    guard configuration.mode.contains(.push) else {
      return end(
        ReplicatorError(
          .hubRestored,
          "the hub was restored to an older state, and this store has what it lost: synchronise once in both directions."
        ))
    }
    phase = .restoring
    actions.append(.readRestoration(maximumBytes: configuration.segmentBytes))
  }

  mutating func restorationRead(_ restoration: Restoration?) {
    guard case .restoring = phase else { return }
    guard let restoration else { return actions.append(.recordRestored(through: nil, declined: [], head: 0)) }
    restoringThrough = restoration.segment.through
    actions.append(.send(.restore(Restore(segment: restoration.segment, cursor: restoration.cursor))))
  }

  mutating func receive(_ restored: Restored) {
    guard case .restoring = phase, let through = restoringThrough, restored.through == through else {
      return violation("it answers a restore that is not under way")
    }
    restoringThrough = nil
    actions.append(.recordRestored(through: through, declined: restored.declined, head: restored.head))
  }

  mutating func restorationRecorded(_ state: ReplicaState) {
    guard case .restoring = phase else { return }
    self.state = state
    target = max(target, state.local.version)
    // What was brought back may be this store's: then the hub has decided more than it said.
    if state.isRestoring { begin() } else { leaveAndBeginAgain() }
  }

  mutating func open() {
    phase = .open
    proceed()
  }
}
