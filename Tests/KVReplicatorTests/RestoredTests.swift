// Hubs that are put back to an older copy of their directory, by themselves and with stores that were.

import Foundation
import KVHub
import KVLog
import TestSupport
import Testing

@testable import KVReplicator
@testable import KVStore

@Suite("Hubs that were put back") struct RestoredTests {
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
    try await sea.endWithEachOnce()
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
