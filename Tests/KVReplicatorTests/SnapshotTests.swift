// Snapshots: replicas that are new, were away for too long, or take part in some of a space. Real stores and a real hub.

import Foundation
import KVLog
import KVProtocol
import Synchronization
import TestSupport
import Testing

@testable import KVHub
@testable import KVReplicator
@testable import KVStore

/// A hub over a space in memory that can forget its log, and replicas of it.
private final class Circle {
  let bench: Workbench
  let storage = InMemoryHubStorage()
  let hub: Hub
  private(set) var stores: [String: Store] = [:]

  init() async throws {
    bench = try Workbench()
    hub = Hub(storage: storage)
    try await hub.start()
  }

  var space: InMemorySpace {
    get async throws { try #require(try await (storage as any HubStorage).space(named: "space") as? InMemorySpace) }
  }

  func store(_ name: String) async throws -> Store {
    if let store = stores[name] { return store }
    let store = try await bench.store(name)
    stores[name] = store
    return store
  }

  func reopen(_ name: String) async throws {
    try await stores.removeValue(forKey: name)?.close()
    _ = try await store(name)
  }

  @discardableResult
  func sync(
    _ name: String, budget: Int? = nil, _ configuration: Replicator.Configuration = .small
  ) async throws -> SyncReport {
    let replicator = Replicator(try await store(name), hub: try hub.address(), configuration: configuration)
    return try await replicator.syncOnce(.both, budget: .init(bytes: budget))
  }

  func heal(_ names: [String]) async throws { try await untilAtRest(names) { try await sync($0) } }

  func file(_ name: String) -> String { "\(bench.path)/\(name)" }

  func export(_ store: Store) async throws -> String {
    try await FileExchange(store).export(to: file("out"))
    return file("out")
  }

  func take(_ path: String) async throws {
    _ = try await HubFileExchange(storage, space: "space").importChanges(from: path) { _, _ in }
  }

  func answer(_ request: String, _ path: String) async throws {
    _ = try await HubFileExchange(storage, space: "space").exportAnswer(to: path, for: request) { _, _ in }
  }

  func end() async throws {
    for store in stores.values { try await store.close() }
    await hub.shutdown()
  }
}

@Suite("Snapshots", .timeLimit(.minutes(5)))
struct SnapshotTests {
  private func text(_ store: Store) throws -> [String: String] {
    Dictionary(
      uniqueKeysWithValues: try contents(store).map {
        (String(decoding: $0.key, as: UTF8.self), String(decoding: $0.value, as: UTF8.self))
      })
  }

  private func tombstones(_ store: Store) throws -> Int {
    var count = 0
    try store.read { snapshot in
      try snapshot.forEachRow { _, row, _ in
        if row.isTombstone { count += 1 }
        return true
      }
    }
    return count
  }

  @Test("A new replica gets every row once and no deletion, however often it is cut off, and what is written meanwhile")
  func bootstrap() async throws {
    let circle = try await Circle()
    let first = try await circle.store("first")
    for number in 0..<400 { try await first.put("value \(number)", for: "key/\(number)", durability: .relaxed) }
    for number in 0..<100 { try await first.delete("key/\(4 * number)", durability: .relaxed) }
    try await circle.sync("first")
    let second = try await circle.store("second")
    var pulled = 0
    var sessions = 0
    while true {
      let report = try await circle.sync("second", budget: 1_500)
      pulled += report.pulledChanges
      sessions += 1
      #expect(second.replicaState().covered.isEmpty == false)
      if !report.isCutShort { break }
      // In what has come, and in what has not.
      try await first.put("later \(sessions)", for: "key/1")
      try await first.put("later \(sessions)", for: "key/99")
      try await circle.sync("first")
      if sessions == 3 { try await circle.reopen("second") }
    }
    #expect(sessions > 5)
    // Each session may bring the two that were written before it, and what is loaded is loaded once.
    #expect(pulled <= 300 + 2 * sessions)
    let last = try await circle.store("second")
    #expect(try text(last) == text(first))
    #expect(try tombstones(last) == 0)
    #expect(last.replicaState().missing.isEmpty)
    try await circle.end()
  }

