// Replicas with model stores around a space in memory, driven by one seed: writes, sessions, delays, cuts and power
// cuts in any order; then everything is left in peace, and must become equal.

import KVLog
import KVProtocol
import TestSupport
import Testing

@testable import KVHub
@testable import KVReplicator
@testable import KVStore

struct Simulation {
  private struct Replica {
    var store: ModelStore
    /// What a power cut leaves.
    var durable: ModelStore
    var link: SimulatedLink?
    /// Cut, and not yet noticed by the hub.
    var ghosts: [SimulatedLink] = []
  }

  private var random: SeededGenerator
  private let space: InMemorySpace
  private var replicas: [Replica] = []
  private var written: [(key: [UInt8], value: [UInt8])] = []
  /// Of each key, the write that is to stand in the end, whatever is shipped of the others.
  private var latest: [[UInt8]: (time: HybridTime, writer: Identity, value: [UInt8]?)] = [:]
  /// Local changes that no replica has shipped, because later ones had overwritten them.
  var passedOver: Int { replicas.reduce(0) { $0 + $1.store.passedOver } }
  private var clock: UInt64 = 1_000
  private let keyCount: Int

  init(seed: UInt64, replicas count: Int) {
    random = SeededGenerator(seed: seed)
    space = InMemorySpace(epoch: Identity(high: 7, low: random.next()))
    keyCount = 1 + random.below(6)
    for number in 0..<count {
      var store = ModelStore(identity: Identity(high: UInt64(number + 1), low: random.next()))
      store.history = random.chance(75) ? .latest : .every
      replicas.append(Replica(store: store, durable: store))
    }
  }

  /// Runs and checks; throws what is wrong.
  mutating func run(steps: Int) throws {
    for _ in 0..<steps { try stir() }
    try heal()
    try check()
  }

  // MARK: Disorder

  private mutating func stir() throws {
    let index = random.below(replicas.count)
    switch random.below(100) {
    case 0..<14: write(at: index)
    case 14..<20: if replicas[index].link == nil { connect(index, mode: randomMode(), isLive: random.chance(50)) }
    case 20..<22: cut(index)
    case 22..<23:
      cut(index)
      replicas[index].store = replicas[index].durable
    case 23..<24: replicas[index].link?.stop()
    case 24..<25: replicas[index].link?.pause()
    case 25..<26: replicas[index].link?.runOut()
    case 26..<28: replicas[index].link?.fence(space.head().version)
    default: try step(index)
    }
  }

  private mutating func randomMode() -> SessionMode {
    let modes: [SessionMode] = [[.push, .pull], [.push, .pull], .push, .pull]
    return modes[random.below(modes.count)]
  }

  private mutating func write(at index: Int) {
    clock += UInt64(random.below(3))
    var changes: [ModelStore.Change] = []
    for _ in 0...random.below(3) {
      let key: [UInt8] = [UInt8(ascii: "a") + UInt8(random.below(keyCount))]
      guard !changes.contains(where: { $0.key == key }) else { continue }
      let value = random.chance(85) ? Array("\(index).\(written.count)".utf8) : nil
      if let value { written.append((key, value)) }
      changes.append(ModelStore.Change(key: key, value: value))
    }
    // Clocks are not in step: replica 0 is always behind.
    replicas[index].store.write(changes, clock: index == 0 ? clock / 2 : clock)
    replicas[index].durable = replicas[index].store
    let store = replicas[index].store
    for change in changes {
      let time = HybridTime(rawValue: store.lastTime)
      if let other = latest[change.key], (other.time, other.writer) > (time, store.identity) { continue }
      latest[change.key] = (time, store.identity, change.value)
    }
  }

  private mutating func connect(_ index: Int, mode: SessionMode, isLive: Bool, isLimited: Bool = true) {
    var configuration = ReplicaSession.Configuration(space: "space", mode: mode, isLive: isLive)
    configuration.segmentBytes = 1 << (6 + random.below(6))
    configuration.windowBytes = 1 << (5 + random.below(8))
    if isLimited, random.chance(20) { configuration.budgetBytes = random.below(600) }
    replicas[index].link = SimulatedLink(
      configuration, hubWindowBytes: 1 << (5 + random.below(8)), store: replicas[index].store)
  }

