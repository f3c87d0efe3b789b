// The network of a simulation: connections, delays, partitions, and what breaks.

import KVLog
import KVProtocol
import TestSupport

@testable import KVHub
@testable import KVReplicator
@testable import KVStore

extension Simulation {
  // MARK: Connecting

  mutating func connect(_ index: Int) throws {
    guard nodes[index].link == nil, !nodes[index].isDown else { return }
    guard !isHubDown, nodes[index].blockedToHub <= timeline.now, nodes[index].blockedToReplica <= timeline.now else {
      return connectLater(index)
    }
    let (mode, isLive, budget) = scenario.configuration(&random, isWhole: isHealing)
    var configuration = ReplicaSession.Configuration(space: "space", mode: mode, isLive: isLive)
    configuration.segmentBytes = 1 << (6 + random.below(7))
    configuration.windowBytes = 1 << (6 + random.below(8))
    configuration.budgetBytes = budget
    if mode == .push { see(.pushOnly) }
    if mode == .pull { see(.pullOnly) }
    let link = SimulatedLink(configuration, hubWindowBytes: 1 << (6 + random.below(8)), store: nodes[index].store)
    let id = nextConnection
    nextConnection += 1
    link.surroundings.bug = bug
    connections[id] = Connection(
      link, of: index, at: timeline.now, isPartial: mode != [.push, .pull] || !isLive || budget != nil)
    nodes[index].link = id
    note {
      "replica \(index) connects: link \(id), mode \(mode.rawValue)\(isLive ? ", live" : "")\(budget.map { ", \($0) bytes" } ?? "")"
    }
    try act(on: id) { try $0.connect() }
    timeline.plan(.tick(link: id), after: 5_000_000)
  }

  private mutating func connectLater(_ index: Int) {
    let wait = nodes[index].backoff.next(random: Double(random.below(1_000)) / 1_000)
    timeline.plan(.connect(index), after: max(1_000, Int(wait / .microseconds(1))))
  }

  // MARK: Steps

  /// Does something to a link, and plans what can happen then.
  mutating func act(on id: Int, _ body: (SimulatedLink) throws -> Void) throws {
    guard let link = connections[id]?.link else { return }
    try body(link)
    try settle(id)
  }

  mutating func take(_ step: SimulatedLink.Step, of id: Int) throws {
    guard let connection = connections[id] else { return }
    connection.planned[step.rawValue] -= 1
    let link = connection.link
    let index = connection.node
    if step == .deliverToHub, nodes[index].blockedToHub > timeline.now {
      connection.planned[step.rawValue] += 1
      return timeline.plan(.step(link: id, step), at: nodes[index].blockedToHub)
    }
    if step == .deliverToReplica, nodes[index].blockedToReplica > timeline.now {
      connection.planned[step.rawValue] += 1
      return timeline.plan(.step(link: id, step), at: nodes[index].blockedToReplica)
    }
    guard link.canTake(step, nodes[index].store, space) else { return try settle(id) }
    note { describe(step, link, id) }
    switch step {
    case .deliverToHub: connection.heardAtHub = timeline.now
    case .deliverToReplica: connection.heardAtReplica = timeline.now
    case .workAtHub: prepareHub(id)
    case .workAtReplica:
      if keepsDurable, nodes[index].durable == nil { nodes[index].durable = nodes[index].store }
      nodes[index].store.wall = wall(index)
    default: break
    }
    let head = step == .workAtHub ? try space.head() : nil
    let choice = step == .answerReplica || step == .answerHub ? random.below(1_000) : 0
    let before = nodes[index].store.version
    let isDurable = try link.take(step, &nodes[index].store, space, choice: choice)
    link.surroundings.letGo()
    if step == .workAtReplica { keepDurable(index, isDurable) }
    if step == .workAtHub { try hubWorked(id) }
    for sighting in link.sightings { saw(sighting, index) }
    link.sightings = []
    try settle(id)
    // Others may wait for what came.
    if let head, try space.head() != head {
      for other in connections.keys.sorted() where other != id { planSteps(of: other) }
    }
    if nodes[index].store.version != before, let own = nodes[index].link, own != id { planSteps(of: own) }
  }

  private mutating func keepDurable(_ index: Int, _ isDurable: Bool) {
    guard isDurable else { return }
    guard bug == .cursorBeforeData, let old = nodes[index].durable, nodes[index].store.cursor > old.cursor else {
      nodes[index].durable = nil
      return
    }
    // The cursor is there, and what it covers is not.
    var torn = old
    torn.state.cursor = nodes[index].store.state.cursor
    torn.state.cursorDigest = nodes[index].store.state.cursorDigest
    torn.state.hubPositions = nodes[index].store.state.hubPositions
    torn.state.hubEpoch = nodes[index].store.state.hubEpoch
    nodes[index].durable = torn
  }

