// The replica's session by itself, told by a script what the hub says and what the store answers.

import KVLog
import KVProtocol
import Testing

@testable import KVReplicator
@testable import KVStore

/// A session and the answers of its store; what it sends is collected.
private struct Script {
  var store = ModelStore(identity: Identity(high: 1, low: 1))
  let epoch = Identity(high: 9, low: 9)
  var session: ReplicaSession
  var sent: [Message] = []
  var work: [ReplicaSession.Action] = []
  var ending: ReplicatorError??
  private var unsent = 0
  /// The space was new to the store.
  private var isBound = false
  /// Whether the socket takes everything at once.
  var socketTakesAll = true

  init(
    mode: SessionMode = [.push, .pull], isLive: Bool = false, windowBytes: Int = 1 << 20, segmentBytes: Int = 1,
    _ prepare: (inout ModelStore) -> Void = { _ in }
  ) {
    prepare(&store)
    var configuration = ReplicaSession.Configuration(space: "space", mode: mode, isLive: isLive)
    configuration.windowBytes = windowBytes
    configuration.segmentBytes = segmentBytes
    session = ReplicaSession(configuration, state: store.replicaState)
    tell(.connected)
  }

  mutating func tell(_ event: ReplicaSession.Event) {
    for action in session.handle(event) {
      switch action {
      case .send(let message):
        sent.append(message)
        if socketTakesAll, case .push(let push) = message { unsent += push.chargedBytes }
      case .end(let error): ending = .some(error)
      case .establish, .notify, .beginAgain, .fail: break
      case .rollBack(let cursor, let space, let shipped, _, _) where store.state.hubEpoch == .zero:
        store.follow(cursor, in: space, shipped: shipped)
        isBound = true
      default: work.append(action)
      }
    }
    if isBound {
      isBound = false
      tell(.rolledBack(store.replicaState))
    }
    if unsent > 0 {
      let bytes = unsent
      unsent = 0
      tell(.pushSent(bytes: bytes))
    }
  }

  var welcome: Welcome {
    Welcome(
      space: epoch, head: .start(of: epoch), lastApplied: 0, appliedDigest: .origin(of: store.identity),
      common: .start(of: epoch), unconfirmed: [], retentionFloor: 0)
  }

  /// Answers reads of the log until none is asked for, or so many.
  mutating func answerReads(_ limit: Int = .max) {
    var count = 0
    while count < limit, let index = work.firstIndex(where: { if case .readPush = $0 { true } else { false } }) {
      guard case .readPush(let after, let maximumBytes) = work.remove(at: index) else { return }
      count += 1
      let state = store.replicaState
      tell(.pushRead(store.nextPush(after: after, maximumBytes: maximumBytes), state: state))
    }
  }

  /// Records the decision that is to be recorded.
  mutating func record() throws {
    let index = try #require(work.firstIndex { if case .acknowledge = $0 { true } else { false } })
    guard case .acknowledge(let decision, let epoch) = work.remove(at: index) else { return }
    let (outcome, _) = try store.acknowledge(
      decision.acknowledgement, digest: decision.digest, localChanges: decision.localChanges, epoch: epoch,
      isUnproven: decision.isUnproven)
    tell(.acknowledged(outcome, state: store.replicaState))
  }

  var pushes: [Push] { sent.compactMap { if case .push(let push) = $0 { push } else { nil } } }
  var code: ReplicatorError.Code? { (ending ?? nil)?.code }
  var saysGoodbye: Bool { sent.last == .goodbye }
}

private func write(_ count: Int) -> (inout ModelStore) -> Void {
  { store in
    for number in 0..<count { store.write([ModelStore.Change(key: [UInt8(number)], value: [1])], clock: 1) }
  }
}

private func feed(after: Version, through: Version, records: [UInt8] = [], changes: Int = 0) -> Message {
  .feed(
    Feed(
      segment: CommitSegment(after: after, through: through, digest: .zero, records: records, changeCount: changes),
      head: through))
}

