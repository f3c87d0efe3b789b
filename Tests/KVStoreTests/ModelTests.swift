import Foundation
import KVLog
import KVStore
import TestSupport
import Testing

@Suite struct ModelTests {
  @Test("Random operations agree with a dictionary, across reopening, clean and not", arguments: 0..<8)
  func agreesWithModel(run: Int) async throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("seed \(seed)")
    var random = SeededGenerator(seed: seed)
    let scratch = try Scratch()
    var path = scratch.path("store")
    var model: [[UInt8]: [UInt8]] = [:]
    var store = try await Store.open(at: path)
    let keys = (0..<200).map { _ in random.bytes(Int.random(in: 1...12, using: &random)) }
    for step in 0..<600 {
      switch Int.random(in: 0..<100, using: &random) {
      case 0..<40:
        let key = keys.randomElement(using: &random)!
        let value = random.bytes(Int.random(in: 0...300, using: &random))
        try await store.put(value, for: key)
        model[key] = value
      case 40..<55:
        let key = keys.randomElement(using: &random)!
        try await store.delete(key)
        model[key] = nil
      case 55..<75:
        let changes = (0..<Int.random(in: 1...60, using: &random)).map { _ in
          (keys.randomElement(using: &random)!, Bool.random(using: &random) ? random.bytes(20) : nil)
        }
        let fails = Int.random(in: 0..<4, using: &random) == 0
        do {
          try await store.write { transaction in
            for (key, value) in changes {
              if let value { try transaction.put(value, for: key) } else { try transaction.delete(key) }
              #expect(try transaction.value(for: key) == value)
            }
            if fails { throw Failure() }
          }
          for (key, value) in changes { model[key] = value }
        } catch is Failure {}
      case 75..<90:
        let key = keys.randomElement(using: &random)!
        #expect(try store.value(for: key) == model[key], "step \(step)")
      case 90..<96:
        try checkScans(store, model, &random)
      case 96..<98:
        try await store.close()
        store = try await Store.open(at: path)
      default:
        // What a crash leaves: a copy of the directory of an open store.
        let copy = scratch.path("copy-\(step)")
        try FileManager.default.copyItem(atPath: path, toPath: copy)
        try await store.close()
        path = copy
        store = try await Store.open(at: path)
      }
    }
    #expect(try contents(store) == model)
    #expect(try store.information().keys == model.count)
    try await store.close()
    let report = try Store.verify(at: path)
    #expect(report.keys == model.count)
    let reopened = try await Store.open(at: path)
    #expect(try contents(reopened) == model)
    try await reopened.close()
  }

  private func checkScans(_ store: Store, _ model: [[UInt8]: [UInt8]], _ random: inout SeededGenerator) throws {
    let prefix = random.bytes(Int.random(in: 0...1, using: &random))
    let bounds = [random.bytes(2), random.bytes(2)].sorted { $0.lexicographicallyPrecedes($1) }
    let sorted = model.keys.sorted { $0.lexicographicallyPrecedes($1) }
    let inRange = sorted.filter { !$0.lexicographicallyPrecedes(bounds[0]) && $0.lexicographicallyPrecedes(bounds[1]) }
    let range = KeyRange(from: bounds[0], upTo: bounds[1])
    let withPrefix = sorted.filter { $0.starts(with: prefix) }
    #expect(try store.read { try $0.scan(prefix: prefix).map(\.key) } == withPrefix)
    #expect(try store.read { try $0.scan(prefix: prefix, reversed: true).map(\.key) } == withPrefix.reversed())
    #expect(try store.read { try $0.scan(range).map(\.key) } == inRange)
    #expect(try store.read { try $0.scan(range, reversed: true).map(\.key) } == inRange.reversed())
  }

  struct Failure: Error {}

  @Test("A store larger than many generations reads back whole while it is folded, and after reopening")
  func foldsManyGenerations() async throws {
    let scratch = try Scratch()
    let store = try await Store.open(at: scratch.path("store"))
    var random = SeededGenerator(seed: 7)
    var model: [[UInt8]: [UInt8]] = [:]
    for batch in 0..<60 {
      let changes = (0..<500).map { _ in (random.bytes(16), random.bytes(100)) }
      try await store.write { transaction in
        for (key, value) in changes { try transaction.put(value, for: key) }
      }
      for (key, value) in changes { model[key] = value }
      if batch % 10 == 0 { #expect(try contents(store) == model) }
    }
    #expect(try contents(store) == model)
    #expect(try store.information().keys == model.count)
    try await store.close()
    let reopened = try await Store.open(at: scratch.path("store"))
    #expect(try contents(reopened) == model)
    #expect(reopened.counters().pendingChanges == 30_000)
    try await reopened.close()
    #expect(try Store.verify(at: scratch.path("store")).keys == model.count)
  }

  @Test("A transaction larger than a generation is taken whole")
  func largeTransaction() async throws {
    let scratch = try Scratch()
    let store = try await Store.open(at: scratch.path("store"))
    try await store.put("before", for: "a")
    let receipt = try await store.write { transaction in
      for index in 0..<20_000 { try transaction.put([UInt8](repeating: 7, count: 200), for: "key-\(index)") }
      #expect(try transaction.contains("key-0"))
      #expect(transaction.scan(prefix: "key-1999").map(\.keyText).count == 11)
    }
    #expect(receipt.changes == 20_000)
    #expect(try store.information().keys == 20_001)
    try await store.close()
    #expect(try Store.verify(at: scratch.path("store")).keys == 20_001)
  }
}