  private mutating func prepareHub(_ id: Int) {
    guard let connection = connections[id] else { return }
    let link = connection.link
    if bug == .acknowledgedBeforeDurable, durableSpace == nil { durableSpace = space.copied() }
    let joined = connections.filter { $0.key != id && !$0.value.link.isHubDone && $0.value.link.admitted != nil }
    let space = space
    link.surroundings.join = { replica in
      let older = joined.sorted { $0.key < $1.key }.map(\.value.link).filter { $0.admitted == replica }
      for link in older { try link.replace(space) }
      return !older.isEmpty
    }
    let isLenient = isLenient || !scenario.refuses
    link.surroundings.refusals = { push in
      guard !isLenient else { return [] }
      let decided = try link.admitted.flatMap { try space.progress(of: $0)?.lastApplied } ?? 0
      return try ModelStore.commits(in: push.segment.records).filter { commit in
        commit.version > decided && commit.changes.contains { $0.key == Array("!".utf8) }
      }.map { CommitRefusal(version: $0.version, code: 30, message: "no") }
    }
    var names = SeededGenerator(seed: random.next())
    link.surroundings.draw = { Identity(high: names.next() | 1, low: names.next()) }
  }

  /// A hub with a bug is durable only later.
  private mutating func hubWorked(_ id: Int) throws {
    if connections[id]?.link.sightings.contains(.replaced) == true {
      for other in connections.keys.sorted() where other != id { try settle(other) }
    }
    if bug == .acknowledgedBeforeDurable { timeline.plan(.hubIsDurable(space.copied()), after: 2_000_000) }
  }

  /// After something has happened to a link: it may be over, and something may have become possible.
  mutating func settle(_ id: Int) throws {
    guard let connection = connections[id] else { return }
    let link = connection.link
    if nodes[connection.node].link == id, let ending = link.ending {
      try ended(connection.node, id, ending)
    }
    if link.isOver { connections[id] = nil } else { planSteps(of: id) }
  }

  private mutating func ended(_ index: Int, _ id: Int, _ error: ReplicatorError?) throws {
    guard let link = connections[id]?.link else { return }
    nodes[index].link = nil
    note { "link \(id) of replica \(index) is over: \(error.map { "\($0.code): \($0.message)" } ?? "as intended")" }
    switch error?.code {
    case .protocolViolation, .unsupported, .storeFailed, .differentHub:
      throw Failure("a session ended with \(error!)")
    case .unreachable where timeline.now - (connections[id]?.heardAtReplica ?? 0) >= 30_000_000: see(.silent)
    default: break
    }
    if link.replica.isCutShort, !link.isPaused { see(.budgetCut) }
    if link.replica.awaitsPull { see(.heldBack) }
    // What the session had begun at the store happens or not.
    let count = link.pendingReplicaWork
    if count > 0 {
      if nodes[index].durable == nil { nodes[index].durable = nodes[index].store }
      keepDurable(index, try link.finishReplicaWork(random.below(count + 1), &nodes[index].store))
    }
    if link.replica.report.pushedChanges + link.replica.report.pulledChanges > 0 { nodes[index].backoff.progressed() }
    if link.beginsAgain {
      timeline.plan(.connect(index), after: 1)
    } else if error == nil {
      timeline.plan(.connect(index), after: isHealing ? 1_000 : 1_000 + random.below(4_000_000))
    } else {
      connectLater(index)
    }
  }

  /// Plans as many steps of each kind as can be taken and are not planned yet.
  mutating func planSteps(of id: Int) {
    guard let connection = connections[id] else { return }
    for step in Self.steps {
      let possible = connection.link.count(of: step, nodes[connection.node].store, space)
      while connection.planned[step.rawValue] < possible {
        connection.planned[step.rawValue] += 1
        let time: Int
        switch step {
        case .deliverToHub:
          connection.lastToHub = max(connection.lastToHub, timeline.now + delay(scenario.latency))
          time = connection.lastToHub
        case .deliverToReplica:
          connection.lastToReplica = max(connection.lastToReplica, timeline.now + delay(scenario.latency))
          time = connection.lastToReplica
        case .workAtReplica, .workAtHub: time = timeline.now + delay(scenario.storeDelay)
        case .answerReplica, .answerHub: time = timeline.now + 1 + random.below(20)
        }
        timeline.plan(.step(link: id, step), at: time)
      }
    }
  }

  private static let steps = SimulatedLink.Step.allCases

  private mutating func delay(_ typical: Int) -> Int {
    random.chance(3) ? typical * 5 : typical / 2 + random.below(typical)
  }

  mutating func tick(_ id: Int) throws {
    guard let connection = connections[id] else { return }
    let link = connection.link
    let now = timeline.now
    let elapsed = now - connection.began
    if !link.isReplicaDone, bug != .heartbeatForgotten {
      try act(on: id) {
        try $0.tickReplica(
          silence: .microseconds(now - connection.heardAtReplica), elapsed: .microseconds(elapsed))
      }
    }
    if let connection = connections[id], !connection.link.isHubDone {
      try act(on: id) {
        try $0.tickHub(silence: .microseconds(now - connection.heardAtHub), elapsed: .microseconds(elapsed))
      }
    }
    if connections[id] != nil { timeline.plan(.tick(link: id), after: 5_000_000) }
  }

