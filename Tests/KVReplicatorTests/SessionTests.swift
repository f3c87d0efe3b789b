// The course of a replica's session: what it sends, waits for, records and does not put up with.

import KVLog
import KVProtocol
import Testing

@testable import KVReplicator
@testable import KVStore

@Suite struct SessionTests {
  @Test("Pushes go out without waiting for decisions, as far as credit goes; the next run is read meanwhile")
  func pipeline() throws {
    var script = SessionScript(mode: .push, SessionScript.write(10))
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
    var script = SessionScript(mode: .push, windowBytes: windowBytes, segmentBytes: 400, SessionScript.write(200))
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
    var script = SessionScript(SessionScript.write(2))
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
    script.tell(.received(SessionScript.feed(after: 0, through: 5)))
    let index = try #require(script.work.firstIndex { if case .apply = $0 { true } else { false } })
    guard case .apply(let run, let epoch) = script.work.remove(at: index) else { return }
    script.tell(.applied(try script.store.apply(run, epoch: epoch).0, state: script.store.replicaState))
    script.answerReads()
    #expect(script.pushes.map(\.segment.through) == [1, 2, 3])
    #expect(script.pushes.last?.cursor == 5)
  }

  @Test("A one-shot session ends though the program goes on writing")
  func endsBesideWriter() throws {
    var script = SessionScript(mode: .push, SessionScript.write(3))
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
    var script = SessionScript(isLive: true)
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

  @Test(
    "What the protocol does not allow ends the session, and the hub is told why",
    arguments: [
      SessionScript.feed(after: 1, through: 2),
      SessionScript.feed(after: 0, through: 0),
      SessionScript.feed(after: 0, through: 2, records: [1, 2, 3], changes: 1),
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
    var script = SessionScript { store in
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
    var script = SessionScript(mode: .pull, isLive: true, windowBytes: 100)
    script.tell(.received(.welcome(script.welcome)))
    script.tell(.received(SessionScript.feed(after: 0, through: 1)))
    script.tell(.received(SessionScript.feed(after: 1, through: 2)))
    script.tell(.received(SessionScript.feed(after: 2, through: 3)))
    #expect(script.ending == nil)
    script.tell(.received(SessionScript.feed(after: 3, through: 4)))
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
      var script = SessionScript { store in
        store.state.subscription = Subscription()
        store.state.subscription.want([bytes("a/"), bytes("c/")], at: 0)
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
    var script = SessionScript()
    var welcome = script.welcome
    welcome.covered = Coverage(prefixes: [bytes("a/")])
    script.tell(.received(.welcome(welcome)))
    #expect(script.code == .protocolViolation)
  }

  @Test("A hub that claims any number of versions is believed it, and nothing overflows")
  func countlessVersions() {
    var script = SessionScript(SessionScript.write(3))
    var welcome = script.welcome
    welcome.head = Position(identity: script.epoch, version: .max, digest: .zero)
    script.tell(.received(.welcome(welcome)))
    let standing = script.session.standing(since: 0)
    #expect(standing.remaining > 3 && standing.remaining < .max / 4)
    script.tell(.received(SessionScript.feed(after: 0, through: .max)))
    #expect(script.ending == nil && script.session.remainingServerVersions == .max)
  }

  @Test("A silent hub is asked once, then given up; a refusal and a goodbye end the session with what they mean")
  func endings() {
    var script = SessionScript(isLive: true)
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
      var refused = SessionScript()
      refused.tell(.received(.refuse(Refusal(refusal, "why"))))
      #expect(refused.code == code && (refused.ending ?? nil)?.isTransient == isTransient)
    }
    var gone = SessionScript(isLive: true)
    gone.tell(.received(.welcome(gone.welcome)))
    gone.tell(.received(.goodbye))
    #expect(gone.code == .unavailable)
  }

  @Test("What the store was recording when the session was refused was done, and is reported")
  func reportOfTheLast() throws {
    var script = SessionScript(SessionScript.write(2))
    script.tell(.received(.welcome(script.welcome)))
    script.tell(.received(.credit(1 << 20)))
    script.answerReads()
    script.tell(.received(.acknowledgement(Acknowledgement(through: 1, exceptions: [], head: 1))))
    script.tell(.received(.refuse(Refusal(.storageFull, "full"))))
    #expect(script.code == .hubFull && script.session.report.pushedChanges == 0)
    try script.record()
    #expect(script.session.report.pushedChanges == 1)
  }
}