@Suite struct SessionTests {
  @Test("Pushes go out without waiting for decisions, as far as credit goes; the next run is read meanwhile")
  func pipeline() throws {
    var script = Script(mode: .push, write(10))
    var welcome = script.welcome
    welcome.credit = 400
    script.tell(.received(.welcome(welcome)))
    script.answerReads()
    let sent = script.pushes
    #expect(sent.count > 1 && sent.count < 10)
    #expect(sent.dropLast().reduce(0) { $0 + $1.chargedBytes } < 400, "only the last one may overdraw")
    #expect(script.session.push.held != nil, "the next run is at hand when credit comes")
    let last = try #require(sent.last)
    script.tell(.received(.acknowledgement(Acknowledgement(through: last.segment.through, exceptions: [], head: 1))))
    try script.record()
    script.tell(.received(.credit(10_000)))
    script.answerReads()
    #expect(script.pushes.count == 10)
    #expect(script.pushes.last?.confirmed == last.segment.through)
    #expect(script.ending == nil)
    script.tell(.received(.acknowledgement(Acknowledgement(through: 10, exceptions: [], head: 10))))
    #expect(script.ending == nil, "a decision counts when it is recorded")
    try script.record()
    #expect(script.ending == .some(nil) && script.saysGoodbye)
    #expect(script.session.report.pushedChanges == 10)
  }

  @Test("However much credit the hub grants, about two runs wait for the socket", arguments: [500, 1 << 20])
  func unsentBytes(windowBytes: Int) {
    var script = Script(mode: .push, windowBytes: windowBytes, segmentBytes: 400, write(200))
    script.socketTakesAll = false
    script.tell(.received(.welcome(script.welcome)))
    script.answerReads()
    let waiting = script.pushes.reduce(0) { $0 + $1.chargedBytes }
    #expect(waiting >= min(windowBytes, 400) && waiting < min(windowBytes, 400) + 500)
    #expect(script.session.push.held != nil && script.work.isEmpty)
    script.tell(.pushSent(bytes: waiting))
    script.answerReads()
    #expect(script.pushes.reduce(0) { $0 + $1.chargedBytes } > waiting)
  }

  @Test("What is read while a stale commit is being recorded is read again once the cursor has reached its hold")
  func settling() throws {
    var script = Script(write(2))
    var welcome = script.welcome
    welcome.head.version = 5
    script.tell(.received(.welcome(welcome)))
    script.answerReads(1)
    let stale = CommitException(version: 1, reason: .stale(hubVersion: 5))
    script.tell(.received(.acknowledgement(Acknowledgement(through: 1, exceptions: [stale], head: 5))))
    // The read that was under way is answered while the decision is being recorded.
    script.answerReads()
    #expect(script.pushes.count == 1 && script.session.push.held == nil)
    try script.record()
    script.answerReads()
    #expect(script.pushes.count == 1, "held back")
    script.tell(.received(feed(after: 0, through: 5)))
    let index = try #require(script.work.firstIndex { if case .apply = $0 { true } else { false } })
    guard case .apply(let run, let epoch) = script.work.remove(at: index) else { return }
    script.tell(.applied(try script.store.apply(run, epoch: epoch).0, state: script.store.replicaState))
    script.answerReads()
    #expect(script.pushes.map(\.segment.through) == [1, 2, 3])
    #expect(script.pushes.last?.cursor == 5)
  }

  @Test("A one-shot session ends though the program goes on writing")
  func endsBesideWriter() throws {
    var script = Script(mode: .push, write(3))
    script.tell(.received(.welcome(script.welcome)))
    for round in 0..<20 where script.ending == nil {
      script.store.write([ModelStore.Change(key: [100], value: [UInt8(round)])], clock: 3)
      script.answerReads()
      guard let last = script.pushes.last?.segment.through else { break }
      script.tell(.received(.acknowledgement(Acknowledgement(through: last, exceptions: [], head: last))))
      try script.record()
    }
    #expect(script.ending == .some(nil))
  }

  @Test("A live session waits for local commits, pushes them, and goes on; held back, it does not spin")
  func live() throws {
    var script = Script(isLive: true)
    script.tell(.received(.welcome(script.welcome)))
    script.answerReads()
    guard case .awaitLocal(beyond: 0) = script.work.removeFirst() else { throw Simulation.Failure("nobody waits") }
    script.store.write([ModelStore.Change(key: [1], value: [1])], clock: 1)
    script.tell(.localAdvanced)
    script.answerReads()
    #expect(script.pushes.count == 1)
    let waits = script.work.filter { if case .awaitLocal(beyond: 1) = $0 { true } else { false } }
    #expect(waits.count == 1)
    script.tell(
      .received(
        .acknowledgement(
          Acknowledgement(
            through: 1, exceptions: [CommitException(version: 1, reason: .stale(hubVersion: 4))], head: 4))))
    try script.record()
    script.work = []
    script.tell(.localAdvanced)
    #expect(script.work.isEmpty && script.ending == nil, "nothing to do until the feed comes")
  }

