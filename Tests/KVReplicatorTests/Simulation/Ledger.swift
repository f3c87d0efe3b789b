// Every write, what its writer had seen by then, and what became of it. Finds what was lost, torn or overwritten by
// somebody who did not know of it, whatever a store or the hub believes.
//
// Invariants
// - A value says which writes it holds: one, or those that were merged in it. A deletion is known by its key and time.
// - A write is accounted for if it stands in the end, if somebody who had seen it wrote over it, or if a journal has it
//   as the side of a conflict that lost. What a disaster took from everybody who had it is excused, and nothing else is.

import KVLog

@testable import KVStore

/// Sound to send: a simulation is one thread.
final class Ledger: @unchecked Sendable {
  struct Write {
    var key: [UInt8]
    var transaction: Int
    var isDeletion: Bool
    /// What it wrote over, knowingly.
    var saw: [Int]
  }

  private struct Moment: Hashable {
    var time: HybridTime
    var key: [UInt8]
  }

  private(set) var writes: [Write] = []
  private var places: [Moment: [Int]] = [:]
  private(set) var transactions = 0
  /// Nobody has them any more, since a store or the hub went back to an older copy.
  private(set) var destroyed: Set<Int> = []
  /// Lost in conflicts whose record went with a store that was restored, or said to be dropped by the program.
  private(set) var excused: Set<Int> = []
  /// Of these, those that lost in conflicts: who won had met them, and what they had been written over.
  private var met: Set<Int> = []
  /// Deletions whose tombstones the hub kept no longer: who had written before it heard of them never does.
  private var forgotten: Set<Int> = []
  /// In commits of their own since a conflict whose record went with a store that was restored.
  private(set) var parted: Set<Int> = []

  func beginTransaction() -> Int {
    transactions += 1
    return transactions
  }

  func add(_ key: [UInt8], isDeletion: Bool, in transaction: Int, saw: [Int]) -> Int {
    writes.append(Write(key: key, transaction: transaction, isDeletion: isDeletion, saw: saw))
    return writes.count - 1
  }

  func written(_ id: Int, at time: HybridTime) {
    places[Moment(time: time, key: writes[id].key), default: []].append(id)
  }

  /// The value of a write, `bytes` long at least.
  static func value(of ids: [Int], bytes: Int = 0) -> [UInt8] {
    var value = Array(ids.map(String.init).joined(separator: "+").utf8)
    if value.count < bytes { value += [UInt8](repeating: UInt8(ascii: " "), count: bytes - value.count) }
    return value
  }

