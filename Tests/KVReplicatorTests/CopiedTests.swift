// Stores that were copied, so that two go on under one name, or put back to an older copy of their own: what becomes of what each
// of them holds.

import Foundation
import KVHub
import KVLog
import TestSupport
import Testing

@testable import KVReplicator
@testable import KVStore

@Suite("Stores that were copied, or put back") struct CopiedTests {
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
    try await sea.endWithEachOnce()
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
    try await sea.endWithEachOnce()
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
    try await sea.begin()
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
    try await sea.endWithEachOnce()
  }

  @Test(
    "What was pending under one name and confirmed under the next comes back to a restored hub from who has a third")
  func thirdName() async throws {
    let sea = try Archipelago()
    try await sea.begin()
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
    try await sea.endWithEachOnce()
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
}
