// Directories copied around: hubs and replicas that are restored to an older state, and replicas of which two go on. Real
// stores, a real hub with its directory, sockets between them.

import Foundation
import KVHub
import KVLog
import TestSupport
import Testing

@testable import KVReplicator
@testable import KVStore

/// Some replicas and a hub, whose directories can be saved and put back.
private final class Archipelago {
  let bench: Workbench
  private(set) var hub: Hub?
  private(set) var stores: [String: Store] = [:]
  var options = Store.Options()
  var hubOptions = Hub.Options()

  init() throws { bench = try Workbench() }

  func startHub() async throws { hub = try await bench.hub(.embedded, hubOptions) }

  func stopHub() async {
    await hub?.shutdown()
    hub = nil
  }

  func store(_ name: String) async throws -> Store {
    if let store = stores[name] { return store }
    let store = try await Store.open(at: "\(bench.path)/\(name)", options: options)
    stores[name] = store
    return store
  }

  func closeAll() async throws {
    for store in stores.values { try await store.close() }
    stores = [:]
    await stopHub()
  }

  /// Copies a directory that nobody has open; what was at the target is gone.
  func copy(_ source: String, to target: String) async throws {
    for name in [source, target] {
      if name == "hub" { await stopHub() }
      try await stores.removeValue(forKey: name)?.close()
    }
    try? FileManager.default.removeItem(atPath: "\(bench.path)/\(target)")
    try FileManager.default.copyItem(atPath: "\(bench.path)/\(source)", toPath: "\(bench.path)/\(target)")
  }

  @discardableResult
  func sync(
    _ name: String, _ direction: Replicator.Direction = .both, _ policy: ConflictPolicy = .lastWriterWins,
    history: ShippedHistory = .latest, bytes: Int? = nil
  ) async throws -> SyncReport {
    if hub == nil { try await startHub() }
    var configuration = Replicator.Configuration()
    configuration.policy = policy
    configuration.history = history
    configuration.token = { Array(name.utf8) }
    return try await Replicator(try await store(name), hub: try hub!.address(), configuration: configuration)
      .syncOnce(direction, budget: Replicator.Budget(bytes: bytes))
  }

  /// Synchronises until nobody has anything left for anybody.
  func heal(_ names: [String]) async throws {
    for _ in 0..<12 {
      var moved = 0
      for name in names {
        let report = try await sync(name)
        moved += report.pushedChanges + report.pulledChanges + report.pendingChanges
      }
      if moved == 0 { return }
    }
    Issue.record("it does not come to rest")
  }

  /// Writes and synchronises until nothing that is in the store's log now is in it any more.
  func expire(_ name: String) async throws {
    let version = try await store(name).counters().localVersion
    for round in 0..<60 {
      let store = try await store(name)
      if try store.information().firstLogVersion > version { return }
      for key in 0..<4 {
        try await store.put([UInt8](repeating: UInt8(round), count: 8_000), for: "filler/\(round)/\(key)")
      }
      try await sync(name)
      // Closing folds, and gives back the log that nobody needs.
      try await stores.removeValue(forKey: name)?.close()
    }
    Issue.record("the log of \(name) never gave version \(version) back")
  }

  func contents(_ name: String) async throws -> [String: String] {
    var rows: [String: String] = [:]
    for (key, value) in try KVReplicatorTests.contents(try await store(name)) {
      rows[String(decoding: key, as: UTF8.self)] = String(decoding: value, as: UTF8.self)
    }
    return rows
  }

  /// Who wrote the changes in the hub's log, in their order.
  func authors() async throws -> [Identity] {
    await stopHub()
    var authors: [Identity] = []
    var options = Store.Options()
    options.readOnly = true
    let space = try await Store.open(at: "\(bench.path)/hub/spaces/space", options: options)
    _ = try space.forEachChange(after: 0) { change in
      authors.append(change.origin)
      return true
    }
    try await space.close()
    return authors
  }

  /// How often each change stands in the hub's log: `key=value`, or `key-`.
  func history() async throws -> [String: Int] {
    await stopHub()
    var counts: [String: Int] = [:]
    var options = Store.Options()
    options.readOnly = true
    let space = try await Store.open(at: "\(bench.path)/hub/spaces/space", options: options)
    _ = try space.forEachChange(after: 0) { change in
      let key = String(decoding: change.key.copied(), as: UTF8.self)
      var entry = key + "-"
      if let value = change.value { entry = "\(key)=\(String(decoding: value.copied(), as: UTF8.self))" }
      counts[entry, default: 0] += 1
      return true
    }
    try await space.close()
    return counts
  }
}

