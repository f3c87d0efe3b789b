// What must be true at the end of a simulation, whatever has happened.

import KVLog
import KVProtocol

@testable import KVHub
@testable import KVReplicator
@testable import KVStore

extension Simulation {
  func check() throws {
    let history = try history()
    try checkOnce(history)
    let rows = try checkEqual(history)
    let stores = nodes.map(\.store)
    var standing: Set<Int> = []
    for (key, row) in rows { standing.formUnion(ledger.ids(of: row.value, key: key, at: row.time)) }
    var held = ledger.held(by: history)
    for store in stores { held.formUnion(try ledger.held(by: store)) }
    try ledger.check(standing: standing, held: held, stores: stores)
    if counts[.rowsOffered] == 0 { try ledger.checkWhole(history, stores: stores) }
    if scenario.isWithoutCopies {
      try ledger.checkConflicts(stores: stores)
      // What was merged says nothing of where its sides are.
      let values = rows.map { ledger.ids(of: $1.value, key: $0, at: $1.time) }
      try ledger.checkDeletions(standing: Set(values.filter { $0.count == 1 }.joined()))
    }
    if scenario.lastWriterStands { try checkLatest(rows, history) }
    for key in fresh where rows[key]?.value == nil { throw Failure("\(Self.name(key)) did not reach the hub") }
  }

  /// No commit was applied twice, on the hub or on a replica, nor one after a later one of the same author.
  private func checkOnce(_ history: [ModelStore.Commit]) throws {
    var last: [Identity: Version] = [:]
    for commit in history {
      guard last[commit.origin, default: 0] < commit.originVersion else {
        throw Failure(
          "commit \(commit.originVersion) of \(Self.name(commit.origin)) was applied twice or out of order on the hub")
      }
      last[commit.origin] = commit.originVersion
    }
    if scenario.isWithoutCopies {
      // Nothing was ever lost, so nothing has a reason to come again under another version.
      var seen: Set<Int> = []
      for commit in history {
        // A value that was merged says nothing of where its sides are.
        let alone = commit.changes.map { ledger.ids(of: $0.value, key: $0.key, at: commit.time) }.filter {
          $0.count == 1
        }
        for id in alone.joined() where commit.flags.isDisjoint(with: .resolution) {
          guard seen.insert(id).inserted else { throw Failure("write \(id) was applied twice on the hub") }
        }
      }
    }
    // After a hub was restored, what comes after something that was not here is applied again, in the hub's order.
    guard counts[.newEpoch] == 0 else { return }
    for (index, node) in nodes.enumerated() {
      // An original and its copy may both have written a commit of that name and version, at different times; and what a
      // copy has pending comes to it from the hub if the original had pushed it.
      var seen: [Identity: Set<[UInt64]>] = [:]
      for commit in node.store.log.map(\.view.header) where commit.serverVersion > 0 && !commit.flags.contains(.rows) {
        let mark = [commit.originVersion, commit.time.rawValue]
        guard seen[commit.origin, default: []].insert(mark).inserted else {
          throw Failure(
            "commit \(commit.originVersion) of \(Self.name(commit.origin)) was applied twice on replica \(index)")
        }
      }
    }
  }

  /// Every replica has what the hub has. Returns that.
  private func checkEqual(
    _ history: [ModelStore.Commit]
  ) throws -> [[UInt8]: (value: [UInt8]?, time: HybridTime, origin: Identity)] {
    var rows: [[UInt8]: (value: [UInt8]?, time: HybridTime, origin: Identity)] = [:]
    for commit in history {
      for change in commit.changes { rows[change.key] = (change.value, commit.time, commit.origin) }
    }
    let live = rows.compactMapValues(\.value)
    for (index, node) in nodes.enumerated() {
      let own = node.store.rows.compactMapValues(\.value)
      guard own != live else { continue }
      let key = Set(own.keys).union(live.keys).filter { own[$0] != live[$0] }.sorted {
        $0.lexicographicallyPrecedes($1)
      }[0]
      throw Failure(
        "replica \(index) and the hub differ: \(Self.name(key)) is \(Self.show(own[key])) and \(Self.show(live[key]))")
    }
    return rows
  }

  private static func show(_ value: [UInt8]?) -> String {
    value.map { String(decoding: $0.prefix { $0 != UInt8(ascii: " ") }, as: UTF8.self) } ?? "nothing"
  }

  /// Of each key the write with the latest time stands.
  private func checkLatest(
    _ rows: [[UInt8]: (value: [UInt8]?, time: HybridTime, origin: Identity)], _ history: [ModelStore.Commit]
  ) throws {
    for (key, row) in rows {
      for node in nodes {
        for commit in try node.store.commits()
        where !commit.flags.contains(.rows) && commit.changes.contains(where: { $0.key == key }) {
          guard (commit.time, commit.origin) <= (row.time, row.origin) else {
            throw Failure("of \(Self.name(key)) a write stands that was not the latest")
          }
        }
      }
    }
  }
}