  @Test(
    "A replica away for longer than the log is kept is told so, keeps what it has pending, and deletes what was deleted"
  )
  func lapsed() async throws {
    let circle = try await Circle()
    let (first, second) = (try await circle.store("first"), try await circle.store("second"))
    for number in 0..<50 { try await first.put("old", for: "key/\(number)") }
    try await circle.heal(["first", "second"])
    try await second.put("written while away", for: "key/1")
    try await second.put("written while away", for: "key/2")
    try await second.put("new", for: "only here")
    try await second.delete("key/3")
    try await Task.sleep(for: .milliseconds(3))
    try await first.delete("key/0")
    try await first.delete("key/2")
    for number in 10..<30 { try await first.put("changed", for: "key/\(number)") }
    try await first.put("changed too", for: "key/1")
    try await circle.sync("first")
    let space = try await circle.space
    space.truncate(through: space.head().version)
    let replicator = Replicator(second, hub: try circle.hub.address(), configuration: .small)
    var events = replicator.events.makeAsyncIterator()
    let report = try await replicator.syncOnce()
    #expect(report.conflicts == 1)
    var hasLapsed = false
    while !hasLapsed, let event = await events.next() { hasLapsed = event == .lapsed }
    #expect(hasLapsed)
    try await circle.heal(["first", "second"])
    #expect(try text(first) == text(second))
    let rows = try text(second)
    #expect(rows["key/0"] == nil && rows["key/3"] == nil)
    #expect(rows["key/1"] == "changed too" && rows["key/2"] == "written while away" && rows["only here"] == "new")
    #expect(rows["key/20"] == "changed" && rows.count == 49)
    #expect(try second.conflicts().map { String(decoding: $0.key, as: UTF8.self) } == ["key/1"])
    try await circle.end()
  }