@Suite("Restored and copied directories") struct RestoredTests {
  @Test("Replicas of several holders bring a restored hub back what it lost: once, and under nobody else's name")
  func severalHolders() async throws {
    let sea = try Archipelago()
    sea.hubOptions.access = .deciding { _, token in
      .granted(Hub.Grant(principal: String(decoding: token, as: UTF8.self), right: .write, mayCreateSpace: true))
    }
    let a = try await sea.store("a")
    try await a.put("kept", for: "before")
    for name in ["a", "b"] { try await sea.sync(name) }
    try await sea.copy("hub", to: "saved")
    for key in ["x", "y"] { try await sea.store("a").put("lost", for: key) }
    for name in ["a", "b"] { try await sea.sync(name) }
    try await sea.copy("saved", to: "hub")
    // The holder of b cannot say that a wrote it; a comes back with its own, which is the same.
    try await sea.sync("b")
    try await sea.heal(["b", "a", "third"])
    for name in ["a", "b", "third"] {
      #expect(try await sea.contents(name) == ["before": "kept", "x": "lost", "y": "lost"], "\(name)")
    }
    let author = try await sea.store("b").incarnation
    #expect(try await sea.history() == ["before=kept": 1, "x=lost": 1, "y=lost": 1])
    #expect(try await sea.authors().suffix(2) == [author, author])
  }

