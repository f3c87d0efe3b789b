// Rows that follow their log a little later, in a store that one process has for itself: nobody can tell.

import Foundation
import KVLog
import KVStore
import TestSupport
import Testing

@Suite struct LateRowsTests {
  /// A store and what is in it, written in transactions that are large enough to be left for later.
  private struct Specimen {
    let scratch: Scratch
    var options = Store.Options()
    var rows: [[UInt8]: [UInt8]] = [:]
    var random: SeededGenerator

    var path: String { scratch.path("store") }

    init(_ random: SeededGenerator) throws {
      scratch = try Scratch(inMemory: true)
      self.random = random
      options.isExclusive = true
    }

    /// Keys of any length, most of them with their first bytes in common; some are written more than once.
    mutating func write(_ count: Int, valueBytes: ClosedRange<Int> = 20...120, to store: Store) throws {
      var changes: [([UInt8], [UInt8]?)] = []
      for _ in 0..<count {
        let key = random.chance(10) ? random.bytes(1...3) : Array("a common beginning \(random.below(60_000))".utf8)
        let value = random.chance(5) ? nil : random.bytes(valueBytes)
        rows[key] = value
        changes.append((key, value))
      }
      let all = changes
      try store.writeBlocking { transaction in
        for (key, value) in all {
          if let value { try transaction.put(value, for: key) } else { try transaction.delete(key) }
        }
      }
    }
  }

  @Test(
    "Whoever reads sees all that was written before, at any time, small transactions and look-ups between",
    arguments: 0..<4)
  func readsSeeEverything(run: Int) throws {
    var specimen = try Specimen(SeededGenerator("readsSeeEverything"))
    specimen.options.generationBytes = 1 << 20
    var store = try Store.openBlocking(at: specimen.path, options: specimen.options)
    for _ in 0..<12 {
      switch specimen.random.below(6) {
      case 0: try specimen.write(1 + specimen.random.below(3), to: store)
      case 1:
        let key = specimen.rows.keys.min { $0.lexicographicallyPrecedes($1) } ?? [0]
        let value = specimen.rows[key]
        let found = try store.writeBlocking { transaction in try transaction.value(for: key) }
        #expect(found.result == value, "seed \(specimen.random.seed)")
      case 2: #expect(try contents(store) == specimen.rows, "seed \(specimen.random.seed)")
      case 3 where specimen.random.chance(30):
        try store.closeBlocking()
        store = try Store.openBlocking(at: specimen.path, options: specimen.options)
      default: try specimen.write(500 + specimen.random.below(1_500), to: store)
      }
    }
    #expect(try contents(store) == specimen.rows, "seed \(specimen.random.seed)")
    #expect(try store.count() == specimen.rows.count)
    try store.closeBlocking()
    let report = try Store.verify(at: specimen.path)
    #expect(report.keys == specimen.rows.count, "seed \(specimen.random.seed)")
  }

  @Test(
    "A crash loses no row that the tail lacked, be there few or so many that they fill a generation",
    arguments: [400, 33_000])
  func crash(count: Int) throws {
    var specimen = try Specimen(SeededGenerator("crash"))
    let store = try Store.openBlocking(at: specimen.path, options: specimen.options)
    try specimen.write(1_000, to: store)
    let before = specimen.scratch.path("before")
    try FileManager.default.copyItem(atPath: specimen.path, toPath: before)
    let rows = specimen.rows
    while specimen.rows.count - rows.count < count { try specimen.write(4_000, valueBytes: 1...8, to: store) }
    let after = specimen.scratch.path("after")
    try FileManager.default.copyItem(atPath: specimen.path, toPath: after)
    // A view has what the log has.
    var view = specimen.options
    view.readOnly = true
    let looker = try Store.openBlocking(at: after, options: view)
    #expect(try contents(looker) == specimen.rows, "seed \(specimen.random.seed)")
    try looker.closeBlocking()
    for (path, expected) in [(before, rows), (after, specimen.rows)] {
      let copy = try Store.openBlocking(at: path)
      #expect(try contents(copy) == expected, "seed \(specimen.random.seed)")
      try copy.closeBlocking()
      _ = try Store.verify(at: path)
    }
    #expect(try contents(store) == specimen.rows, "seed \(specimen.random.seed)")
    try store.closeBlocking()
    #expect(try Store.verify(at: specimen.path).keys == specimen.rows.count, "seed \(specimen.random.seed)")
  }

  @Test("No other process opens it for writing, and one that has it open keeps it from being opened so")
  func exclusive() async throws {
    let specimen = try Specimen(SeededGenerator("exclusive"))
    let store = try await Store.open(at: specimen.path, options: specimen.options)
    let other = try ChildProcess("echo", specimen.path)
    #expect(try await other.line().hasPrefix("refused inUse"))
    try await store.close()
    let holder = try ChildProcess("echo", specimen.path)
    #expect(try await holder.line() == "open")
    await #expect(throws: StoreError.self) { _ = try await Store.open(at: specimen.path, options: specimen.options) }
    await holder.kill()
    try await Store.open(at: specimen.path, options: specimen.options).close()
  }
}