  /// The writes that a value, or a deletion, holds.
  func ids(of value: [UInt8]?, key: [UInt8], at time: HybridTime) -> [Int] {
    guard let value else { return places[Moment(time: time, key: key)] ?? [] }
    var ids: [Int] = []
    var number = 0
    var hasDigits = false
    for byte in value {
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"):
        number = number * 10 + Int(byte - UInt8(ascii: "0"))
        hasDigits = true
      case UInt8(ascii: "+"):
        ids.append(number)
        number = 0
      default: break
      }
    }
    if hasDigits { ids.append(number) }
    return ids
  }

  func ids(of row: ModelStore.HeldRow, key: [UInt8]) -> [Int] { ids(of: row.value, key: key, at: row.row.time) }

  /// Both sides in one value, the same in whatever order they meet.
  func merge(_ input: MergeInput) -> [UInt8]? {
    let sides =
      ids(of: input.local, key: input.key, at: input.localTime)
      + ids(of: input.remote, key: input.key, at: input.remoteTime)
    return Ledger.value(of: Set(sides).sorted())
  }

  // MARK: Disasters

  /// Everything that a store has of anybody's writes.
  func held(by store: ModelStore) throws -> Set<Int> {
    var held: Set<Int> = []
    for commit in try store.commits() { add(commit.changes, commit.time, to: &held) }
    for (key, row) in store.rows { held.formUnion(ids(of: row, key: key)) }
    for conflict in store.conflicts { held.formUnion(losers(of: conflict)) }
    for record in store.parked.values { held.formUnion(try ids(of: record)) }
    return held
  }

  func held(by history: [ModelStore.Commit]) -> Set<Int> {
    var held: Set<Int> = []
    for commit in history { add(commit.changes, commit.time, to: &held) }
    return held
  }

  private func add(_ changes: [ModelStore.Change], _ time: HybridTime, to held: inout Set<Int>) {
    for change in changes { held.formUnion(ids(of: change.value, key: change.key, at: time)) }
  }

  func ids(of record: ParkedRecord) throws -> [Int] {
    var commit: [UInt8] = []
    commit.append(littleEndian: UInt32(record.commit.count))
    commit.append(littleEndian: UInt32(RecordKind.commit.rawValue))
    commit += record.commit
    return try ModelStore.commits(in: commit).flatMap { commit in
      commit.changes.flatMap { ids(of: $0.value, key: $0.key, at: commit.time) }
    }
  }

  func destroy(_ ids: Set<Int>) { destroyed.formUnion(ids) }

  func excuse(_ ids: Set<Int>) { excused.formUnion(ids) }

  /// The hub has given them back.
  func forget(_ tombstones: [[UInt8]: ModelStore.HeldRow]) {
    for (key, row) in tombstones { forgotten.formUnion(ids(of: row, key: key)) }
  }

  /// The journal of a store that is gone had recorded them.
  func excuse(_ conflicts: [ConflictRecord]) {
    for conflict in conflicts {
      excused.formUnion(losers(of: conflict))
      met.formUnion(losers(of: conflict))
      parted.formUnion(contested(in: conflict))
    }
  }

  // MARK: Conflicts

  /// The writes of the side that does not stand; of equal sides, either.
  func losers(of conflict: ConflictRecord) -> [Int] {
    let local = ids(
      of: conflict.localIsDeletion ? nil : conflict.losingValue, key: conflict.key, at: conflict.localTime)
    switch conflict.outcome {
    case .remoteWon, .unresolved, .merged: return local
    case .localWon:
      return ids(of: conflict.remoteIsDeletion ? nil : conflict.losingValue, key: conflict.key, at: conflict.remoteTime)
    case .identical:
      return contested(in: conflict)
        + (places[Moment(time: conflict.remoteTime, key: conflict.key)] ?? [])
    }
  }

  /// The local side, whether it lost or not: what stands of it goes on as a commit of its own.
  func contested(in conflict: ConflictRecord) -> [Int] {
    places[Moment(time: conflict.localTime, key: conflict.key)] ?? []
  }

  // MARK: The end

  /// What stands in the end must account for every write.
  func check(standing: Set<Int>, held: Set<Int>, stores: [ModelStore]) throws {
    var accounted = standing.union(excused).union(forgotten)
    for store in stores { for conflict in store.conflicts { accounted.formUnion(losers(of: conflict)) } }
    // Who wrote over a write had also seen what that one had been written over, whatever has become of it.
    var isKnown = writes.indices.map { !destroyed.contains($0) || held.contains($0) || met.contains($0) }
    for id in writes.indices.reversed() where isKnown[id] {
      for seen in writes[id].saw {
        isKnown[seen] = true
        accounted.insert(seen)
      }
    }
    for id in writes.indices where !accounted.contains(id) && !destroyed.contains(id) {
      let what = writes[id].isDeletion ? "deletion" : "write"
      throw Simulation.Failure(
        "\(what) \(id) of \(Simulation.name(writes[id].key)) is gone: it does not stand, nobody who had seen it wrote over "
          + "it, and no journal has it")
    }
  }

  /// What was deleted does not come back, however long ago that was.
  func checkDeletions(standing: Set<Int>) throws {
    for id in forgotten {
      var seen = writes[id].saw
      while let earlier = seen.popLast() {
        guard !standing.contains(earlier) else {
          throw Simulation.Failure("write \(earlier) of \(Simulation.name(writes[id].key)) came back: it was deleted")
        }
        seen += writes[earlier].saw
      }
    }
  }

  /// No conflict was found with what somebody wrote who had seen the local side.
  func checkConflicts(stores: [ModelStore]) throws {
    for conflict in stores.flatMap(\.conflicts) where conflict.outcome != .identical {
      let local = Set(contested(in: conflict))
      let remote = places[Moment(time: conflict.remoteTime, key: conflict.key)] ?? []
      guard local.count == 1, remote.count == 1, var seen = remote.first.map({ writes[$0].saw }) else { continue }
      while let id = seen.popLast() {
        guard !local.contains(id) else {
          throw Simulation.Failure("write \(remote[0]) is found in conflict with \(id), which its writer had seen")
        }
        seen += writes[id].saw
      }
    }
  }

  /// A commit on the hub has all of a transaction that is anywhere on the hub, but for what met a conflict or was
  /// overwritten.
  func checkWhole(_ history: [ModelStore.Commit], stores: [ModelStore]) throws {
    var apart = excused.union(destroyed).union(parted)
    for write in writes { apart.formUnion(write.saw) }
    for store in stores {
      for conflict in store.conflicts {
        apart.formUnion(contested(in: conflict) + losers(of: conflict))
        // A merged value has both sides.
        if conflict.outcome == .merged {
          apart.formUnion(places[Moment(time: conflict.remoteTime, key: conflict.key)] ?? [])
        }
      }
    }
    var transactions: [Int: [Int]] = [:]
    for (id, write) in writes.enumerated() where !apart.contains(id) {
      transactions[write.transaction, default: []].append(id)
    }
    for commit in history {
      // Of a merged value it says nothing where its sides had come from.
      let changes = commit.changes.map { ids(of: $0.value, key: $0.key, at: commit.time) }
      // Two deletions of one time: nobody can tell which it is.
      guard changes.allSatisfy({ $0.count == 1 }) else { continue }
      let here = Set(changes.joined())
      for transaction in Set(here.map { writes[$0].transaction }).sorted() {
        let whole = transactions[transaction] ?? []
        let part = whole.filter(here.contains)
        guard part.isEmpty || part.count == whole.count else {
          throw Simulation.Failure("transaction \(transaction) is torn: the hub's commit has \(part) of \(whole)")
        }
      }
    }
  }
}
