import HubTestSupport
import KVHub
import KVLog
import KVProtocol
import TestSupport
import Testing

/// A session without a shell: the test says what happens and looks at what the session wants.
struct Driver {
  var session: HubSession
  var done: [HubSession.Action] = []

  init() {
    session = HubSession(HubSession.Configuration())
  }

  /// The actions that the event leads to, in words.
  @discardableResult
  mutating func callAsFunction(_ event: HubSession.Event) -> [String] {
    let actions = session.handle(event)
    done += actions
    return actions.map(Self.words)
  }

  static func words(_ action: HubSession.Action) -> String {
    switch action {
    case .send(.feed(let feed)): "feed \(feed.segment.after)-\(feed.segment.through)"
    case .send(.acknowledgement(let acknowledgement)): "acknowledgement \(acknowledgement.through)"
    case .send(.credit(let bytes)): "credit \(bytes)"
    case .send(.refuse(let refusal)): "refuse \(refusal.code.rawValue)"
    case .send(let message): "\(message.kind)"
    case .open: "open"
    case .establish: "establish"
    case .admit(let push, _, _): "admit \(push.segment.after)-\(push.segment.through)"
    case .restore(let restoration): "restore \(restoration.segment.after)-\(restoration.segment.through)"
    case .read(let request, _): "read \(request.after)"
    case .readPage(let interval, _, _, _): "page \(interval.from)"
    case .awaitHead(let version): "await \(version)"
    case .readRows: "readRows"
    case .preview: "preview"
    case .readHead: "readHead"
    case .close: "close"
    }
  }

  /// A session past its handshake, of a replica that has pulled everything of a space with so many versions.
  static func open(_ replica: TestReplica, _ mode: SessionMode, head: Version = 0, credit: Int = 1 << 20) -> Driver {
    var driver = Driver()
    let epoch = Identity.random()
    let head = Position(identity: epoch, version: head, digest: .zero)
    var hello = replica.hello(mode, cursor: head)
    hello.credit = credit
    driver(.received(.hello(hello)))
    driver(.opened(SpaceState(head: head, retentionFloor: 0, progress: nil, common: head)))
    return driver
  }
}

func feedOf(after: Version, through: Version, bytes: Int = 100) -> CommitSegment {
  CommitSegment(
    after: after, through: through, digest: .zero, records: [UInt8](repeating: 0, count: bytes), changeCount: 1)
}

@Suite struct HubSessionTests {
  static func replica(commits: Int = 9) -> TestReplica {
    var replica = TestReplica()
    for count in 0..<commits { replica.put("k\(count)", "v") }
    return replica
  }

  static func push(_ replica: TestReplica, _ after: Version, _ through: Version, cursor: Version = 0) -> Message {
    .push(Push(segment: replica.segment(after: after, through: through), cursor: cursor, confirmed: 0))
  }

  @Test func `a handshake takes one round trip, then the feed begins at the cursor`() {
    let replica = Self.replica()
    let epoch = Identity.random()
    let cursor = Position(identity: epoch, version: 5, digest: Digest.origin(of: epoch))
    let head = Position(identity: epoch, version: 7, digest: .zero)
    var driver = Driver()
    #expect(driver(.received(.hello(replica.hello([.push, .pull], cursor: cursor, shipped: 3)))) == ["open"])
    let exceptions = [2, 4].map { CommitException(version: $0, reason: .stale(hubVersion: 1)) }
    let progress = ReplicaProgress(
      replica: replica.identity, lastApplied: 4, digest: replica.digests[4], unconfirmed: exceptions)
    let state = SpaceState(head: head, retentionFloor: 0, progress: progress, common: cursor)
    #expect(driver(.opened(state)) == ["establish", "welcome", "read 5"])
    guard case .send(.welcome(let welcome)) = driver.done[2] else {
      Issue.record("no welcome")
      return
    }
    #expect(welcome.head == head)
    #expect(welcome.acknowledgement == Acknowledgement(through: 4, exceptions: [exceptions[1]], head: 7))
    #expect(welcome.appliedDigest == replica.digests[4])
  }

