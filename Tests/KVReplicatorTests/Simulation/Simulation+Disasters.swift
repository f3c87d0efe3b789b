// What happens to replicas and hub in a simulation: crashes, and directories that are copied and put back.

import KVLog
import KVProtocol
import TestSupport

@testable import KVHub
@testable import KVReplicator
@testable import KVStore

extension Simulation {
  mutating func strike(_ disaster: Scenario.Disaster) throws {
    let index = random.below(nodes.count)
    switch disaster {
    case .replicaCrash: try crash(index)
    case .hubCrash:
      if random.chance(25) { try shutDownHub() } else { try crashHub(restoring: nil) }
    case .hubRestored:
      guard let hubBackup else { return }
      try crashHub(restoring: hubBackup)
    case .replicaRestored:
      guard let backup = nodes[index].backup else { return }
      try restore(index, backup)
    case .cloned: try clone(index)
    case .hubLogTruncated:
      guard let space = space as? ModelSpace else { return }
      see(.hubLogTruncated)
      let head = space.head().version
      let limit = head - min(head, Version(random.below(6)))
      note { "the hub gives its log back through version \(limit)" }
      ledger.forget(space.store.rows.filter { $0.value.row.isTombstone && $0.value.row.version <= limit })
      space.lapse(through: limit)
    case .logTruncated:
      see(.logTruncated)
      note { "the log of replica \(index) is given back" }
      let former = nodes[index].store
      nodes[index].store.truncateLog(keeping: random.below(4))
      nodes[index].durable = nil
      // What the hub has lost, and this store had and has no more, is gone.
      try lose(former, index)
    }
  }

  mutating func saveBackup() {
    let index = random.below(nodes.count + 2)
    if nodes.indices.contains(index) {
      note { "replica \(index) is backed up" }
      nodes[index].backup = nodes[index].durable ?? nodes[index].store
    } else {
      note { "the hub is backed up" }
      hubBackup = (durableSpace ?? space).copied()
    }
  }

  // MARK: Replicas

  private mutating func end(_ index: Int) throws {
    guard let id = nodes[index].link, let connection = connections[id] else { return }
    connection.link.replicaDied()
    nodes[index].link = nil
    // The hub hears of it from the machine that is still there, or finds out by itself.
    connection.link.cut(tellingReplica: false, tellingHub: random.chance(60))
    try settle(id)
  }

  private mutating func crash(_ index: Int) throws {
    guard !nodes[index].isDown else { return }
    see(.replicaCrash)
    note { "replica \(index) crashes" }
    try end(index)
    if let durable = nodes[index].durable {
      if durable.version < nodes[index].store.version { see(.relaxedLost) }
      let former = nodes[index].store
      nodes[index].store = durable
      nodes[index].durable = nil
      try lose(former, index)
    }
    nodes[index].store = nodes[index].store.reopened()
    nodes[index].isDown = true
    timeline.plan(.back(index), after: 100_000 + random.below(3_000_000))
  }

  private mutating func restore(_ index: Int, _ backup: ModelStore) throws {
    note { "replica \(index) is restored: from version \(nodes[index].store.version) to \(backup.version)" }
    try end(index)
    let former = nodes[index].store
    nodes[index].store = backup.reopened()
    nodes[index].store.salts = SeededGenerator(seed: random.next())
    nodes[index].durable = nil
    nodes[index].isRestored = true
    try lose(former, index)
    ledger.excuse(former.conflicts)
    if !nodes[index].isDown { timeline.plan(.connect(index), after: 1_000 + random.below(2_000_000)) }
  }

  private mutating func clone(_ index: Int) throws {
    guard nodes.count < 6 else { return }
    note { "replica \(index) is copied: replica \(nodes.count)" }
    let copy = Node((nodes[index].durable ?? nodes[index].store).reopened(), skew: nodes[index].skew)
    copy.store.salts = SeededGenerator(seed: random.next())
    copy.isCloned = true
    copy.isRestored = nodes[index].isRestored
    nodes[index].isCloned = true
    nodes.append(copy)
    timeline.plan(.connect(nodes.count - 1), after: random.below(2_000_000))
    for place in [index, nodes.count - 1] {
      for _ in 0..<random.below(4) {
        timeline.plan(.write(place), at: timeline.now + random.below(max(1, scenario.faultTime - timeline.now)))
      }
    }
  }

  /// What only the former store of a replica had is gone, and nobody can bring it back.
  private mutating func lose(_ former: ModelStore, _ index: Int) throws {
    var lost = try ledger.held(by: former)
    for node in nodes { lost.subtract(try ledger.held(by: node.store)) }
    lost.subtract(ledger.held(by: try history()))
    ledger.destroy(lost)
    if !lost.isEmpty { note { "nobody has the writes \(lost.sorted()) any more" } }
  }

  // MARK: The hub

  /// All commits that the hub has.
  func history() throws -> [ModelStore.Commit] {
    try ModelStore.commits(in: space.everything())
  }

  private mutating func shutDownHub() throws {
    see(.hubShutdown)
    note { "the hub shuts down" }
    isHubDown = true
    for id in connections.keys.sorted() { try act(on: id) { try $0.shutDownHub() } }
    timeline.plan(.hubBack, after: 100_000 + random.below(3_000_000))
  }

  private mutating func crashHub(restoring backup: (any SimulatedSpace)?) throws {
    see(.hubCrash)
    note {
      "the hub crashes\(backup == nil ? "" : " and is restored: from version \((try? space.head().version) ?? 0) to \((try? backup?.head().version) ?? 0)")"
    }
    for id in connections.keys.sorted() {
      guard let link = connections[id]?.link else { continue }
      if !link.isHubDone, link.replica.push.hasUndecided { see(.hubCrashUndecided) }
      link.hubDied()
      link.cut(tellingReplica: random.chance(70), tellingHub: false)
      try settle(id)
    }
    let former = ledger.held(by: try history())
    space = (backup ?? durableSpace ?? space).copied()
    durableSpace = nil
    if backup != nil {
      // What was in nobody's hands but the hub's is gone with it.
      var lost = former.subtracting(ledger.held(by: try history()))
      for node in nodes { lost.subtract(try ledger.held(by: node.store)) }
      ledger.destroy(lost)
      if !lost.isEmpty { note { "nobody has the writes \(lost.sorted()) any more" } }
    }
    isHubDown = true
    timeline.plan(.hubBack, after: 100_000 + random.below(3_000_000))
  }
}