  @Test("A deletion that a new replica never saw meets what it had written before, and the later one stands")
  func deletionMeetsPending() async throws {
    let circle = try await Circle()
    let (first, second) = (try await circle.store("first"), try await circle.store("second"))
    try await first.put("v", for: "early")
    try await first.put("v", for: "late")
    try await second.put("earlier than its deletion", for: "early")
    try await Task.sleep(for: .milliseconds(3))
    try await first.delete("early")
    try await first.delete("late")
    try await Task.sleep(for: .milliseconds(3))
    try await second.put("later than its deletion", for: "late")
    try await circle.sync("first")
    try await circle.heal(["second", "first"])
    for store in [first, second] { #expect(try text(store) == ["late": "later than its deletion"]) }
    #expect(try second.conflicts().count == 2)
    try await circle.end()
  }

  @Test("Scopes come and go while the replicator runs; the rest is not loaded again, and nothing is deleted on the hub")
  func scopes() async throws {
    let circle = try await Circle()
    let (first, second) = (try await circle.store("first"), try await circle.store("second"))
    for number in 0..<40 {
      for prefix in ["a/", "b/", "c/"] { try await first.put("\(number)", for: "\(prefix)\(number)") }
    }
    try await first.write { transaction in
      for prefix in ["a/", "b/", "c/"] { try transaction.put("all", for: "\(prefix)x") }
    }
    try await circle.sync("first")
    try await second.addScope("a/")
    #expect(second.scopes == [Array("a/".utf8)])
    let replicator = Replicator(second, hub: try circle.hub.address(), configuration: .small)
    let run = Task { try await replicator.run() }
    defer { run.cancel() }
    try await eventually { try text(second).count == 41 }
    try await second.addScope("b/")
    try await eventually { try text(second).count == 82 }
    let pages = try text(second)
    // Outside: it is shipped, and neither comes nor goes.
    try await second.put("outside", for: "c/mine")
    try await replicator.caughtUp()
    try await first.write { transaction in
      for prefix in ["a/", "b/", "c/"] { try transaction.put("again", for: "\(prefix)x") }
    }
    try await circle.sync("first")
    try await eventually { try text(second)["b/x"] == "again" && text(second)["a/x"] == "again" }
    #expect(try text(second).count == pages.count + 1 && text(first)["c/mine"] == "outside")
    try await second.removeScope("b/")
    #expect(try await second.evict() == 42)
    #expect(try text(second).keys.allSatisfy { $0.hasPrefix("a/") })
    try await replicator.caughtUp()
    try await circle.sync("first")
    #expect(try text(first).count == 124)
    // What is pending is not given up.
    run.cancel()
    _ = try? await run.value
    try await second.put("pending", for: "b/1")
    #expect(try await second.evict() == 0)
    try await second.addScope("b/")
    let report = try await circle.sync("second")
    #expect(report.pulledChanges == 41 && report.conflicts == 1)
    try await circle.heal(["first", "second"])
    #expect(try text(first)["b/1"] == "pending")
    #expect(try text(second) == text(first).filter { !$0.key.hasPrefix("c/") })
    try await circle.end()
  }

  @Test("What is written outside of the scopes and meets somebody else's change is resolved like any other conflict")
  func outside() async throws {
    let circle = try await Circle()
    let (first, second) = (try await circle.store("first"), try await circle.store("second"))
    try await second.addScope("a/")
    try await second.put("mine, earlier", for: "b/2")
    try await second.put("mine, earlier", for: "b/3")
    try await Task.sleep(for: .milliseconds(3))
    try await first.put("theirs", for: "b/1")
    try await first.put("theirs", for: "b/2")
    try await first.put("gone", for: "b/3")
    try await first.delete("b/3")
    try await first.put("theirs", for: "b/4")
    try await circle.sync("first")
    try await Task.sleep(for: .milliseconds(3))
    try await second.write { transaction in
      try transaction.put("mine", for: "b/1")
      try transaction.put("mine", for: "a/1")
      try transaction.put("mine", for: "c/1")
    }
    let report = try await circle.sync("second")
    #expect(report.pendingChanges == 0 && report.conflicts == 3 && report.parked == 0)
    #expect(try second.parkedCommits().isEmpty)
    try await circle.heal(["first", "second"])
    #expect(try text(first) == ["a/1": "mine", "b/1": "mine", "b/2": "theirs", "b/4": "theirs", "c/1": "mine"])
    #expect(try text(second) == ["a/1": "mine", "b/1": "mine", "b/2": "theirs", "c/1": "mine"])
    #expect(try second.conflicts().count == 3)
    // These keys, and no others, are kept level from now on; another change of the scopes forgets them.
    try await first.put("later", for: "b/2")
    try await first.put("later", for: "b/4")
    try await circle.heal(["first", "second"])
    #expect(try text(second)["b/2"] == "later" && text(second)["b/4"] == nil)
    try await second.put("shipped", for: "d/1")
    try await circle.sync("second")
    // The keys of a commit that met something belong together.
    #expect(try await second.evict() == 1)
    try await second.addScope("x/")
    try await first.put("unheard of", for: "b/2")
    try await circle.heal(["first", "second"])
    #expect(try text(second)["b/2"] == "later")
    #expect(try await second.evict() == 3)
    #expect(try text(second) == ["a/1": "mine"] && text(first).count == 6)
    try await circle.end()
  }

  @Test("A conflict outside of the scopes waits for a pull, and for the program where that decides")
  func outsideByHand() async throws {
    let circle = try await Circle()
    let (first, second) = (try await circle.store("first"), try await circle.store("second"))
    try await first.put("theirs", for: "b/1")
    try await circle.sync("first")
    try await second.addScope("a/")
    try await second.put("mine", for: "b/1")
    var configuration = Replicator.Configuration.small
    configuration.policy = .manual
    let replicator = Replicator(second, hub: try circle.hub.address(), configuration: configuration)
    #expect(try await replicator.push().awaitsPull)
    #expect(second.replicaState().pendingChanges == 1)
    _ = try await replicator.syncOnce()
    #expect(second.counters().unresolvedConflicts == 1 && second.replicaState().pendingChanges == 0)
    #expect(try text(second) == ["b/1": "theirs"])
    try await circle.end()
  }

  @Test("With more keys outside of the scopes than a store may ask for, a commit is parked, and can be retried")
  func farOutside() async throws {
    let circle = try await Circle()
    let (first, second) = (try await circle.store("first"), try await circle.store("second"))
    let keys = (0..<20).map { "b/\($0)/" + String(repeating: "x", count: 400) }
    for key in keys { try await first.put("theirs", for: key) }
    try await circle.sync("first")
    try await second.addScope("a/")
    for key in keys { try await second.put("mine", for: key) }
    try await second.put("mine", for: "a/1")
    let report = try await circle.sync("second")
    #expect(report.pendingChanges == 0 && report.conflicts > 3 && report.parked > 3)
    #expect(report.conflicts + report.parked == keys.count)
    let parked = try second.parkedCommits()
    #expect(parked.allSatisfy { $0.code == ParkedCommit.outsideScopes })
    try await second.addScope("b/")
    for commit in parked { try await second.retryParked(commit.id) }
    try await circle.heal(["second", "first"])
    #expect(try text(first) == text(second) && text(first).values.allSatisfy { $0 == "mine" })
    try await circle.end()
  }

  @Test("By files too, a replica away for longer than the log is kept is loaded anew, and late answers change nothing")
  func lapsedByFiles() async throws {
    let circle = try await Circle()
    let (first, second) = (try await circle.store("first"), try await circle.store("second"))
    for number in 0..<20 { try await first.put("old", for: "key/\(number)") }
    try await circle.heal(["first", "second"])
    try await second.put("pending", for: "only here")
    try await first.delete("key/0")
    try await first.put("changed", for: "key/1")
    try await circle.sync("first")
    let space = try await circle.space
    space.truncate(through: space.head().version)
    let out = try await circle.export(second)
    try await circle.answer(out, circle.file("before"))
    try await circle.take(out)
    try await circle.answer(out, circle.file("after"))
    let report = try await FileExchange(second).importAnswer(from: circle.file("after"))
    #expect(report.pushedChanges == 1 && report.pendingChanges == 0)
    try await circle.sync("first")
    #expect(try text(second) == text(first) && text(second)["key/1"] == "changed" && text(second).count == 20)
    for late in ["before", "after"] {
      #expect(try await FileExchange(second).importAnswer(from: circle.file(late)) == SyncReport())
    }
    #expect(try text(second) == text(first))
    try await circle.end()
  }

  @Test("An answer to a store that had fewer scopes then is refused: it would pass over what was written in the others")
  func answerToFewerScopes() async throws {
    let circle = try await Circle()
    let (first, second) = (try await circle.store("first"), try await circle.store("second"))
    for key in ["a/1", "b/1"] { try await first.put("old", for: key) }
    try await circle.sync("first")
    try await second.addScope("a/")
    try await circle.sync("second")
    let out = try await circle.export(second)
    try await second.addScope("b/")
    try await circle.sync("second")
    for key in ["a/1", "b/1"] { try await first.put("new", for: key) }
    try await circle.sync("first")
    try await circle.answer(out, circle.file("back"))
    let error = await #expect(throws: StoreError.self) {
      try await FileExchange(second).importAnswer(from: circle.file("back"))
    }
    #expect(error?.code == .replication && error?.message.contains("Export again") == true)
    #expect(try text(second) == ["a/1": "old", "b/1": "old"])
    try await circle.sync("second")
    #expect(try text(second) == ["a/1": "new", "b/1": "new"])
    try await circle.end()
  }