  private mutating func saw(_ path: RarePath, _ index: Int) {
    see(path)
    guard path == .newIncarnation else { return }
    if nodes[index].isRestored { see(.afterRestoring) }
    if nodes[index].isCloned { see(.afterCloning) }
    nodes[index].isRestored = false
    nodes[index].isCloned = false
  }

  // MARK: What breaks

  mutating func disturb() throws {
    let index = random.below(nodes.count)
    switch random.below(6) {
    case 0, 1: try cut(index, tellingReplica: true, tellingHub: random.chance(70))
    case 2: try cut(index, tellingReplica: random.chance(30), tellingHub: random.chance(30))
    case 3:
      see(.partitionToHub)
      nodes[index].blockedToHub = timeline.now + outage()
    case 4:
      see(.partitionToReplica)
      nodes[index].blockedToReplica = timeline.now + outage()
    default:
      see(.partitionBoth)
      nodes[index].blockedToHub = timeline.now + outage()
      nodes[index].blockedToReplica = nodes[index].blockedToHub
    }
    note { "the network of replica \(index) is disturbed" }
  }

  private mutating func outage() -> Int { [200_000, 3_000_000, 50_000_000][random.below(3)] }

  /// Whoever is not told hears nothing more.
  mutating func cut(_ index: Int, tellingReplica: Bool, tellingHub: Bool) throws {
    guard let id = nodes[index].link else { return }
    see(.cut)
    note {
      "link \(id) is cut; \(tellingReplica ? "the replica" : "nobody")\(tellingHub ? " and the hub" : "") hears of it"
    }
    try act(on: id) { $0.cut(tellingReplica: tellingReplica, tellingHub: tellingHub) }
  }

  mutating func sessionEvent() throws {
    let index = random.below(nodes.count)
    guard let id = nodes[index].link else { return }
    let head = try space.head().version
    switch random.below(5) {
    case 0:
      see(.stopped)
      try act(on: id) { try $0.stop() }
    case 1:
      see(.paused)
      try act(on: id) { try $0.pause() }
    case 2: try act(on: id) { try $0.runOut() }
    default: try act(on: id) { try $0.fence(head) }
    }
  }

  private func describe(_ step: SimulatedLink.Step, _ link: SimulatedLink, _ id: Int) -> String {
    switch step {
    case .deliverToHub: "link \(id) → hub: \(link.toHub.first.map(Self.describe) ?? "")"
    case .deliverToReplica: "link \(id) → replica: \(link.toReplica.first.map(Self.describe) ?? "")"
    case .workAtReplica, .workAtHub, .answerReplica, .answerHub: "link \(id) \(step)"
    }
  }

  private static func describe(_ packet: SimulatedLink.Packet) -> String {
    guard case .message(let message) = packet else { return "closed" }
    switch message {
    case .push(let push):
      return "push (\(push.segment.after), \(push.segment.through)] knowing \(push.cursor): \(describe(push.segment))"
    case .feed(let feed): return "feed (\(feed.segment.after), \(feed.segment.through)]: \(describe(feed.segment))"
    case .page(let page):
      return "page of \(page.snapshot.position.version): \(describe(page.snapshot))"
    case .restore(let restore): return "restore through \(restore.segment.through): \(describe(restore.segment))"
    case .restored(let restored): return "restored through \(restored.through), declined \(restored.declined)"
    case .acknowledgement(let ack): return "acknowledged through \(ack.through), exceptions \(ack.exceptions)"
    case .hello(let hello):
      return "hello of \(name(hello.replica)): \(hello.lastVersion) versions, shipped \(hello.shipped.version), cursor "
        + "\(hello.cursor?.version ?? 0) of \(name(hello.cursor?.identity ?? .zero))"
    case .welcome(let welcome):
      return
        "welcome: epoch \(name(welcome.head.identity)) at \(welcome.head.version), applied \(welcome.lastApplied), "
        + "common \(welcome.common.version), unconfirmed \(welcome.unconfirmed.map(\.version))"
    case .refuse(let refusal): return "refuse: \(refusal.message)"
    default: return "\(message.kind)"
    }
  }

  static func name(_ identity: Identity) -> String { String("\(identity)".suffix(4)) }

  private static func describe(_ page: SnapshotPage) -> String {
    let end = page.interval.end.map(name) ?? "the end"
    return "from \(name(page.interval.from)) to \(end), applied \(page.applied): \(describe(page.record))"
  }

  private static func describe(_ segment: CommitSegment) -> String { describe(segment.records) }

  private static func describe(_ records: [UInt8]) -> String {
    guard let commits = try? ModelStore.commits(in: records) else { return "damaged" }
    return commits.map { commit in
      let changes = commit.changes.map { change in
        let value = change.value.map { String(decoding: $0.prefix { $0 != UInt8(ascii: " ") }, as: UTF8.self) }
        return "\(name(change.key))=\(value ?? "-")"
      }
      return "\(commit.version)(\(name(commit.origin)) \(commit.originVersion)) \(changes)"
    }.joined(separator: " ")
  }
}
