import Foundation
import KVLog
import KVStore
import TestSupport
import Testing

@Suite struct TransactionTests {
  struct Refusal: Error {}

  @Test("A transaction whose closure throws vanishes whole, and its neighbours in the group stay")
  func throwingVanishes() async throws {
    let scratch = try Scratch()
    let store = try await Store.open(at: scratch.path("store"))
    try await withThrowingTaskGroup(of: Void.self) { group in
      for index in 0..<200 {
        group.addTask {
          do {
            try await store.write { transaction in
              try transaction.put("\(index)", for: "one/\(index)")
              try transaction.put("\(index)", for: "two/\(index)")
              if index % 3 == 0 { throw Refusal() }
            }
          } catch is Refusal {}
        }
      }
      try await group.waitForAll()
    }
    let expected = (0..<200).filter { $0 % 3 != 0 }.count
    #expect(try store.read { try $0.scan(prefix: "one/").map(\.keyText).count } == expected)
    #expect(try store.read { try $0.scan(prefix: "two/").map(\.keyText).count } == expected)
    #expect(store.counters().localVersion == UInt64(expected))
    #expect(store.counters().pendingChanges == expected * 2)
    try await store.close()
    _ = try Store.verify(at: scratch.path("store"))
  }

  @Test("Increments of concurrent writers are all counted")
  func serialisable() async throws {
    let scratch = try Scratch()
    let store = try await Store.open(at: scratch.path("store"))
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<300 {
        group.addTask {
          try await store.write { transaction in
            let count = try transaction.value(for: "count").flatMap { Int(String(decoding: $0, as: UTF8.self)) } ?? 0
            try transaction.put("\(count + 1)", for: "count")
          }
        }
      }
      try await group.waitForAll()
    }
    #expect(text(try store.value(for: "count")) == "300")
    try await store.close()
  }

  @Test("A snapshot never sees half a transaction")
  func snapshotsAreConsistent() async throws {
    let scratch = try Scratch()
    let store = try await Store.open(at: scratch.path("store"))
    let writer = Task {
      for round in 0..<400 {
        try await store.write { transaction in
          for key in 0..<20 { try transaction.put("\(round)", for: "k\(key)") }
          // Enough to roll through generations meanwhile.
          try transaction.put([UInt8](repeating: 1, count: 4000), for: "filler\(round)")
        }
      }
    }
    var checks = 0
    while checks < 400 {
      let (values, version) = try store.read { snapshot in
        (Set(try snapshot.scan(prefix: "k").map(\.valueText)), try snapshot.version)
      }
      #expect(values.count <= 1)
      if let value = values.first { #expect(version == UInt64(value)! + 1) }
      checks += 1
    }
    try await writer.value
    try await store.close()
  }

  @Test("A result comes back with the receipt, and an empty transaction leaves no commit")
  func results() async throws {
    let scratch = try Scratch()
    let store = try await Store.open(at: scratch.path("store"))
    let (count, receipt) = try await store.write { transaction -> Int in
      try transaction.put("x", for: "y")
      return 42
    }
    #expect(count == 42)
    #expect(receipt.version == 1 && receipt.changes == 1)
    let empty = try await store.write { _ in }
    #expect(empty.changes == 0)
    #expect(store.counters().localVersion == 1)
    try store.putBlocking("blocking", for: "b")
    #expect(text(try store.value(for: "b")) == "blocking")
    try store.deleteBlocking("b")
    #expect(try store.contains("b") == false)
    try await store.close()
  }

  @Test("Scans in a transaction see its own writes in order, in both directions, page after page")
  func scansOwnWrites() async throws {
    let scratch = try Scratch()
    let store = try await Store.open(at: scratch.path("store"))
    for index in stride(from: 0, to: 300, by: 2) { try await store.put("old", for: String(format: "k%03d", index)) }
    try await store.write { transaction in
      for index in stride(from: 1, to: 300, by: 2) { try transaction.put("new", for: String(format: "k%03d", index)) }
      try transaction.delete("k100")
      let expected = (0..<300).filter { $0 != 100 }.map { String(format: "k%03d", $0) }
      #expect(transaction.scan(prefix: "k").map(\.keyText) == expected)
      #expect(transaction.scan(prefix: "k", reversed: true).map(\.keyText) == expected.reversed())
    }
    try await store.close()
  }

  @Test("Illegal keys and values are refused with their limits, and the transaction may go on")
  func limits() async throws {
    let scratch = try Scratch()
    let store = try await Store.open(at: scratch.path("store"))
    func code(_ body: @escaping @Sendable (inout Transaction) throws -> Void) async -> StoreError.Code? {
      do {
        try await store.write(body)
        return nil
      } catch { return (error as? StoreError)?.code }
    }
    #expect(await code { try $0.put("v", for: "") } == .keyEmpty)
    #expect(await code { try $0.put("v", for: [UInt8](repeating: 1, count: 512)) } == .keyTooLong)
    #expect(await code { try $0.put("v", for: [UInt8](repeating: 1, count: 511)) } == nil)
    #expect(await code { try $0.put([UInt8](repeating: 1, count: 16 << 20 + 1), for: "k") } == .valueTooLong)
    #expect(
      await code { transaction in
        for index in 0..<5 { try transaction.put([UInt8](repeating: 1, count: 16 << 20), for: "k\(index)") }
      } == .commitTooLarge)
    #expect(
      await code { transaction in
        try? transaction.put("v", for: "")
        try transaction.put("v", for: "kept")
      } == nil)
    #expect(text(try store.value(for: "kept")) == "v")
    #expect(store.counters().localVersion == 2)
    try await store.close()
  }
}