  @Test(
    "Whatever is written, cut off, forgotten by the hub, added to and removed from the scopes, in the end all have the same"
  )
  func anyOrder() async throws {
    var random = SeededGenerator()
    let circle = try await Circle()
    let names = ["a", "b", "c"]
    var written: Set<String> = []
    for step in 0..<120 {
      let name = names[random.below(3)]
      let store = try await circle.store(name)
      switch random.below(20) {
      case 0..<9:
        let changes = (0...random.below(3)).map { _ in
          ("\(["x", "y", "z"][random.below(3)])/\(random.below(20))", random.chance(75) ? "\(name) \(step)" : nil)
        }
        for case (_, let value?) in changes { written.insert(value) }
        try await store.write { transaction in
          for (key, value) in changes {
            if let value { try transaction.put(value, for: key) } else { try transaction.delete(key) }
          }
        }
      case 9..<14: try await circle.sync(name, budget: random.chance(60) ? 100 + random.below(1_500) : nil)
      case 14:
        let space = try await circle.space
        space.truncate(through: space.head().version)
      case 15 where name != "a":
        let prefix = ["x/", "y/", "z/"][random.below(3)]
        if let scopes = store.scopes, scopes.contains(Array(prefix.utf8)) {
          try await store.removeScope(prefix)
        } else {
          try await store.addScope(prefix)
        }
      case 16 where name != "a": try await store.evict()
      case 17: try await circle.reopen(name)
      default: break
      }
    }
    // Whoever takes part in everything resolves everything.
    for name in names { try await circle.store(name).removeAllScopes() }
    try await circle.heal(names)
    for name in names {
      let store = try await circle.store(name)
      while let parked = try store.parkedCommits().first { try await store.retryParked(parked.id) }
    }
    try await circle.heal(names)
    let expected = try text(try await circle.store("a"))
    for name in names {
      let store = try await circle.store(name)
      let rows = try text(store)
      let differing = Set(rows.keys).union(expected.keys).filter { rows[$0] != expected[$0] }.sorted()
      #expect(rows == expected, "\(name): \(differing.map { "\($0) \(rows[$0] ?? "-") \(expected[$0] ?? "-")" })")
      #expect(store.replicaState().pendingChanges == 0)
    }
    #expect(expected.values.allSatisfy(written.contains))
    try await circle.end()
  }
}
