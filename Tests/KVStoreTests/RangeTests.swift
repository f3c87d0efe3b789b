// Ranges: scans in both directions, pages, keys alone, counts, and deleting many keys, against a dictionary.

import Foundation
import KVLog
import KVStore
import TestSupport
import Testing

@Suite struct RangeTests {
  /// A store whose rows lie in the index, in sealed generations and in the live one, with deleted keys in all of them; and
  /// what it holds.
  private func makeStore(_ scratch: Scratch, _ random: inout SeededGenerator) throws -> (Store, [[UInt8]: [UInt8]]) {
    var model: [[UInt8]: [UInt8]] = [:]
    var store = try Store.openBlocking(at: scratch.path("store"))
    for part in 0..<3 {
      for _ in 0..<8 {
        let changes = (0..<40).map { _ in
          (
            key: random.bytes(1...3).map { $0 % 8 },
            value: random.chance(30) ? nil : random.chance(5) ? random.bytes(5_000) : random.bytes(0...40)
          )
        }
        try store.writeBlocking { transaction in
          for (key, value) in changes {
            if let value { try transaction.put(value, for: key) } else { try transaction.delete(key) }
          }
        }
        for (key, value) in changes { model[key] = value }
      }
      // Folds what there is.
      if part < 2 {
        try store.closeBlocking()
        store = try Store.openBlocking(at: scratch.path("store"))
      }
    }
    return (store, model)
  }

  private func randomRange(_ random: inout SeededGenerator) -> KeyRange {
    func bound() -> [UInt8]? { random.chance(20) ? nil : random.bytes(0...3).map { $0 % 8 } }
    return random.chance(30)
      ? KeyRange(prefix: random.bytes(0...2).map { $0 % 8 }) : KeyRange(from: bound(), upTo: bound())
  }

  private func keys(of model: [[UInt8]: [UInt8]], in range: KeyRange) -> [[UInt8]] {
    model.keys.filter { key in
      range.lower.map { !key.lexicographicallyPrecedes($0) } ?? true
        && range.upper.map { key.lexicographicallyPrecedes($0) } ?? true
    }.sorted { $0.lexicographicallyPrecedes($1) }
  }

  @Test(
    "Scans, key scans, counts and closures over any range agree with a dictionary, in both directions", arguments: 0..<4
  )
  func agreesWithModel(run: Int) throws {
    var random = SeededGenerator()
    let scratch = try Scratch()
    let (store, model) = try makeStore(scratch, &random)
    for _ in 0..<60 {
      let range = randomRange(&random)
      let expected = keys(of: model, in: range)
      #expect(try store.count(in: range) == expected.count)
      #expect(try store.writeBlocking { try $0.count(in: range) }.result == expected.count)
      try store.read { snapshot in
        #expect(try snapshot.count(in: range) == expected.count)
        for isReversed in [false, true] {
          let inOrder = isReversed ? expected.reversed() : expected
          let rows = inOrder.map { KeyValue(key: $0, value: model[$0] ?? []) }
          #expect(try Array(snapshot.scan(range, reversed: isReversed)) == rows, "seed \(random.seed)")
          #expect(try Array(snapshot.keys(range, reversed: isReversed)) == inOrder, "seed \(random.seed)")
          let stop = inOrder.isEmpty ? 0 : random.below(inOrder.count)
          var walked: [KeyValue] = []
          try snapshot.forEach(in: range, reversed: isReversed) { key, value in
            walked.append(KeyValue(key: key.copied(), value: value.copied()))
            return walked.count <= stop
          }
          #expect(walked == Array(rows.prefix(stop + 1)), "seed \(random.seed)")
          var walkedKeys: [[UInt8]] = []
          try snapshot.forEachKey(in: range, reversed: isReversed) { key in
            walkedKeys.append(key.copied())
            return true
          }
          #expect(walkedKeys == inOrder, "seed \(random.seed)")
        }
      }
    }
    #expect(try store.count() == model.count)
    try store.closeBlocking()
  }

  @Test("Pages that go on from the last key of the one before add up to the range, in both directions")
  func pages() throws {
    var random = SeededGenerator()
    let scratch = try Scratch()
    let (store, model) = try makeStore(scratch, &random)
    for _ in 0..<20 {
      let range = randomRange(&random)
      let expected = keys(of: model, in: range)
      for isReversed in [false, true] {
        var rest = range
        var found: [[UInt8]] = []
        while true {
          let size = 1 + random.below(9)
          // Each page is a read of its own, as when a program shows one and comes back for the next.
          let page = try store.read { try Array($0.keys(rest, reversed: isReversed).prefix(size)) }
          found += page
          guard page.count == size, let last = page.last else { break }
          rest = isReversed ? rest.before(last) : rest.after(last)
        }
        #expect(found == (isReversed ? expected.reversed() : expected), "seed \(random.seed)")
      }
    }
    try store.closeBlocking()
  }