  /// What both sides remember of each other, and what the hub makes of it.
  struct Case: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var code: RefusalCode?
    var change: @Sendable (inout Hello, inout SpaceState) -> Void

    static let all: [Case] = [
      Case(testDescription: "all agree", code: nil) { _, _ in },
      Case(testDescription: "the hub has decided more than was recorded", code: nil) { $1.progress?.lastApplied = 8 },
      Case(testDescription: "never synchronised", code: nil) { hello, state in
        hello.cursor = nil
        hello.shipped.version = 0
        state.progress = nil
        state.common?.version = 0
      },
      Case(testDescription: "an epoch that was never here", code: .differentEpoch) { $1.common = nil },
      Case(testDescription: "the hub lacks what was pulled", code: nil) { $1.common?.version = 3 },
      Case(testDescription: "the hub knows nothing of it", code: nil) { $1.progress = nil },
      Case(testDescription: "the hub has decided less", code: nil) { $1.progress?.lastApplied = 4 },
      Case(testDescription: "the hub has decided more than there is", code: .replicaRestored) {
        $1.progress?.lastApplied = 10
      },
      Case(testDescription: "another digest of its own", code: .replicaRestored) { hello, _ in
        hello.shipped.digest = Digest(high: 6, low: 6)
      },
      Case(testDescription: "others brought back what it wrote", code: nil) { hello, state in
        state.progress?.digest = Digest(high: 6, low: 6)
        state.progress?.digestKind = .commit
      },
      Case(testDescription: "behind the retained log", code: nil) { $1.retentionFloor = 6 },
      Case(testDescription: "behind the retained log, but only pushing", code: nil) { hello, state in
        hello.mode = .push
        state.retentionFloor = 6
      },
      Case(testDescription: "a clone that only compares", code: nil) { hello, _ in
        hello.shipped.digest = Digest(high: 6, low: 6)
        hello.mode = .compare
      },
    ]
  }

  @Test(arguments: Case.all)
  func `what does not fit together is refused, what does is welcomed`(fit: Case) {
    let replica = Self.replica()
    let epoch = Identity.random()
    let digest = Digest(high: 1, low: 2)
    var hello = replica.hello(
      [.push, .pull], cursor: Position(identity: epoch, version: 5, digest: digest), shipped: 5)
    var state = SpaceState(
      head: Position(identity: epoch, version: 7, digest: .zero), retentionFloor: 0,
      progress: ReplicaProgress(
        replica: replica.identity, lastApplied: 5, digest: replica.digests[5], unconfirmed: []),
      common: Position(identity: epoch, version: 5, digest: digest))
    fit.change(&hello, &state)
    var driver = Driver()
    driver(.received(.hello(hello)))
    let actions = driver(.opened(state))
    if let code = fit.code {
      #expect(actions == ["refuse \(code.rawValue)", "close"])
    } else {
      #expect(actions.prefix(2) == ["establish", "welcome"])
    }
  }

  @Test func `only a space that was restored takes commits back under other names`() {
    let replica = Self.replica()
    var author = TestReplica()
    author.put("k", "v")
    let restore = Message.restore(Restore(segment: author.segment(after: 0, through: 1), cursor: 0))
    var driver = Driver.open(replica, .push)
    #expect(driver(.received(restore)) == ["refuse \(RefusalCode.violation.rawValue)", "close"])
    driver = Driver()
    driver(.received(.hello(replica.hello(.push))))
    var state = SpaceState(
      head: .start(of: .random()), retentionFloor: 0, progress: nil, common: .start(of: .zero))
    state.formerEpochs = [.random()]
    driver(.opened(state))
    #expect(driver(.received(restore)) == ["restore 0-1"])
    #expect(driver(.restored(RestorationOutcome(through: 1, declined: [], head: 1))) == ["restored"])
    // What both have is not lost.
    let beyond = Message.restore(Restore(segment: author.segment(after: 0, through: 1), cursor: 1))
    #expect(driver(.received(beyond)) == ["refuse \(RefusalCode.violation.rawValue)", "close"])
    // Who may not push brings nothing back.
    driver = Driver()
    driver(.received(.hello(replica.hello(.pull))))
    driver(.opened(state))
    #expect(driver(.received(restore)) == ["refuse \(RefusalCode.violation.rawValue)", "close"])
  }

  @Test func `a hello that asks for what there is not is refused`() {
    let replica = Self.replica()
    for (code, change) in [
      (RefusalCode.invalidSpaceName, { (hello: inout Hello) in hello.space = "../x" }),
      (.violation, { $0.mode = [] }),
      (.violation, { $0.mode = SessionMode(rawValue: 17) }), (.violation, { $0.mode = .adopt }),
      (.violation, { $0.shipped.version = 10 }),
    ] {
      var hello = replica.hello(.push)
      change(&hello)
      var driver = Driver()
      #expect(driver(.received(.hello(hello))) == ["refuse \(code.rawValue)", "close"])
    }
  }

  @Test func `a replica of another space that adopts is welcomed, and may do nothing`() {
    let replica = Self.replica()
    var driver = Driver()
    #expect(driver(.received(.hello(replica.hello([.push, .pull, .adopt])))) == ["open"])
    let state = SpaceState(head: .start(of: .random()), retentionFloor: 0, progress: nil, common: nil)
    #expect(driver(.opened(state)) == ["establish", "welcome"])
    #expect(driver(.received(.credit(10))) == ["refuse \(RefusalCode.violation.rawValue)", "close"])
  }

  @Test func `pushes are admitted one after the other, those that wait as one run`() {
    let replica = Self.replica()
    var driver = Driver.open(replica, .push)
    #expect(driver(.received(Self.push(replica, 0, 1))) == ["admit 0-1"])
    for count in 1..<5 {
      #expect(driver(.received(Self.push(replica, Version(count), Version(count + 1)))).isEmpty)
    }
    let actions = driver(.admitted(Acknowledgement(through: 1, exceptions: [], head: 1)))
    #expect(actions.first == "acknowledgement 1")
    #expect(actions.last == "admit 1-5")
    guard case .admit(let push, _, _) = driver.done.last else {
      Issue.record("no admission")
      return
    }
    #expect(push.segment == replica.segment(after: 1, through: 5))
  }

  @Test func `a run of several pushes was looked at as far as any of them`() {
    let replica = Self.replica()
    var driver = Driver.open(replica, .push)
    driver(.received(Self.push(replica, 0, 1)))
    for (after, horizon) in [(1, 0), (2, 7), (3, 9), (4, 0)] as [(Version, Version)] {
      var push = Push(segment: replica.segment(after: after, through: after + 1), cursor: 0, confirmed: 0)
      push.horizon = Horizon(version: horizon, digest: Digest(high: horizon, low: 1))
      driver(.received(.push(push)))
    }
    driver(.admitted(Acknowledgement(through: 1, exceptions: [], head: 1)))
    guard case .admit(let push, _, _) = driver.done.last else {
      Issue.record("no admission")
      return
    }
    #expect(push.segment.through == 5 && push.horizon == Horizon(version: 9, digest: Digest(high: 9, low: 1)))
  }

  @Test func `pushes of different cursors are not admitted as one`() {
    let replica = Self.replica()
    var driver = Driver.open(replica, .push, head: 3)
    driver(.received(Self.push(replica, 0, 1, cursor: 1)))
    driver(.received(Self.push(replica, 1, 2, cursor: 1)))
    driver(.received(Self.push(replica, 2, 3, cursor: 2)))
    let actions = driver(.admitted(Acknowledgement(through: 1, exceptions: [], head: 4)))
    #expect(actions.last == "admit 1-2")
  }

  @Test func `credit comes back when a push has been decided, and a push without credit ends the session`() {
    let replica = Self.replica()
    var configuration = HubSession.Configuration()
    configuration.windowBytes = 1
    var driver = Driver.open(replica, .push)
    driver.session = HubSession(configuration)
    driver(.received(.hello(replica.hello(.push))))
    driver(
      .opened(SpaceState(head: .start(of: .random()), retentionFloor: 0, progress: nil, common: .start(of: .zero))))
    let push = Self.push(replica, 0, 1)
    #expect(driver(.received(push)) == ["admit 0-1"])
    let actions = driver(.admitted(Acknowledgement(through: 1, exceptions: [], head: 1)))
    #expect(actions == ["acknowledgement 1", "credit \(push.chargedBytes)"])
    #expect(driver(.received(Self.push(replica, 1, 2))) == ["admit 1-2"])
    #expect(driver(.received(Self.push(replica, 2, 3))) == ["refuse 12", "close"])
  }

  @Test func `a gap is refused with what was expected`() {
    let replica = Self.replica()
    var driver = Driver.open(replica, .push)
    driver(.received(Self.push(replica, 0, 2)))
    #expect(driver(.received(Self.push(replica, 3, 4))) == ["refuse 11", "close"])
    guard case .send(.refuse(let refusal)) = driver.done.dropLast().last else {
      Issue.record("no refusal")
      return
    }
    #expect(refusal.version == 2)
  }

  @Test func `an exception is told once on a connection`() {
    let replica = Self.replica()
    var driver = Driver.open(replica, .push)
    let stale = (1...3).map { CommitException(version: $0, reason: .stale(hubVersion: 9)) }
    driver(.received(Self.push(replica, 0, 1)))
    driver(.received(Self.push(replica, 1, 2)))
    driver(.admitted(Acknowledgement(through: 1, exceptions: [stale[0]], head: 1)))
    // The storage tells of all that is unconfirmed, and of what another connection brought.
    driver(.admitted(Acknowledgement(through: 3, exceptions: stale, head: 1)))
    let sent = driver.done.compactMap { action -> Acknowledgement? in
      if case .send(.acknowledgement(let acknowledgement)) = action { acknowledgement } else { nil }
    }
    #expect(sent.map(\.through) == [1, 2])
    #expect(sent.map(\.exceptions) == [[stale[0]], [stale[1]]])
  }

  @Test func `an acknowledgement goes out before any feed that was read while its push was admitted`() {
    let replica = Self.replica()
    var driver = Driver.open(replica, [.push, .pull])
    #expect(driver(.read(nil)) == ["await 0"])
    #expect(driver(.headMoved(1)) == ["read 0"])
    #expect(driver(.received(Self.push(replica, 0, 1))) == ["admit 0-1"])
    #expect(driver(.read(feedOf(after: 0, through: 3))).isEmpty)
    driver(.received(Self.push(replica, 1, 2)))
    let actions = driver(.admitted(Acknowledgement(through: 1, exceptions: [], head: 2)))
    #expect(actions.first == "acknowledgement 1")
    #expect(actions.dropFirst(2) == ["feed 0-3", "admit 1-2", "read 3"])
  }

  @Test func `a feed needs credit, and at most two are on their way to the socket`() {
    var driver = Driver.open(Self.replica(), .pull, credit: 0)
    #expect(driver(.read(feedOf(after: 0, through: 1))).isEmpty)
    #expect(driver(.received(.credit(1))) == ["feed 0-1", "read 1"])
    #expect(driver(.read(feedOf(after: 1, through: 2))).isEmpty)
    #expect(driver(.received(.credit(10_000))) == ["feed 1-2", "read 2"])
    #expect(driver(.read(feedOf(after: 2, through: 3))).isEmpty)
    #expect(driver(.feedSent) == ["feed 2-3", "read 3"])
  }

  @Test func `a run of the replica's own commits moves the cursor once, when nothing else does`() {
    let replica = Self.replica()
    var driver = Driver.open(replica, [.push, .pull])
    driver(.read(nil))
    driver(.received(Self.push(replica, 0, 1)))
    driver(.received(Self.push(replica, 1, 2, cursor: 0)))
    #expect(driver(.headMoved(1)) == ["read 0"])
    #expect(driver(.read(feedOf(after: 0, through: 1, bytes: 0))) == ["read 1"])
    driver(.admitted(Acknowledgement(through: 1, exceptions: [], head: 1)))
    #expect(driver(.read(nil)) == ["await 1"])
    #expect(driver(.headMoved(2)) == ["read 1"])
    #expect(driver(.read(feedOf(after: 1, through: 2, bytes: 0))) == ["read 2"])
    let actions = driver(.admitted(Acknowledgement(through: 2, exceptions: [], head: 2)))
    #expect(actions.first == "acknowledgement 2")
    #expect(actions.contains("feed 0-2"))
  }

  @Test func `what was not asked for in the hello is not served`() {
    let replica = Self.replica()
    for (mode, message) in [
      (SessionMode.pull, Self.push(replica, 0, 1)), (.push, .credit(1)), (.push, .rowsRequest(RowsRequest(after: nil))),
      (.push, .hello(replica.hello(.push))), (.push, .feed(Feed(segment: feedOf(after: 0, through: 1), head: 1))),
    ] {
      var driver = Driver.open(replica, mode)
      #expect(driver(.received(message)) == ["refuse 12", "close"])
    }
  }

  @Test func `one page of rows is on its way at a time, and one more may be asked for`() {
    let page = Rows(version: 1, digest: .zero, rows: [], isLast: false)
    let request = Message.rowsRequest(RowsRequest(after: nil))
    var driver = Driver.open(Self.replica(), .compare)
    #expect(driver(.received(request)) == ["readRows"])
    #expect(driver(.rows(page)) == ["rows"])
    // The replica may have the page before the shell says so.
    #expect(driver(.received(request)) == [])
    #expect(driver(.rowsSent) == ["readRows"])
    #expect(driver(.received(request)) == [])
    #expect(driver(.rows(page)) == ["rows"])
    #expect(driver(.received(request)) == ["refuse 12", "close"])
  }

  @Test func `a silent stranger is left, a silent replica is pinged and then left`() {
    var stranger = Driver()
    #expect(stranger(.tick(elapsed: .seconds(9), silence: .seconds(9))).isEmpty)
    #expect(stranger(.tick(elapsed: .seconds(10), silence: .zero)) == ["close"])
    var driver = Driver.open(Self.replica(), .push)
    #expect(driver(.tick(elapsed: .seconds(20), silence: .seconds(9))).isEmpty)
    #expect(driver(.tick(elapsed: .seconds(25), silence: .seconds(14))) == ["ping"])
    #expect(driver(.tick(elapsed: .seconds(30), silence: .seconds(19))).isEmpty)
    #expect(driver(.tick(elapsed: .seconds(35), silence: .seconds(24))) == ["ping"])
    #expect(driver(.tick(elapsed: .seconds(41), silence: .seconds(30))) == ["close"])
    var suspended = Driver.open(Self.replica(), .push)
    #expect(suspended(.tick(elapsed: .seconds(900), silence: .seconds(890))) == ["ping"])
    #expect(suspended(.tick(elapsed: .seconds(905), silence: .seconds(895))) == ["close"])
    // The link may be a little older than the session.
    var late = Driver.open(Self.replica(), .push)
    #expect(late(.tick(elapsed: .seconds(35), silence: .seconds(36))) == ["ping"])
  }

  @Test func `a shutdown lets what is being stored be acknowledged and begins nothing else`() {
    let replica = Self.replica()
    var driver = Driver.open(replica, [.push, .pull])
    driver(.received(Self.push(replica, 0, 1)))
    driver(.received(Self.push(replica, 1, 2)))
    #expect(driver(.shutdown).isEmpty)
    #expect(driver(.read(feedOf(after: 0, through: 1))).isEmpty)
    let actions = driver(.admitted(Acknowledgement(through: 1, exceptions: [], head: 1)))
    #expect(actions.first == "acknowledgement 1")
    #expect(actions.suffix(2) == ["goodbye", "close"])
    var idle = Driver.open(replica, .push)
    #expect(idle(.shutdown) == ["goodbye", "close"])
  }

  @Test func `a failed storage is told to the replica as what it is`() {
    let replica = Self.replica()
    for (error, code) in [
      (HubStorageError.full("x"), RefusalCode.storageFull), (.failed("x"), .storageFailed),
      (.gap(expected: 3), .gap), (.malformed("x"), .violation),
      (.corrupt("x"), .storageCorrupt),
    ] {
      var driver = Driver.open(replica, .push)
      driver(.received(Self.push(replica, 0, 1)))
      #expect(driver(.failed(error)) == ["refuse \(code.rawValue)", "close"])
    }
  }

  @Test func `whatever arrives, the session keeps its invariants and ends once`() {
    var seeds = SeededGenerator()
    for _ in 0..<300 {
      var random = SeededGenerator(seed: seeds.next())
      let replica = Self.replica(commits: 30)
      var driver = Driver.open(replica, [.push, .pull, .compare], head: 100, credit: 5_000)
      var pushed: Version = 0
      var storage = 100 as Version
      var isAdmitting: PushSegment?
      var reading: Version?
      var waiting = false
      var isReadingRows = false
      var isSendingRows = false
      var acknowledged: Version = 0
      var fed: Version = 100
      var violations: [String] = []
      func require(_ holds: Bool, _ what: String) { if !holds { violations.append(what) } }
      var hasEnded = false
      // The first read was asked for when the session opened.
      reading = 100
      for _ in 0..<200 {
        let event: HubSession.Event
        switch Int.random(in: 0..<12, using: &random) {
        case 0, 1, 2:
          let through = min(pushed + Version.random(in: 1...4, using: &random), 30)
          guard pushed < through else { continue }
          event = .received(Self.push(replica, pushed, through, cursor: fed))
          pushed = through
        case 3, 4, 5:
          guard let push = isAdmitting else { continue }
          isAdmitting = nil
          storage += 1
          event = .admitted(Acknowledgement(through: push.segment.through, exceptions: [], head: storage))
        case 6, 7:
          guard let after = reading else { continue }
          reading = nil
          let through = min(storage, after + Version.random(in: 1...3, using: &random))
          event = .read(
            through > after
              ? feedOf(after: after, through: through, bytes: Bool.random(using: &random) ? 0 : 3_000) : nil)
        case 8:
          guard waiting else { continue }
          waiting = false
          storage += 1
          event = .headMoved(storage)
        case 9: event = .received(.credit(Int.random(in: 1...4_000, using: &random)))
        case 10: event = .feedSent
        default:
          guard isReadingRows else {
            event = isSendingRows ? .rowsSent : .received(.rowsRequest(RowsRequest(after: nil)))
            isSendingRows = false
            break
          }
          isReadingRows = false
          event = .rows(Rows(version: 1, digest: .zero, rows: [], isLast: true))
        }
        // The shell says so only for what it was given.
        if case .feedSent = event, driver.session.unsentFeeds == 0 { continue }
        for action in driver.session.handle(event) {
          require(!hasEnded, "an action after the end")
          switch action {
          case .admit(let push, _, _):
            require(isAdmitting == nil, "two admissions")
            isAdmitting = push
          case .read(let request, _):
            let after = request.after
            require(reading == nil && !waiting, "two reads")
            reading = after
          case .awaitHead:
            require(reading == nil && !waiting, "two reads")
            waiting = true
          case .readRows:
            require(!isReadingRows && !isSendingRows, "two pages of rows")
            isReadingRows = true
          case .send(.rows): isSendingRows = true
          case .send(.acknowledgement(let acknowledgement)):
            require(acknowledgement.through > acknowledged, "acknowledged twice")
            acknowledged = acknowledgement.through
          case .send(.feed(let feed)):
            require(isAdmitting == nil, "a feed before an acknowledgement")
            require(feed.segment.after == fed, "a hole in the feed")
            fed = feed.segment.through
          case .close: hasEnded = true
          default: break
          }
        }
      }
      #expect(!hasEnded, "seed \(random.seed)")
      #expect(violations == [], "seed \(random.seed)")
      #expect(acknowledged > 0 && fed > 100, "seed \(random.seed)")
    }
  }
}
