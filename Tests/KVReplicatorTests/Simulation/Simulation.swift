// Replicas and a hub in virtual time, driven by one seed: writes, sessions, delays, broken links, crashes, restored and
// copied directories in any order; then everything is left in peace, and must become equal within a bounded time.
//
// Invariants
// - One seed gives one history: there is no other source of time, chance or order.
// - The sessions, the in-memory space and the rules of the stores are those of the product. What is simulated is the
//   network, the disk, the clocks and the programs.
// - A crash keeps what was durable: `durable` of a replica, and of the hub everything it said.

import KVLog
import KVProtocol
import TestSupport

@testable import KVHub
@testable import KVReplicator
@testable import KVStore

struct Simulation {
  struct Failure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
  }

  enum Event {
    case write(Int)
    case connect(Int)
    case step(link: Int, SimulatedLink.Step)
    case tick(link: Int)
    case disturb
    case strike(Scenario.Disaster)
    case back(Int)
    case hubBack
    case sessionEvent
    case saveBackup
    case hubIsDurable(any SimulatedSpace)
    case heal
    case look
  }

  final class Node {
    var store: ModelStore
    /// What a power cut leaves; nil: the same.
    var durable: ModelStore?
    var backup: ModelStore?
    var link: Int?
    var backoff: Backoff
    var skew: Int
    var isDown = false
    /// Until when nothing comes through.
    var blockedToHub = 0
    var blockedToReplica = 0
    /// What is going to be found out at the next handshake.
    var isRestored = false
    var isCloned = false

    init(_ store: ModelStore, skew: Int) {
      self.store = store
      self.skew = skew
      backoff = Backoff(shortest: .milliseconds(500), longest: .seconds(60))
    }
  }

  final class Connection {
    let link: SimulatedLink
    let node: Int
    let began: Int
    var heardAtReplica: Int
    var heardAtHub: Int
    /// Steps that are planned.
    var planned = [Int](repeating: 0, count: SimulatedLink.Step.allCases.count)
    var lastToHub = 0
    var lastToReplica = 0
    let isPartial: Bool

    init(_ link: SimulatedLink, of node: Int, at time: Int, isPartial: Bool) {
      self.link = link
      self.node = node
      self.isPartial = isPartial
      began = time
      heardAtReplica = time
      heardAtHub = time
    }
  }

  let seed: UInt64
  var random: SeededGenerator
  let scenario: Scenario
  var bug: DeliberateBug?
  var timeline = Timeline<Event>()
  var nodes: [Node] = []
  var connections: [Int: Connection] = [:]
  var nextConnection = 0
  var space: any SimulatedSpace
  /// What a power cut leaves of the hub; nil: the same. A hub without bugs has none.
  var durableSpace: (any SimulatedSpace)?
  var hubBackup: (any SimulatedSpace)?
  var isHubDown = false
  var isHealing = false
  var isLenient = false
  let ledger = Ledger()
  var counts = RarePathCounts()
  var events = 0
  /// Keys that nobody else writes, of the last writes of all.
  var fresh: [[UInt8]] = []
  var isOver = false
  /// Whether anything may ever ask what of a replica is durable.
  let keepsDurable: Bool
  /// What happens, when somebody reads along.
  let trace: Trace?

  final class Trace {
    var lines: [String] = []
  }

  static let day = 86_400_000_000
  /// From the end of all faults until nothing is pending: a minute of backoff, of silence, of a stall, each twice.
  static let patience = 600_000_000

  init(seed: UInt64, bug: DeliberateBug? = nil, loadsSnapshots: Bool = false, isTracing: Bool = false) {
    self.seed = seed
    random = SeededGenerator(seed: seed &* 0x9E37_79B9_7F4A_7C15 ^ 0x5851_F42D_4C95_7F2D)
    var scenario = Scenario(&random)
    bug?.adjust(&scenario)
    if loadsSnapshots { scenario.loadSnapshots(&random) }
    self.scenario = scenario
    self.bug = bug
    keepsDurable = !scenario.disasters.isEmpty || scenario.relaxedPercent > 0
    trace = isTracing ? Trace() : nil
    let epoch = Identity(high: 7, low: random.next())
    if scenario.usesModelSpace {
      let space = ModelSpace(epoch: epoch)
      space.bug = bug
      self.space = space
    } else {
      space = InMemorySpace(epoch: epoch)
    }
    for index in 0..<scenario.replicas {
      let identity = Identity(high: UInt64(index + 1), low: random.next())
      var store = ModelStore(identity: identity, isFed: !scenario.loadsSnapshots)
      store.history = scenario.histories[index]
      store.policy = policy(scenario.policies[index])
      store.bug = bug
      store.salts = SeededGenerator(seed: random.next())
      nodes.append(Node(store, skew: scenario.skews[index]))
    }
    note { "\(scenario)" }
  }

  private func policy(_ policy: Scenario.Policy) -> ConflictPolicy {
    switch policy {
    case .lastWriterWins: .lastWriterWins
    case .localWins: .localWins
    case .remoteWins: .remoteWins
    case .manual: .manual
    case .merge: .merge { [ledger] in ledger.merge($0) }
    }
  }

  // MARK: Running

  /// Runs and checks; throws what is wrong.
  mutating func run() throws {
    plan()
    while !isOver, let event = timeline.next() {
      events += 1
      if events > 200_000 { throw Failure("it goes on and on") }
      try happen(event)
    }
    try check()
  }

  private mutating func plan() {
    for index in nodes.indices {
      // The first replicas find the hub without the space, or come when there is something in it.
      timeline.plan(.connect(index), at: random.below(scenario.faultTime / 2))
    }
    for _ in 0..<scenario.writes {
      timeline.plan(.write(random.below(nodes.count)), at: random.below(scenario.faultTime))
    }
    for _ in 0..<scenario.linkFaults { timeline.plan(.disturb, at: random.below(scenario.faultTime)) }
    for _ in 0..<scenario.sessionEvents { timeline.plan(.sessionEvent, at: random.below(scenario.faultTime)) }
    for disaster in scenario.disasters {
      timeline.plan(.strike(disaster), at: scenario.faultTime / 4 + random.below(scenario.faultTime * 3 / 4))
    }
    if !scenario.disasters.isEmpty {
      for _ in 0...random.below(3) { timeline.plan(.saveBackup, at: random.below(scenario.faultTime)) }
    }
    timeline.plan(.heal, at: scenario.faultTime)
  }

  private mutating func happen(_ event: Event) throws {
    switch event {
    case .write(let index): try write(at: index)
    case .connect(let index): try connect(index)
    case .step(let id, let step): try take(step, of: id)
    case .tick(let id): try tick(id)
    case .disturb: try disturb()
    case .strike(let disaster): try strike(disaster)
    case .back(let index):
      nodes[index].isDown = false
      try connect(index)
    case .hubBack: isHubDown = false
    case .sessionEvent: try sessionEvent()
    case .saveBackup: saveBackup()
    case .hubIsDurable(let copy): if durableSpace != nil { durableSpace = copy }
    case .heal: try heal()
    case .look: try look()
    }
  }

  func note(_ what: () -> String) {
    guard let trace else { return }
    let now = timeline.now
    trace.lines.append("\(now / 1_000_000).\(String(String(now % 1_000_000 + 1_000_000).dropFirst()))  \(what())")
  }

  mutating func see(_ path: RarePath) {
    counts[path] += 1
    note { "* \(path.rawValue)" }
  }

  static func name(_ key: [UInt8]) -> String { String(decoding: key, as: UTF8.self) }

  // MARK: Programs

  /// A replica's clock. Two of them never show the same, so that a deletion is told from another by its time.
  func wall(_ index: Int) -> UInt64 {
    UInt64(1_700_000_000_000 + timeline.now / 1_000 * 8 + index + nodes[index].skew)
  }

  mutating func write(at index: Int) throws {
    guard !nodes[index].isDown else { return }
    var keys: [[UInt8]] = []
    for _ in 0..<scenario.changesPerWrite {
      let key: [UInt8] = [UInt8(ascii: "a") + UInt8(random.below(scenario.keys))]
      if !keys.contains(key) { keys.append(key) }
    }
    if scenario.refuses, random.chance(15) { keys.append(Array("!".utf8)) }
    let isLarge = scenario.largeValues > random.below(10)
    let changes = keys.map { key in
      (key, isDeletion: random.chance(scenario.deletionPercent), bytes: isLarge ? 3_000 : random.below(40))
    }
    try write(changes, at: index, isRelaxed: random.chance(scenario.relaxedPercent))
  }

  /// A program's transaction; what it writes over, it has seen.
  mutating func write(
    _ changes: [(key: [UInt8], isDeletion: Bool, bytes: Int)], at index: Int, isRelaxed: Bool = false,
    seeing others: [Int] = []
  ) throws {
    let transaction = ledger.beginTransaction()
    var written: [(id: Int, change: ModelStore.Change)] = []
    for (key, isDeletion, bytes) in changes {
      let (row, swept) = (nodes[index].store.rows[key], nodes[index].store.swept[key])
      let rows = [row, row?.value == nil ? swept : nil].compactMap { $0 }
      let saw = rows.flatMap { ledger.ids(of: $0, key: key) }
      let id = ledger.add(
        key, isDeletion: isDeletion, in: transaction, saw: saw + others.filter { ledger.writes[$0].key == key })
      written.append((id, .init(key: key, value: isDeletion ? nil : Ledger.value(of: [id], bytes: bytes))))
    }
    if isRelaxed, nodes[index].durable == nil { nodes[index].durable = nodes[index].store }
    let groups = bug == .transactionSplit ? written.map { [$0] } : [written]
    for group in groups {
      let version = nodes[index].store.write(group.map(\.change), clock: wall(index))
      guard let commit = try nodes[index].store.log.last.map({ try ModelStore.commits(in: $0.record)[0] }) else {
        continue
      }
      for (id, _) in group { ledger.written(id, at: commit.time) }
      note {
        "replica \(index) writes \(group.map { "\(Self.name($0.change.key))=\($0.change.value == nil ? "-" : "")\($0.id)" }) as \(version)\(isRelaxed ? ", relaxed" : "")"
      }
    }
    if !isRelaxed { nodes[index].durable = nil }
    if let link = nodes[index].link { planSteps(of: link) }
  }

  /// What is parked is offered again, as something else, by somebody who looks at it.
  private mutating func retryParked(at index: Int) throws {
    for (version, record) in nodes[index].store.parked.sorted(by: { $0.key < $1.key }) {
      let ids = try ledger.ids(of: record)
      see(.retried)
      try nodes[index].store.retried(version)
      var changes: [(key: [UInt8], isDeletion: Bool, bytes: Int)] = []
      for write in ids.map({ ledger.writes[$0] }) where !changes.contains(where: { $0.key == write.key }) {
        changes.append((write.key, write.isDeletion, 0))
      }
      try write(changes, at: index, seeing: ids)
    }
  }

  // MARK: The end

  private mutating func heal() throws {
    note { "--- from here on nothing goes wrong" }
    isHealing = true
    isLenient = true
    isHubDown = false
    for index in nodes.indices {
      nodes[index].blockedToHub = 0
      nodes[index].blockedToReplica = 0
      nodes[index].skew = nodes[index].skew.clamped(to: -60_000...60_000)
      if nodes[index].isDown {
        nodes[index].isDown = false
        timeline.plan(.connect(index), after: 0)
      }
      // Who does less than everything does everything from now on.
      if let id = nodes[index].link, let connection = connections[id] {
        if connection.isPartial { try act(on: id) { try $0.stop() } }
      } else {
        timeline.plan(.connect(index), after: 0)
      }
    }
    timeline.plan(.look, after: 1_000_000)
  }

  /// Whether all has come to rest; if so, everybody writes once more, and it must come to rest again.
  private mutating func look() throws {
    for index in nodes.indices where !nodes[index].store.parked.isEmpty { try retryParked(at: index) }
    guard let restless = try restlessness() else {
      guard fresh.isEmpty else {
        isOver = true
        return
      }
      note { "--- everybody writes once more" }
      for index in nodes.indices {
        fresh.append(Array("fresh \(index)".utf8))
        try write([(fresh[index], isDeletion: false, bytes: 0)], at: index)
      }
      deadline = timeline.now + Self.patience
      return timeline.plan(.look, after: 500_000)
    }
    let deadline = deadline ?? scenario.faultTime + Self.patience
    guard timeline.now < deadline else { throw Failure("it does not come to rest: \(restless)") }
    timeline.plan(.look, after: 1_000_000)
  }

  private var deadline: Int?

  /// What keeps it from being at rest; nil: nothing.
  private func restlessness() throws -> String? {
    let head = try space.head()
    // A session that is open when another replica's handshake begins an epoch goes on in the one before.
    let epochs = try space.formerEpochs().map(\.identity) + [head.identity]
    for (index, node) in nodes.enumerated() {
      let state = node.store.state
      guard !state.hasPending else { return "replica \(index) has \(state.pendingChanges) changes pending" }
      guard state.cursor == head.version, epochs.contains(state.hubEpoch) else {
        return
          "replica \(index) has pulled through \(state.cursor) of \(Self.name(state.hubEpoch)), and the hub is at \(head.version) of \(Self.name(head.identity))"
      }
      guard state.subscription.missing.isEmpty else { return "replica \(index) has not all of a snapshot" }
      guard !state.isRestoring else { return "replica \(index) has yet to bring something back" }
      // Two copies that have written nothing since take each other's place: nobody can tell them apart.
      let isOneOfTwo = nodes.count { $0.store.identity == node.store.identity } > 1
      guard isOneOfTwo || node.link.flatMap({ connections[$0]?.link.replica.isCaughtUp }) == true else {
        return "replica \(index) has no session that is caught up"
      }
    }
    return nil
  }
}

extension Comparable {
  fileprivate func clamped(to range: ClosedRange<Self>) -> Self { min(max(self, range.lowerBound), range.upperBound) }
}
