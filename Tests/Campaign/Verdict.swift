// Whether a run came to where it belongs. Of the directories that it left, and of what the replicas were told.
//
// What holds:
// - All stores and the hub's have the same rows. Nothing is pending, parked or undecided. No replica took itself for a copy, and
//   the hub's epoch is the first one. Each store is sound (`Store.verify`).
// - Of each replica exactly the acknowledged transactions are there: none is missing, none is there that a kill took.
// - None was applied twice: in the hub's log each row of one replica alone stands once, and what it counted up only goes up.
// - No write of a shared key was overwritten silently: whoever wrote what stands knew of it, or its value, or that of somebody who
//   knew of it, is in somebody's conflict journal.

import Foundation
import KVLog
import KVStore

final class Verdict {
  struct Wrong: Error, CustomStringConvertible {
    var all: [String]
    var description: String { all.prefix(12).joined(separator: "\n  ") }
  }

  /// What a log says of the writes of one replica.
  private struct Counted {
    var times: [String: Int] = [:]
    var last = 0
  }

  private let path: String
  private let seed: UInt64
  private var wrong: [String] = []
  /// Of each write of a shared key, KEY NAME:N, the one that it replaced.
  private var formers: [String: String] = [:]
  /// The writes whose values stand, or are in a journal.
  private var kept: Set<String> = []

  private(set) var writes = 0
  private(set) var conflicts = 0
  private(set) var inFlight = 0

  init(_ path: String, seed: UInt64) { (self.path, self.seed) = (path, seed) }

  private func expect(_ isSo: Bool, _ words: @autoclosure () -> String) {
    if !isSo { wrong.append(words()) }
  }

  func check() throws {
    let hubPath = "\(path)/hub/spaces/space"
    let hub = try open(hubPath)
    let rows = try contents(hub)
    expect(hub.formerEpochs().isEmpty, "the hub began another epoch")
    try checkLog(hub, of: nil)
    try hub.closeBlocking()
    for name in Run.names { try check(name, against: rows) }
    for (key, value) in rows { keep(key, value) }
    let ledgers = Run.names.map { ($0, Ledger.Contents("\(path)/\($0).ledger")) }
    for (name, ledger) in ledgers { checkRows(rows, name, ledger) }
    checkOverwritten(ledgers)
    for place in [hubPath] + Run.names.map({ "\(path)/\($0)" }) {
      do { _ = try Store.verify(at: place) } catch { expect(false, "\(place): \(error)") }
    }
    guard wrong.isEmpty else { throw Wrong(all: wrong) }
  }

  private func open(_ path: String) throws -> Store {
    var options = Store.Options()
    options.readOnly = true
    return try Store.openBlocking(at: path, options: options)
  }

  private func contents(_ store: Store) throws -> [String: String] {
    try store.read { snapshot in
      var rows: [String: String] = [:]
      for row in try snapshot.scan() {
        rows[String(decoding: row.key, as: UTF8.self)] = String(decoding: row.value, as: UTF8.self)
      }
      return rows
    }
  }

  private func check(_ name: String, against rows: [String: String]) throws {
    let store = try open("\(path)/\(name)")
    let own = try contents(store)
    let differing = Set(own.keys).union(rows.keys).filter { own[$0] != rows[$0] }.sorted()
    expect(differing.isEmpty, "\(name) differs from the hub in \(differing.count) rows, such as \(differing.prefix(5))")
    let counters = store.counters()
    expect(counters.pendingChanges == 0, "\(name) has \(counters.pendingChanges) pending changes")
    expect(counters.parkedCommits == 0, "\(name) has \(counters.parkedCommits) parked commits")
    expect(counters.unresolvedConflicts == 0, "\(name) has undecided conflicts")
    expect(store.incarnation == store.identity, "\(name) took itself for a copy")
    for conflict in try store.conflicts() {
      conflicts += 1
      guard let value = conflict.losingValue else { continue }
      keep(String(decoding: conflict.key, as: UTF8.self), String(decoding: value, as: UTF8.self))
    }
    try checkLog(store, of: name)
    try store.closeBlocking()
  }

  private func keep(_ key: String, _ value: String) {
    if key.hasPrefix("shared/") { kept.insert("\(key) \(Writes.written(value).name)") }
  }

  /// Of the hub's log, how often each write stands there; of all logs, what was replaced.
  private func checkLog(_ store: Store, of name: String?) throws {
    var counted: [String: Counted] = [:]
    let place = name.map { "the log of \($0)" } ?? "the hub's log"
    _ = try store.forEachChange(after: 0) { change in
      let key = String(decoding: change.key.copied(), as: UTF8.self)
      var value: String?
      if let bytes = change.value { value = String(decoding: bytes.copied(), as: UTF8.self) }
      if key.hasPrefix("shared/"), let value {
        let written = Writes.written(value)
        formers["\(key) \(written.name)"] = written.former.map { "\(key) \($0)" }
      }
      // What a replica was brought up with by a snapshot stands in its log beside the commits themselves.
      guard name == nil else { return true }
      let parts = key.split(separator: "/").map(String.init)
      switch parts[0] {
      case "left":
        let number = value.flatMap { Int($0) } ?? 0
        let last = counted[parts[1]]?.last ?? 0
        expect(number > last, "in \(place), transaction \(number) of \(parts[1]) comes after \(last)")
        counted[parts[1], default: Counted()].last = number
      case "own":
        if value != nil { counted[parts[1], default: Counted()].times[parts[2], default: 0] += 1 }
      default: break
      }
      return true
    }
    for (writer, counts) in counted {
      for (number, times) in counts.times where times > 1 {
        expect(false, "in \(place), own/\(writer)/\(number) \(times) times")
      }
    }
  }

  private func checkRows(_ rows: [String: String], _ name: String, _ ledger: Ledger.Contents) {
    for words in ledger.wrong { expect(false, words) }
    expect(ledger.open == nil, "\(name) never said what became of transaction \(ledger.open ?? 0)")
    writes += ledger.done.count
    inFlight += ledger.found + ledger.lost
    let plan = Writes(seed: seed, name: name)
    var expected: [String: String] = [:]
    for number in ledger.done.sorted() {
      let transaction = plan.transaction(number)
      if let deleted = transaction.deletes { expected[Writes.own(name, deleted)] = nil }
      expected[Writes.own(name, number)] = plan.ownValue(transaction)
    }
    let last = ledger.done.max().map(String.init)
    expected["left/\(name)"] = last
    expected["right/\(name)"] = last
    let found = rows.filter { key, _ in
      key.hasPrefix("own/\(name)/") || key == "left/\(name)" || key == "right/\(name)"
    }
    for (key, value) in expected.sorted(by: { $0.key < $1.key }) where found[key] != value {
      expect(false, "\(key) is \(found[key]?.prefix(20) ?? "missing"), and \(value.prefix(20)) was acknowledged")
    }
    for key in found.keys.sorted() where expected[key] == nil { expect(false, "\(key) is there, and should not be") }
  }

  private func checkOverwritten(_ ledgers: [(String, Ledger.Contents)]) {
    var known: Set<String> = []
    for write in kept {
      var next: String? = write
      while let name = next, known.insert(name).inserted { next = formers[name] }
    }
    for (name, ledger) in ledgers {
      let plan = Writes(seed: seed, name: name)
      for number in ledger.done.sorted() {
        for key in plan.transaction(number).shared where !known.contains("shared/\(key) \(name):\(number)") {
          expect(false, "\(name)'s write \(number) of shared/\(key) was overwritten by somebody unaware of it")
        }
      }
    }
  }
}