  @Test("A store and its copy both go on writing: no write of either is lost, none is applied twice")
  func bothGoOn() async throws {
    let sea = try Archipelago()
    let a = try await sea.store("a")
    try await a.put("1", for: "shared")
    try await a.put("old", for: "contested")
    try await sea.sync("a")
    try await a.put("before the copy", for: "unsent")
    try await sea.copy("a", to: "copy")
    for name in ["a", "copy"] {
      let store = try await sea.store(name)
      try await store.put(name, for: "of/\(name)")
      try await store.put(name, for: "contested")
    }
    try await sea.sync("a")
    let copy = try await sea.store("copy")
    let former = copy.incarnation
    try await sea.sync("copy")
    #expect(copy.incarnation != former && copy.identity == former)
    // Both come back, again and again, and nobody takes the other's place.
    try await sea.heal(["a", "copy", "a", "copy", "third"])
    let expected = [
      "shared": "1", "contested": "copy", "unsent": "before the copy", "of/a": "a", "of/copy": "copy",
    ]
    for name in ["a", "copy", "third"] { #expect(try await sea.contents(name) == expected, "\(name)") }
    let history = try await sea.history()
    #expect(history.values.allSatisfy { $0 == 1 }, "\(history)")
    try await sea.closeAll()
  }

  /// A number that all add to: the policy by which a write that counts twice shows.
  private static let adding = ConflictPolicy.merge { conflict in
    let numbers = [conflict.local, conflict.remote].map { $0.flatMap { Int(String(decoding: $0, as: UTF8.self)) } ?? 0 }
    return Array("\(numbers.reduce(0, +))".utf8)
  }

  @Test(
    "What was pending when a store was copied is one write, whoever of both brings it: no conflict, and not taken twice",
    arguments: [0, 1, 2, 3, 4], [nil, 1])
  func pendingInBoth(_ number: Int, _ bytesOfPass: Int?) async throws {
    let policies = [.lastWriterWins, .localWins, .remoteWins, .manual, Self.adding]
    let sea = try Archipelago()
    let a = try await sea.store("a")
    try await a.put("0", for: "base")
    try await sea.sync("a")
    for key in ["overwritten", "deleted", "twice"] { try await a.put("1", for: key) }
    try await a.put("2", for: "twice")
    for key in ["own", "gone"] { try await a.put("1", for: key) }
    try await sea.copy("a", to: "copy")
    // The original sends what was pending, and goes on from there.
    let original = try await sea.store("a")
    try await sea.sync("a", history: .every)
    try await original.put("3", for: "overwritten")
    try await original.put("3", for: "twice")
    try await original.delete("deleted")
    try await sea.sync("a")
    // So does the copy, which has not sent it yet.
    let copy = try await sea.store("copy")
    try await copy.put("4", for: "own")
    try await copy.delete("gone")
    // At once, or a commit in each pass.
    while try await sea.sync("copy", .both, policies[number], bytes: bytesOfPass).isCutShort {}
    #expect(copy.counters().conflicts == 0)
    try await sea.heal(["a", "copy", "third"])
    let expected = ["base": "0", "overwritten": "3", "twice": "3", "own": "4"]
    for name in ["a", "copy", "third"] { #expect(try await sea.contents(name) == expected, "\(name)") }
    let history = try await sea.history()
    #expect(history.values.allSatisfy { $0 == 1 }, "\(history)")
    try await sea.closeAll()
  }

  @Test("A copy that has less than the hub knows of, or was never synchronised, is told apart as well")
  func olderCopy() async throws {
    let sea = try Archipelago()
    let a = try await sea.store("a")
    try await a.put("1", for: "first")
    try await sea.copy("a", to: "copy")
    try await (try await sea.store("a")).put("2", for: "second")
    try await sea.sync("a")
    // Nothing of the copy's own: what the hub has is its future, and comes back to it.
    try await sea.heal(["copy", "a"])
    #expect(try await sea.contents("copy") == ["first": "1", "second": "2"])
    try await (try await sea.store("copy")).put("3", for: "third")
    try await sea.heal(["copy", "a"])
    #expect(try await sea.contents("a") == ["first": "1", "second": "2", "third": "3"])
    try await sea.closeAll()
  }

  @Test(
    "What a hub had confirmed to a copy and lost, unnoticed since the original wrote on, is there in the end",
    arguments: [Replicator.Direction.both, .push])
  func unnoticed(_ direction: Replicator.Direction) async throws {
    let sea = try Archipelago()
    let a = try await sea.store("a")
    try await a.put("0", for: "base")
    try await sea.sync("a")
    try await sea.copy("hub", to: "saved hub")
    try await sea.copy("a", to: "copy")
    let copy = try await sea.store("copy")
    for key in ["of the copy", "contested"] { try await copy.put("copy", for: key) }
    // Where it only pushes, its cursor stays behind what it is told of.
    #expect(try await sea.sync("copy", direction).pendingChanges == 0)
    try await sea.copy("saved hub", to: "hub")
    let original = try await sea.store("a")
    for key in ["contested", "of the original", "and more"] { try await original.put("a", for: key) }
    try await sea.sync("a")
    try await sea.heal(["copy", "a", "b"])
    let expected = [
      "base": "0", "of the copy": "copy", "contested": "a", "of the original": "a", "and more": "a",
    ]
    for name in ["copy", "a", "b"] { #expect(try await sea.contents(name) == expected, "\(name)") }
    #expect(try await sea.store("copy").conflicts().map(\.losingValue) == [Array("copy".utf8)])
    let history = try await sea.history()
    #expect(history.values.allSatisfy { $0 == 1 }, "\(history)")
    try await sea.closeAll()
  }

  @Test(
    "What was pending under one name and confirmed under the next comes back to a restored hub from who has a third")
  func thirdName() async throws {
    let sea = try Archipelago()
    let a = try await sea.store("a")
    try await a.put("0", for: "base")
    try await sea.sync("a")
    try await sea.copy("hub", to: "saved hub")
    try await sea.copy("a", to: "one")
    try await sea.store("a").put("1", for: "of a")
    try await sea.sync("a")
    // Written under the name of the first, and confirmed under another.
    try await sea.store("one").put("2", for: "pending")
    for _ in 0..<2 { try await sea.sync("one") }
    try await sea.copy("one", to: "two")
    try await sea.store("one").put("3", for: "of one")
    try await sea.sync("one")
    try await sea.store("two").put("4", for: "of two")
    for _ in 0..<2 { try await sea.sync("two") }
    #expect(try await sea.store("two").state.lineage.count == 2)
    // Of the others nothing is heard any more.
    try await sea.copy("saved hub", to: "hub")
    try await sea.heal(["two", "b"])
    let expected = ["base": "0", "of a": "1", "pending": "2", "of one": "3", "of two": "4"]
    for name in ["two", "b"] { #expect(try await sea.contents(name) == expected, "\(name)") }
    let history = try await sea.history()
    #expect(history.values.allSatisfy { $0 == 1 }, "\(history)")
    try await sea.closeAll()
  }

  @Test(
    "A store that only pushes and was copied has nothing pending after a pass, and what it offers once more is not taken twice"
  )
  func onlyPushing() async throws {
    let sea = try Archipelago()
    let a = try await sea.store("a")
    for key in 0..<5 { try await a.put("\(key)", for: "key/\(key)") }
    try await a.write { transaction in
      try transaction.put("1", for: "both/1")
      try transaction.put("2", for: "both/2")
    }
    try await sea.sync("a", .push)
    try await sea.copy("a", to: "copy")
    let original = try await sea.store("a")
    try await original.put("a", for: "key/0")
    try await original.put("a", for: "of a")
    try await sea.sync("a", .push)
    let copy = try await sea.store("copy")
    try await copy.put("copy", for: "of copy")
    for number in 0..<2 {
      let report = try await sea.sync("copy", .push)
      // But for the one that the original has written over.
      #expect(report.pendingChanges == 1)
      try await copy.put("copy \(number)", for: "of copy")
    }
    #expect(copy.state.version < 20, "no pass offers again what was offered again")
    try await sea.heal(["copy", "a", "b"])
    var expected = ["of a": "a", "of copy": "copy 1", "both/1": "1", "both/2": "2", "key/0": "a"]
    for key in 1..<5 { expected["key/\(key)"] = "\(key)" }
    for name in ["copy", "a", "b"] { #expect(try await sea.contents(name) == expected, "\(name)") }
    let history = try await sea.history()
    #expect(history.filter { $0.value != 1 }.isEmpty, "\(history)")
    try await sea.closeAll()
  }

  @Test("A replica that is restored from an older copy gets back what the hub has of it, and keeps what it writes then")
  func replicaRestored() async throws {
    let sea = try Archipelago()
    var a = try await sea.store("a")
    for key in 0..<5 { try await a.put("\(key)", for: "key/\(key)") }
    try await sea.sync("a")
    try await sea.copy("a", to: "saved")
    a = try await sea.store("a")
    for key in 3..<8 { try await a.put("new \(key)", for: "key/\(key)") }
    try await sea.sync("a")
    try await sea.copy("saved", to: "a")
    a = try await sea.store("a")
    try await a.put("restored", for: "key/7")
    try await a.put("restored", for: "after")
    try await sea.heal(["a", "b"])
    let expected = [
      "key/0": "0", "key/1": "1", "key/2": "2", "key/3": "new 3", "key/4": "new 4", "key/5": "new 5", "key/6": "new 6",
      "key/7": "restored", "after": "restored",
    ]
    for name in ["a", "b"] { #expect(try await sea.contents(name) == expected, "\(name)") }
    #expect(try await sea.store("a").conflicts().map(\.losingValue) == [Array("new 7".utf8)])
    try await sea.closeAll()
  }

  @Test(
    "What was left out for a later commit is not lost when that one is, with a store put back or a copy that goes on",
    arguments: [true, false], [0, 1])
  func leftOut(isRestored: Bool, written: Int) async throws {
    let sea = try Archipelago()
    var a = try await sea.store("a")
    try await a.put("1", for: "sent")
    try await a.put("held", for: "key")
    try await sea.copy("a", to: "saved")
    a = try await sea.store("a")
    try await a.put("later", for: "key")
    // The hub decides two versions, of which it gets one, and the third not at all.
    var configuration = Replicator.Configuration()
    configuration.segmentBytes = 1
    configuration.token = { Array("a".utf8) }
    try await sea.startHub()
    let report = try await Replicator(a, hub: try sea.hub!.address(), configuration: configuration)
      .syncOnce(budget: .init(bytes: 1))
    #expect(report.isCutShort)
    await sea.stopHub()
    #expect(a.state.acknowledged == 2)
    if isRestored { try await sea.copy("saved", to: "a") }
    let names = isRestored ? ["a", "b"] : ["saved", "b"]
    let store = try await sea.store(names[0])
    for number in 0..<written { try await store.put("\(number)", for: "after/\(number)") }
    try await sea.heal(names)
    var expected = ["sent": "1", "key": "held"]
    for number in 0..<written { expected["after/\(number)"] = "\(number)" }
    for name in names { #expect(try await sea.contents(name) == expected, "\(name)") }
    if !isRestored {
      expected["key"] = "later"
      try await sea.heal(["a"] + names)
      for name in ["a"] + names { #expect(try await sea.contents(name) == expected, "\(name)") }
    }
    try await sea.closeAll()
  }

  @Test(
    "A hub that is restored gets everything back that a replica holds, once, by whoever comes", arguments: [0, 1, 2])
  func hubRestored(order: Int) async throws {
    let sea = try Archipelago()
    let (a, b) = (try await sea.store("a"), try await sea.store("b"))
    try await a.put("1", for: "kept")
    try await a.put("1", for: "deleted")
    try await sea.heal(["a", "b", "c"])
    try await sea.copy("hub", to: "hub-saved")

    try await a.write { transaction in
      try transaction.put("lost", for: "a/one")
      try transaction.put("lost", for: "a/two")
    }
    try await a.put("2", for: "overwritten")
    try await a.delete("deleted")
    try await sea.heal(["a", "b"])
    try await b.put("3", for: "overwritten")
    try await b.put("lost", for: "b/one")
    try await sea.heal(["b", "a"])

    try await sea.copy("hub-saved", to: "hub")
    // Somebody who knows of nothing writes before anybody comes who does.
    let c = try await sea.store("c")
    try await c.put("new", for: "c/one")
    try await sea.sync("c")
    let names = [["a", "b", "c"], ["b", "a", "c"], ["c", "b", "a"]][order]
    try await sea.heal(names + ["d"])
    let expected = [
      "kept": "1", "a/one": "lost", "a/two": "lost", "overwritten": "3", "b/one": "lost", "c/one": "new",
    ]
    for name in names + ["d"] { #expect(try await sea.contents(name) == expected, "\(name)") }
    for name in names { #expect(try await sea.store(name).conflicts().isEmpty, "\(name)") }
    let history = try await sea.history()
    #expect(history.values.allSatisfy { $0 == 1 }, "\(history)")
    try await sea.closeAll()
  }

  @Test("What had lost a conflict is not pushed again to a hub that was restored, whatever it lost")
  func voidStaysVoid() async throws {
    let sea = try Archipelago()
    for name in ["a", "b"] { try await sea.sync(name) }
    let b = try await sea.store("b")
    try await b.put("b", for: "contested")
    try await b.put("b", for: "unique")
    // Within a millisecond chance would decide which is the later one.
    try await Task.sleep(for: .milliseconds(5))
    try await sea.store("a").put("a", for: "contested")
    try await sea.sync("a")
    try await sea.sync("b", .pull)
    try await sea.copy("hub", to: "hub-saved")
    // Only what b wrote is lost, and what was void in it has been forgotten when it was folded.
    try await sea.sync("b", .push)
    try await sea.copy("b", to: "b-closed")
    try await sea.copy("hub-saved", to: "hub")
    try await sea.heal(["b", "a"])
    for name in ["a", "b"] {
      #expect(try await sea.contents(name) == ["contested": "a", "unique": "b"], "\(name)")
    }
    let history = try await sea.history()
    #expect(history["contested=b"] == nil, "\(history)")
    try await sea.closeAll()
  }

  @Test("A hub that is restored twice is not given what it was offered again in between beside the first form of it")
  func hubRestoredTwice() async throws {
    let sea = try Archipelago()
    for name in ["a", "b"] { try await sea.sync(name) }
    try await sea.copy("hub", to: "hub-saved")
    let b = try await sea.store("b")
    try await b.write { transaction in
      try transaction.put("b", for: "unique")
      try transaction.put("b", for: "contested")
    }
    for name in ["b", "a"] { try await sea.sync(name) }
    try await sea.copy("hub-saved", to: "hub")
    try await sea.store("c").put("c", for: "contested")
    for name in ["c", "b"] { try await sea.sync(name) }
    // What b wrote is stale by now, and what is left of it was offered again; the other replica has the first form.
    try await sea.copy("hub-saved", to: "hub")
    try await sea.heal(["a", "b", "c"])
    for name in ["a", "b", "c"] {
      #expect(try await sea.contents(name) == ["unique": "b", "contested": "c"], "\(name)")
    }
    let history = try await sea.history()
    #expect(history["unique=b"] == 1, "\(history)")
    try await sea.closeAll()
  }

  @Test(
    "What the hub found stale is not lost if it is restored before its author hears of that, and others know the rest")
  func neverHeard() async throws {
    let sea = try Archipelago()
    for name in ["a", "b"] { try await sea.sync(name) }
    try await sea.copy("hub", to: "hub-saved")
    try await sea.store("b").put("theirs", for: "contested")
    try await sea.sync("b")
    let a = try await sea.store("a")
    try await a.put("mine", for: "contested")
    try await a.put("taken", for: "other")
    // The answer is lost on its way.
    try await sea.copy("a", to: "a-saved")
    try await sea.sync("a", .push)
    try await sea.copy("a-saved", to: "a")
    try await sea.sync("b")
    #expect(try await sea.contents("b") == ["contested": "theirs", "other": "taken"])
    try await sea.copy("hub-saved", to: "hub")
    try await sea.sync("b")
    await #expect {
      try await sea.sync("a", .push)
    } throws: { error in
      (error as? ReplicatorError)?.code == .hubRestored
    }
    try await sea.heal(["a", "b"])
    for name in ["a", "b"] {
      #expect(try await sea.contents(name) == ["contested": "mine", "other": "taken"], "\(name)")
    }
    let history = try await sea.history()
    #expect(history["other=taken"] == 1, "\(history)")
    try await sea.closeAll()
  }

  @Test("What a restored hub lost comes back although its author never does, and from rows where no log has it")
  func authorIsGone() async throws {
    let sea = try Archipelago()
    sea.options.segmentBytes = 16 << 10
    sea.options.logRetention = .acknowledged(bytes: 0)
    try await sea.sync("b")
    try await sea.copy("hub", to: "hub-saved")
    let a = try await sea.store("a")
    for round in 0..<8 {
      try await a.write { transaction in
        for key in 0..<40 {
          try transaction.put([UInt8](repeating: UInt8(round), count: 400), for: "a/\(round)/\(key)")
        }
      }
    }
    try await sea.heal(["a", "b"])
    // Nothing of this is left in the log of b, nor in that of a.
    for name in ["a", "b"] {
      try await sea.expire(name)
    }
    let expected = try await sea.contents("a").filter { $0.key.hasPrefix("a/") }
    #expect(expected.count == 320)
    try await sea.copy("hub-saved", to: "hub")
    try await sea.heal(["b", "c"])
    for name in ["b", "c"] {
      #expect(try await sea.contents(name).filter { $0.key.hasPrefix("a/") } == expected, "\(name)")
    }
    try await sea.heal(["a", "b", "c"])
    #expect(try await sea.contents("a") == sea.contents("c"))
    try await sea.closeAll()
  }

  @Test(
    "Whatever is copied, restored and written in whatever order: all come to the same, and nothing that anybody held is missing"
  )
  func anyOrder() async throws {
    var seeds = SeededGenerator()
    for _ in 0..<(Int(ProcessInfo.processInfo.environment["KVSYNC_COPIES"] ?? "") ?? 6) {
      let seed = seeds.next()
      try await run(SeededGenerator(seed: seed), seed)
    }
  }

  private func run(_ generator: SeededGenerator, _ seed: UInt64) async throws {
    var random = generator
    let sea = try Archipelago()
    try await sea.startHub()
    var names = ["a", "b"]
    // A hub without the space is none that was restored, but one that never had it.
    for name in names { try await sea.sync(name) }
    var isSaved: Set<String> = []
    var written = 0
    var (hubRestores, replicaRestores) = (0, 0)
    for _ in 0..<50 {
      let name = names[random.below(names.count)]
      switch random.below(100) {
      case 0..<45:
        written += 1
        let number = written
        let contested = random.below(6)
        try await sea.store(name).write { transaction in
          try transaction.put("\(number)", for: "unique/\(number)")
          try transaction.put("\(name) \(number)", for: "contested/\(contested)")
        }
      case 45..<80:
        try await sea.sync(name)
      case 80..<85:
        try await sea.copy("hub", to: "hub.saved")
        isSaved.insert("hub")
      case 85..<89:
        guard isSaved.contains("hub"), hubRestores < 1 else { break }
        hubRestores += 1
        try await sea.copy("hub.saved", to: "hub")
      case 89..<92:
        try await sea.copy(name, to: "\(name).saved")
        isSaved.insert(name)
      case 92..<95:
        guard isSaved.contains(name), replicaRestores < 1 else { break }
        replicaRestores += 1
        try await sea.copy("\(name).saved", to: name)
      default:
        guard names.count < 3 else { break }
        let copy = "\(name)\(names.count)"
        try await sea.copy(name, to: copy)
        names.append(copy)
      }
    }
    var held: Set<String> = []
    for name in names { held.formUnion(try await sea.contents(name).keys.filter { $0.hasPrefix("unique/") }) }
    try await sea.heal(names.shuffled(using: &random) + ["fresh"])
    let all = try await sea.contents("fresh")
    #expect(held.subtracting(all.keys).isEmpty, "lost (seed \(seed))")
    for name in names { #expect(try await sea.contents(name) == all, "\(name) (seed \(seed))") }
    try await sea.closeAll()
  }
}