  private mutating func cut(_ index: Int) {
    guard let link = replicas[index].link else { return }
    link.cut(reachingHub: random.below(link.toHub.count + 1))
    retire(index)
  }

  /// The replica is through with its link; the hub is not yet.
  private mutating func retire(_ index: Int) {
    guard let link = replicas[index].link else { return }
    replicas[index].ghosts.append(link)
    replicas[index].link = nil
  }

  /// One step of one replica's links, if one is possible. Returns false if none was.
  @discardableResult
  private mutating func step(_ index: Int) throws -> Bool {
    var links = replicas[index].ghosts
    if let link = replicas[index].link { links.append(link) }
    guard !links.isEmpty else { return false }
    let link = links[random.below(links.count)]
    let possible = SimulatedLink.Step.allCases.filter { link.canTake($0, replicas[index].store, space) }
    guard let step = possible.randomElement(using: &random) else {
      if link !== replicas[index].link {
        link.close()
        replicas[index].ghosts.removeAll { $0 === link }
        return true
      }
      return false
    }
    let choice = random.below(1_000)
    let isDurable = try link.take(step, &replicas[index].store, space, choice: choice)
    if isDurable { replicas[index].durable = replicas[index].store }
    if let ending = replicas[index].link?.ending {
      if let error = ending { throw Failure("a session ended with \(error.code): \(error)") }
      retire(index)
    }
    return true
  }

  // MARK: Order

  private mutating func heal() throws {
    for index in replicas.indices {
      cut(index)
      while try step(index) {}
    }
    for _ in 0..<12 {
      for index in replicas.indices.shuffled(using: &random) {
        try synchronise(index)
        // Nobody else is about: one session both ways settles everything.
        guard !replicas[index].store.hasPending, replicas[index].store.cursor == space.head().version else {
          throw Failure("a session ended before everything was pushed and pulled")
        }
      }
      let head = space.head().version
      if replicas.allSatisfy({ $0.store.cursor == head && !$0.store.hasPending }) { return }
    }
    throw Failure("it does not come to rest")
  }

  private mutating func synchronise(_ index: Int) throws {
    connect(index, mode: [.push, .pull], isLive: false, isLimited: false)
    var idle = 0
    var steps = 0
    while replicas[index].link != nil {
      idle = try step(index) ? 0 : idle + 1
      steps += 1
      // With ghosts around the choice may fall on one that can do nothing.
      if idle > 50 { throw Failure("a session waits for ever") }
      if steps > 100_000 { throw Failure("a session does not end") }
    }
    while try step(index) {}
  }

  private func check() throws {
    let everything = try space.feed(FeedRequest(after: 0, excluding: .zero), maximumBytes: .max)
    let history = try ModelStore.commits(in: everything?.records ?? []).map(\.commit)
    var hubRows: [[UInt8]: [UInt8]?] = [:]
    var last: [Identity: Version] = [:]
    for commit in history {
      for change in commit.changes { hubRows[change.key] = change.value }
      guard last[commit.origin, default: 0] < commit.originVersion else {
        throw Failure("commit \(commit.originVersion) of \(commit.origin) was applied twice or out of order")
      }
      last[commit.origin] = commit.originVersion
    }
    guard hubRows == latest.mapValues(\.value) else { throw Failure("a write stands that was not the latest") }
    for replica in replicas {
      guard replica.store.rows.mapValues(\.value) == hubRows else { throw Failure("a replica and the hub differ") }
      guard replica.store.localChanges == replica.store.acknowledgedChanges else {
        throw Failure("something is pending")
      }
      guard replica.store.acknowledged <= replica.store.version else {
        throw Failure("more is acknowledged than there is")
      }
    }
    var accountedFor = Set(history.flatMap(\.changes).compactMap(\.value))
    for replica in replicas { accountedFor.formUnion(replica.store.journal + replica.store.overwritten) }
    for (key, value) in written where !accountedFor.contains(value) {
      throw Failure("the value \(String(decoding: value, as: UTF8.self)) of \(key) vanished")
    }
  }

  struct Failure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
  }
}
