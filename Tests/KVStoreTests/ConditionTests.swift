// Conditional writes, and what the store says of a key besides its value.

import Foundation
import KVLog
import KVStore
import TestSupport
import Testing

@Suite struct ConditionTests {
  /// The error's code and what it found; nil when `body` throws none.
  private func failure(_ body: () async throws -> Void) async -> (code: StoreError.Code, found: Version?)? {
    do {
      try await body()
      return nil
    } catch {
      return (error as? StoreError).map { ($0.code, $0.foundVersion) } ?? (.system, nil)
    }
  }

  @Test(
    "A write is made when the key is as its condition says, and otherwise nothing is written and the error says how it is"
  )
  func conditions() async throws {
    let scratch = try Scratch()
    let store = try await Store.open(at: scratch.path("store"))
    let first = try await store.put("1", for: "k", if: .absent).version
    #expect(try store.version(of: "k") == first)
    #expect(
      await failure { try await store.put("2", for: "k", if: .absent) } ?? (.system, 0) == (.conditionFailed, first))
    let second = try await store.put("2", for: "k", if: .version(first)).version
    for stale in [0, first, second + 1] {
      let found = await failure { try await store.put("x", for: "k", if: .version(stale)) }
      #expect(found ?? (.system, 0) == (.conditionFailed, second))
      #expect(
        await failure { try await store.delete("k", if: .version(stale)) } ?? (.system, 0) == (.conditionFailed, second)
      )
    }
    #expect(text(try store.value(for: "k")) == "2")
    #expect(store.counters().localVersion == second)
    try store.deleteBlocking("k", if: .version(second))
    // A deleted key has no value, whatever the store remembers of it.
    #expect(try store.version(of: "k") == nil && store.entry(for: "k") == nil)
    #expect(
      await failure { try store.deleteBlocking("k", if: .version(second)) } ?? (.system, 0) == (.conditionFailed, nil))
    try store.putBlocking("3", for: "k", if: .absent)
    #expect(await failure { try await store.put("v", for: "", if: .absent) }?.code == .keyEmpty)
    try await store.close()
  }

  @Test("The message of a failed condition names the key, what was wanted and what is there")
  func message() throws {
    let scratch = try Scratch()
    let store = try Store.openBlocking(at: scratch.path("store"))
    try store.putBlocking("v", for: "cart/1")
    let error = #expect(throws: StoreError.self) { try store.putBlocking("w", for: "cart/1", if: .version(7)) }
    let message = error?.message ?? ""
    #expect(message.contains("cart/1") && message.contains("version 7") && message.contains("version 1"), "\(message)")
    try store.closeBlocking()
  }

  @Test("Where the rows lie makes no difference: written just now, folded, or by the transaction itself")
  func everywhere() throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    var store = try Store.openBlocking(at: path)
    let folded = try store.putBlocking("v", for: "folded").version
    try store.putBlocking("v", for: "gone")
    try store.deleteBlocking("gone")
    try store.closeBlocking()
    store = try Store.openBlocking(at: path)
    let receipt = try store.writeBlocking { transaction in
      try transaction.put("w", for: "folded", if: .version(folded))
      try transaction.put("w", for: "gone", if: .absent)
      let own = try #require(try transaction.version(of: "folded"))
      #expect(own > folded)
      // A change that is refused leaves the transaction as it was.
      for condition in [WriteCondition.absent, .version(folded)] {
        #expect(throws: StoreError.self) { try transaction.put("x", for: "folded", if: condition) }
        #expect(throws: StoreError.self) { try transaction.delete("folded", if: condition) }
      }
      try transaction.put("y", for: "folded", if: .version(own))
      #expect(try transaction.entry(for: "folded")?.valueText == "y")
    }
    #expect(try store.version(of: "folded") == receipt.version)
    #expect(receipt.changes == 3)
    #expect(text(try store.value(for: "folded")) == "y")
    try store.closeBlocking()
    #expect(try Store.verify(at: path).keys == 2)
  }

  @Test("Counting up by condition alone, many tasks at once, loses no count")
  func optimistic() async throws {
    let scratch = try Scratch()
    let store = try await Store.open(at: scratch.path("store"))
    try await store.put("0", for: "count")
    try await withThrowingTaskGroup(of: Int.self) { group in
      for _ in 0..<8 {
        group.addTask {
          var collisions = 0
          for _ in 0..<15 {
            while true {
              let entry = try #require(try store.entry(for: "count"))
              do {
                try await store.put("\(Int(entry.valueText)! + 1)", for: "count", if: .version(entry.version))
                break
              } catch let error as StoreError where error.code == .conditionFailed { collisions += 1 }
            }
          }
          return collisions
        }
      }
      let collisions = try await group.reduce(0, +)
      #expect(collisions > 0, "otherwise this shows nothing")
    }
    #expect(text(try store.value(for: "count")) == "120")
    try await store.close()
  }

  @Test("An entry says who wrote the value, when, and as which version, here and at the hub")
  func entries() async throws {
    let scratch = try Scratch()
    let hub = try await Store.open(at: scratch.path("hub"))
    let replicas = [
      try await Store.open(at: scratch.path("a")), try await Store.open(at: scratch.path("b")),
    ]
    let start = Date().timeIntervalSince1970 * 1000
    let receipt = try await replicas[0].put("v", for: "k")
    let own = try #require(try replicas[0].entry(for: "k"))
    #expect(own.version == receipt.version && own.serverVersion == 0 && own.origin == replicas[0].identity)
    #expect(abs(Double(own.time.milliseconds) - start) < 60_000)
    try await Exchange(hub: hub).settle(replicas, policy: .lastWriterWins)
    for long in [false, true] {
      // Closing folds the row, so that it is read from the index.
      if long { try await replicas[1].close() }
      let store = long ? try await Store.open(at: scratch.path("b")) : replicas[1]
      let pulled = try #require(try store.entry(for: "k"))
      #expect(pulled.serverVersion > 0 && pulled.origin == replicas[0].identity)
      #expect(pulled.time == own.time && pulled.valueText == "v")
      #expect(try store.read { try $0.entry(for: "k") } == pulled)
      if long { try await store.close() }
    }
    try await replicas[0].close()
    try await hub.close()
  }
}