  @Test("Each way in which a hub and a replica cannot go together ends the session with the error that names it")
  func mismatches() {
    func code(
      _ prepare: @escaping (inout ModelStore) -> Void = { _ in }, _ change: (inout Welcome, ModelStore) -> Void
    ) -> ReplicatorError.Code? {
      var script = Script(prepare)
      var welcome = script.welcome
      change(&welcome, script.store)
      script.tell(.received(.welcome(welcome)))
      return script.code
    }
    let shipped: (inout ModelStore) -> Void = { store in
      write(3)(&store)
      _ = try! store.acknowledge(
        Acknowledgement(through: 2, exceptions: [], head: 2), digest: store.digest(at: 2)!, localChanges: 2,
        epoch: Identity(high: 9, low: 9))
      store.state.cursor = 2
    }
    func resume(_ welcome: inout Welcome, _ store: ModelStore) {
      welcome.head.version = 2
      welcome.lastApplied = 2
      welcome.appliedDigest = store.digest(at: 2)!
      welcome.common.version = 2
    }
    #expect(code(shipped) { resume(&$0, $1) } == nil)
    #expect(code { welcome, _ in welcome.protocolVersion = 9 } == .unsupported)
    #expect(code { welcome, _ in welcome.codec = 1 } == .unsupported)
    #expect(
      code(shipped) {
        resume(&$0, $1); $0.common.version = 3
      } == .protocolViolation)
    #expect(code { welcome, _ in welcome.credit = 0 } == .protocolViolation)
  }

  @Test("What the hub's answer shows of a copy, or of a hub that was restored, is mended before anything else")
  func mending() {
    let epoch = Identity(high: 9, low: 9)
    func first(_ change: (inout Welcome) -> Void) -> ReplicaSession.Action? {
      var script = Script { store in
        write(3)(&store)
        _ = try! store.acknowledge(
          Acknowledgement(through: 2, exceptions: [], head: 2), digest: store.digest(at: 2)!, localChanges: 2,
          epoch: epoch)
        store.state.cursor = 2
        store.state.hubSpace = epoch
      }
      var welcome = script.welcome
      welcome.head.version = 2
      welcome.head.identity = epoch
      welcome.common = Position(identity: epoch, version: 2, digest: .zero)
      welcome.lastApplied = 2
      welcome.appliedDigest = script.store.digest(at: 2)!
      change(&welcome)
      script.tell(.received(.welcome(welcome)))
      return script.work.first
    }
    func isNewIncarnation(_ action: ReplicaSession.Action?) -> Bool {
      if case .becomeNewIncarnation = action { true } else { false }
    }
    #expect(isNewIncarnation(first { $0.appliedDigest = Digest(high: 6, low: 6) }))
    #expect(isNewIncarnation(first { $0.lastApplied = 4 }))
    let proof = first { welcome in
      welcome.appliedDigest = .zero
      welcome.appliedKind = .commit
    }
    if case .readDigest(let claim) = proof, claim.version == 2, claim.kind == .commit {
    } else {
      Issue.record("one commit of it is not looked at")
    }
    // What it left out for a commit that is not here it would never get. Of what this store has heard, it heard with that.
    #expect(!isNewIncarnation(first { $0.horizon = Horizon(version: 4, digest: .zero) }))
    #expect(
      isNewIncarnation(
        first { welcome in
          welcome.lastApplied = 3
          welcome.horizon = Horizon(version: 4, digest: .zero)
        }))
    for change in [{ $0.lastApplied = 1 }, { $0.common.version = 1 }] as [(inout Welcome) -> Void] {
      if case .readDigest = first(change) {} else { Issue.record("a hub that lacks something was not looked at") }
    }
    let other = Identity(high: 3, low: 3)
    let moved = first { welcome in
      welcome.head.identity = other
      welcome.common = Position(identity: other, version: 2, digest: .zero)
    }
    guard case .rollBack(let cursor, epoch, 2, _, _) = moved else {
      Issue.record("a new epoch is not followed")
      return
    }
    #expect(cursor.identity == other && cursor.version == 2)
  }

  @Test(
    "A store that has not heard of what it once confirmed was put back, unless others brought that to the hub",
    arguments: [0, 2, 3] as [Version])
  func confirmed(through version: Version) throws {
    for kind in [ReplicaProgress.DigestKind.log, .commit] {
      var script = Script(write(3))
      var welcome = script.welcome
      welcome.head.version = 3
      welcome.lastApplied = 3
      welcome.appliedDigest = script.store.digest(at: 3)!
      welcome.appliedKind = kind
      welcome.confirmed = version
      script.tell(.received(.welcome(welcome)))
      let isPutBack = if case .becomeNewIncarnation = script.work.first { true } else { false }
      #expect(isPutBack == (version > 0 && kind == .log))
    }
  }

  @Test("A hub that has decided more than it told is believed only if its digest is that of the log")
  func lostAcknowledgement() throws {
    for isSame in [true, false] {
      var script = Script(write(3))
      var welcome = script.welcome
      welcome.head.version = 2
      welcome.lastApplied = 2
      welcome.appliedDigest = isSame ? script.store.digest(at: 2)! : Digest(high: 6, low: 6)
      script.tell(.received(.welcome(welcome)))
      guard case .readDigest(let claim) = script.work.removeFirst(), claim == .init(welcome, shipped: 0) else {
        throw Simulation.Failure("no digest is read")
      }
      // What the hub feeds meanwhile waits.
      script.tell(.received(feed(after: 0, through: 2)))
      #expect(script.work.isEmpty)
      script.tell(
        .digest(
          .init(log: script.store.digest(at: 2)!, isAsClaimed: isSame), localChanges: 2, localBytes: 0
        ))
      guard isSame else {
        guard case .becomeNewIncarnation = script.work.first else { throw Simulation.Failure("it goes on as it was") }
        continue
      }
      guard case .acknowledge = script.work.first else {
        throw Simulation.Failure("the decision is not recorded first")
      }
      try script.record()
      script.answerReads()
      #expect(script.pushes.map(\.segment.after) == [2])
    }
  }

  @Test(
    "What the protocol does not allow ends the session, and the hub is told why",
    arguments: [
      feed(after: 1, through: 2),
      feed(after: 0, through: 0),
      feed(after: 0, through: 2, records: [1, 2, 3], changes: 1),
      .acknowledgement(Acknowledgement(through: 1, exceptions: [], head: 1)),
      .acknowledgement(
        Acknowledgement(through: 2, exceptions: [CommitException(version: 3, reason: .stale(hubVersion: 1))], head: 1)),
      .acknowledgement(
        Acknowledgement(through: 2, exceptions: [CommitException(version: 2, reason: .stale(hubVersion: 2))], head: 1)),
      .acknowledgement(
        Acknowledgement(
          through: 2,
          exceptions: [2, 2].map { CommitException(version: $0, reason: .stale(hubVersion: 1)) }, head: 1)),
      .acknowledgement(
        Acknowledgement(
          through: 2,
          exceptions: [2, 1].map { CommitException(version: $0, reason: .stale(hubVersion: 1)) }, head: 1)),
      .credit(0), .credit(ProtocolLimits.maximumCredit), .credit(.max),
      .rows(Rows(version: 0, digest: .zero, rows: [], isLast: true)),
      .push(
        Push(
          segment: CommitSegment(after: 0, through: 1, digest: .zero, records: [], changeCount: 0), cursor: 0,
          confirmed: 0)),
    ])
  func violations(message: Message) {
    var script = Script { store in
      store.write(
        [ModelStore.Change(key: [1], value: [1]), ModelStore.Change(key: [2], value: [1])], clock: 1)
      store.write([ModelStore.Change(key: [1], value: [2])], clock: 1)
    }
    script.tell(.received(.welcome(script.welcome)))
    // A run that ends at version 2 is in flight.
    script.work = []
    let push = script.store.nextPush(after: 0, maximumBytes: 1 << 20)
    script.tell(.pushRead(push, state: script.store.replicaState))
    script.tell(.received(message))
    #expect(script.code == .protocolViolation)
    guard case .refuse(let refusal)? = script.sent.last else {
      Issue.record("the hub is not told")
      return
    }
    #expect(refusal.code == .violation && !refusal.message.isEmpty)
  }

  @Test("A hub that feeds more than it was granted is stopped")
  func feedWithoutCredit() {
    var script = Script(mode: .pull, isLive: true, windowBytes: 100)
    script.tell(.received(.welcome(script.welcome)))
    script.tell(.received(feed(after: 0, through: 1)))
    script.tell(.received(feed(after: 1, through: 2)))
    script.tell(.received(feed(after: 2, through: 3)))
    #expect(script.ending == nil)
    script.tell(.received(feed(after: 3, through: 4)))
    #expect(script.code == .protocolViolation)
  }

  @Test("A hub whose page skips missing keys or brings others, or that feeds other keys than are here, is stopped")
  func keysThatDoNotFit() {
    func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }
    let expected: [(pages: [KeyInterval], code: ReplicatorError.Code?)] = [
      ([KeyInterval(from: bytes("a/"), end: bytes("a/5"))], nil),
      ([KeyInterval(prefix: bytes("a/")), KeyInterval(prefix: bytes("c/"))], nil),
      ([KeyInterval(prefix: bytes("a/")), KeyInterval(prefix: bytes("a/"))], .protocolViolation),
      ([KeyInterval(prefix: bytes("c/"))], .protocolViolation),
      ([KeyInterval(from: bytes("a/"), end: bytes("b"))], .protocolViolation),
    ]
    for (pages, code) in expected {
      var script = Script { store in
        store.state.subscription = Subscription()
        store.state.subscription.want([bytes("a/"), bytes("c/")])
      }
      var welcome = script.welcome
      welcome.covered = .none
      script.tell(.received(.welcome(welcome)))
      #expect(script.ending == nil)
      for interval in pages {
        let snapshot = SnapshotPage(position: .start(of: script.epoch), interval: interval, record: [])
        script.tell(.received(.page(Page(snapshot: snapshot, head: 0))))
      }
      #expect(script.code == code, "\(pages)")
    }
    var script = Script()
    var welcome = script.welcome
    welcome.covered = Coverage(prefixes: [bytes("a/")])
    script.tell(.received(.welcome(welcome)))
    #expect(script.code == .protocolViolation)
  }

  @Test("A hub that claims any number of versions is believed it, and nothing overflows")
  func countlessVersions() {
    var script = Script(write(3))
    var welcome = script.welcome
    welcome.head = Position(identity: script.epoch, version: .max, digest: .zero)
    script.tell(.received(.welcome(welcome)))
    let standing = script.session.standing(since: 0)
    #expect(standing.remaining > 3 && standing.remaining < .max / 4)
    script.tell(.received(feed(after: 0, through: .max)))
    #expect(script.ending == nil && script.session.remainingServerVersions == .max)
  }

  @Test("A silent hub is asked once, then given up; a refusal and a goodbye end the session with what they mean")
  func endings() {
    var script = Script(isLive: true)
    script.tell(.received(.welcome(script.welcome)))
    script.sent = []
    script.tell(.tick(silence: .seconds(5)))
    #expect(script.sent.isEmpty)
    script.tell(.tick(silence: .seconds(11)))
    script.tell(.tick(silence: .seconds(16)))
    #expect(script.sent == [.ping(1)])
    script.tell(.received(.ping(77)))
    #expect(script.sent.last == .pong(77))
    script.tell(.tick(silence: .seconds(30)))
    #expect(script.code == .unreachable)
    #expect((script.ending ?? nil)?.message.contains("for 30 s") == true)
    script.tell(.received(.ping(78)))
    #expect(script.sent.last == .pong(77), "an ended session says nothing")

    for (refusal, code, isTransient) in [
      (RefusalCode.storageFull, ReplicatorError.Code.hubFull, true), (.storageFailed, .unavailable, true),
      (.validationFailed, .unavailable, true),
      (.busy, .unavailable, true), (.storageCorrupt, .hubCorrupt, false), (.unknownSpace, .unknownSpace, false),
      (.invalidSpaceName, .invalidSpace, false), (.hubRestored, .hubRestored, false),
    ] {
      var refused = Script()
      refused.tell(.received(.refuse(Refusal(refusal, "why"))))
      #expect(refused.code == code && (refused.ending ?? nil)?.isTransient == isTransient)
    }
    var gone = Script(isLive: true)
    gone.tell(.received(.welcome(gone.welcome)))
    gone.tell(.received(.goodbye))
    #expect(gone.code == .unavailable)
  }

  @Test("What the store was recording when the session was refused was done, and is reported")
  func reportOfTheLast() throws {
    var script = Script(write(2))
    script.tell(.received(.welcome(script.welcome)))
    script.tell(.received(.credit(1 << 20)))
    script.answerReads()
    script.tell(.received(.acknowledgement(Acknowledgement(through: 1, exceptions: [], head: 1))))
    script.tell(.received(.refuse(Refusal(.storageFull, "full"))))
    #expect(script.code == .hubFull && script.session.report.pushedChanges == 0)
    try script.record()
    #expect(script.session.report.pushedChanges == 1)
  }

  @Test("A store that has only pushed greets with the start of the hub's history")
  func cursorOfPushOnly() throws {
    let script = Script { store in
      write(1)(&store)
      _ = try! store.acknowledge(
        Acknowledgement(through: 1, exceptions: [], head: 1), digest: store.digest(at: 1)!, localChanges: 1,
        epoch: Identity(high: 9, low: 9))
    }
    guard case .hello(let hello)? = script.sent.first else { throw Simulation.Failure("no hello") }
    #expect(hello.cursor == .start(of: Identity(high: 9, low: 9)))
    #expect(hello.shipped.version == 1)
  }
}