  @Test("What lies after or before a key is that part of the range, wherever the key lies")
  func partsOfRanges() {
    let range = KeyRange(from: [2], upTo: [4])
    #expect(range.after([1]) == range && range.before([5]) == range)
    #expect(range.after([2]) == KeyRange(from: [2, 0], upTo: [4]))
    #expect(range.before([3]) == KeyRange(from: [2], upTo: [3]))
    #expect(range.after([9]) == KeyRange(from: [9, 0], upTo: [4]), "which has no keys")
    #expect(range.before([1]) == KeyRange(from: [2], upTo: [1]), "which has no keys")
    #expect(KeyRange().after("k") == KeyRange(from: Array("k\0".utf8)))
    #expect(KeyRange().before("k") == KeyRange(upTo: Array("k".utf8)))
  }

  @Test(
    "A range is deleted as a whole in a transaction: what begins otherwise stays, and nothing is gone when it throws")
  func deletesInTransaction() throws {
    struct Refusal: Error {}
    var random = SeededGenerator()
    let scratch = try Scratch()
    var (store, model) = try makeStore(scratch, &random)
    for _ in 0..<12 {
      let range = randomRange(&random)
      let expected = keys(of: model, in: range)
      #expect(throws: Refusal.self) {
        try store.writeBlocking { transaction in
          #expect(try transaction.deleteRange(in: range) == expected.count)
          #expect(try transaction.count(in: range) == 0)
          throw Refusal()
        }
      }
      #expect(try store.count(in: range) == expected.count)
      // What the transaction itself has put is in the range, too.
      let own = (range.lower ?? []) + [0, 0]
      let (removed, receipt) = try store.writeBlocking { transaction in
        try transaction.put("own", for: own)
        return try transaction.deleteRange(in: range)
      }
      let isOwnInRange = !keys(of: [own: []], in: range).isEmpty
      let before = Set(expected).union(isOwnInRange ? [own] : [])
      #expect(removed == before.count && receipt.changes == before.count + 1, "seed \(random.seed)")
      for key in before { model[key] = nil }
      if !isOwnInRange { model[own] = Array("own".utf8) }
      #expect(try contents(store) == model, "seed \(random.seed)")
    }
    try store.closeBlocking()
    #expect(try Store.verify(at: scratch.path("store")).keys == model.count)
  }

  @Test("A range beyond what a transaction may have fails it as a whole, also when the closure goes on")
  func deletionTooLarge() throws {
    let scratch = try Scratch()
    let store = try Store.openBlocking(at: scratch.path("store"))
    // A megabyte of deletions, and room for half of it.
    let stem = [UInt8](repeating: 7, count: 490)
    try store.writeBlocking { transaction in
      for number in 0..<2_000 { try transaction.put("", for: stem + Array("\(number)".utf8)) }
    }
    let large = [UInt8](repeating: 1, count: LogLimits.maximumValueBytes)
    var error: StoreError?
    do {
      try store.writeBlocking { transaction in
        for number in 0..<3 { try transaction.put(large, for: "a\(number)") }
        try transaction.put(large.dropLast(512 << 10), for: "a3")
        _ = try? transaction.deleteRange(prefix: stem)
      }
    } catch let thrown as StoreError { error = thrown }
    #expect(error?.code == .commitTooLarge)
    #expect(try store.count(prefix: "a") == 0)
    #expect(try store.count() == 2_000)
    #expect(try store.deleteRangeBlocking(prefix: stem) == 2_000)
    #expect(try store.count() == 0)
    try store.closeBlocking()
  }

  @Test("A range is deleted in commits of bounded size while others write, and goes on where it was cancelled")
  func deletesInCommits() async throws {
    let scratch = try Scratch()
    let store = try await Store.open(at: scratch.path("store"))
    try await store.write { transaction in
      for number in 0..<6_000 { try transaction.put("v", for: "log/\(number)") }
      for number in 0..<10 { try transaction.put("v", for: "keep/\(number)") }
    }
    let before = store.counters().localVersion
    let task = Task { try await store.deleteRange(prefix: "log/") }
    while store.counters().localVersion == before { await Task.yield() }
    task.cancel()
    let cancelled = await task.result
    let left = try store.count(prefix: "log/")
    if case .failure(let error) = cancelled {
      #expect(error is CancellationError)
      #expect(left > 0 && left <= 6_000 - 1_024 && left % 1_024 == 6_000 % 1_024)
    }
    async let others: Void = {
      for number in 0..<20 { try await store.put("new", for: "other/\(number)") }
    }()
    #expect(try await store.deleteRange(prefix: "log/") == left)
    try await others
    #expect(try store.count(prefix: "log/") == 0 && store.count(prefix: "keep/") == 10 && store.count() == 30)
    #expect(try await store.deleteRange(prefix: "log/") == 0)
    // No commit has more changes than a page has keys.
    var changes: [UInt64: Int] = [:]
    for try await change in store.changes(after: before) {
      changes[change.version, default: 0] += 1
      if change.version == store.counters().localVersion { break }
    }
    #expect((changes.values.max() ?? 0) <= 1_024)
    try await store.close()
    #expect(try Store.verify(at: scratch.path("store")).keys == 30)
  }
}
