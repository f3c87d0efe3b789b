// Random operations, compared with a sorted dictionary after every transaction.

import LMDB
import TestSupport
import Testing

@Suite struct ModelTests {
  /// Few keys, so that operations meet; lengths and values over a range in which pages split, merge and overflow.
  static func randomKey(_ generator: inout SeededGenerator) -> [UInt8] {
    let number = Int.random(in: 0..<300, using: &generator)
    let tail = number.isMultiple(of: 7) ? 300 : number % 20
    return key(number).suffix(2) + [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: tail)
  }

  @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64])
  func `random operations leave what a sorted dictionary holds`(seed: UInt64) throws {
    print("seed \(seed)")
    var generator = SeededGenerator(seed: seed)
    let scratch = try ScratchFile()
    let writeMap = seed.isMultiple(of: 2)
    let opening: () throws -> (LMDBEnvironment, Table) = {
      try scratch.opened {
        $0.writeMap = writeMap
        $0.preallocate = writeMap
      }
    }
    var (environment, rows) = try opening()
    var committed: [[UInt8]: [UInt8]] = [:]

    for _ in 0..<120 {
      var model = committed
      var writer = try environment.beginWrite()
      for _ in 0..<Int.random(in: 1...80, using: &generator) {
        let key = Self.randomKey(&generator)
        switch Int.random(in: 0..<20, using: &generator) {
        case 0..<9:
          let size = Int.random(in: 0..<40, using: &generator)
          let value = generator.bytes(size < 36 ? size : size * 300)
          try writer.put(rows, key, value)
          model[key] = value
        case 9..<11:
          let value = generator.bytes(Int.random(in: 0..<3_000, using: &generator))
          unsafe try writer.put(rows, key: key.span.bytes, reservingBytes: value.count) { bytes in
            for index in value.indices { bytes.storeBytes(of: value[index], toByteOffset: index, as: UInt8.self) }
          }
          model[key] = value
        case 11..<18:
          #expect(try writer.delete(rows, key) == (model.removeValue(forKey: key) != nil))
        case 18:
          #expect(try writer.value(rows, key) == model[key])
        default:
          try walk(&writer, rows, &model, &generator)
        }
      }
      #expect(try writer.entryCount(rows) == model.count)
      if Int.random(in: 0..<4, using: &generator) == 0 {
        writer.abort()
      } else {
        try writer.commit()
        committed = model
      }
      try check(try environment.reader(), rows, committed, thoroughly: generator.chance(20))
      let verified = try environment.verify()
      #expect(verified.entries == committed.count && verified.tables == 1)
      #expect(verified.pages * environment.statistics.pageSize == environment.statistics.usedBytes)
      if Int.random(in: 0..<30, using: &generator) == 0 {
        // The old one has to be gone before the file can be opened again.
        (environment, rows) = try { try ScratchFile().opened() }()
        (environment, rows) = try opening()
        try check(try environment.reader(), rows, committed, thoroughly: false)
      }
    }
  }

  /// A walk of a writer's cursor among changes of the writer.
  func walk(
    _ writer: inout LMDBWriter, _ rows: Table, _ model: inout [[UInt8]: [UInt8]], _ generator: inout SeededGenerator
  ) throws {
    let cursor = try writer.cursor(rows)
    let start = Self.randomKey(&generator)
    var stood = model.keys.filter { !$0.lexicographicallyPrecedes(start) }.min(by: { $0.lexicographicallyPrecedes($1) })
    #expect(try cursor.seek(start) == (stood != nil))
    for _ in 0..<20 {
      guard let here = stood else { break }
      #expect(cursor.key() == here)
      #expect(try cursor.entry() == Entry(key: here, value: model[here] ?? []))
      for _ in 0..<Int.random(in: 0..<3, using: &generator) {
        let key = Bool.random(using: &generator) ? here : Self.randomKey(&generator)
        if Bool.random(using: &generator) {
          #expect(try writer.delete(rows, key) == (model.removeValue(forKey: key) != nil))
        } else {
          let value = generator.bytes(Int.random(in: 0..<2_000, using: &generator))
          try writer.put(rows, key, value)
          model[key] = value
        }
      }
      if Bool.random(using: &generator) {
        stood = model.keys.filter { here.lexicographicallyPrecedes($0) }.min(by: { $0.lexicographicallyPrecedes($1) })
        #expect(try cursor.next() == (stood != nil))
      } else {
        stood = model.keys.filter { $0.lexicographicallyPrecedes(here) }.max(by: { $0.lexicographicallyPrecedes($1) })
        #expect(try cursor.previous() == (stood != nil))
      }
    }
  }

  func check(
    _ reader: LMDBReader, _ rows: Table, _ model: [[UInt8]: [UInt8]], thoroughly isThorough: Bool
  ) throws {
    let cursor = try reader.cursor(rows)
    var found: [Entry] = []
    while try cursor.next() { found.append(try cursor.entry()) }
    let wanted = model.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map { Entry(key: $0.key, value: $0.value) }
    #expect(found == wanted)
    #expect(try reader.entryCount(rows) == model.count)
    guard isThorough else { return }
    for (index, entry) in wanted.enumerated() {
      #expect(try reader.value(rows, entry.key) == entry.value)
      // The next key there can be, and the one before: a byte more and a byte less.
      for neighbour in [entry.key + [0], entry.key.dropLast()] where neighbour.count > 0 && model[neighbour] == nil {
        #expect(try reader.value(rows, neighbour) == nil)
      }
      #expect(try cursor.seek(entry.key + [0]) == (index + 1 < wanted.count))
      if index + 1 < wanted.count { #expect(cursor.key() == wanted[index + 1].key) }
    }
    if try cursor.first() { #expect(try cursor.walked(backwards: false) == wanted) }
    if try cursor.last() { #expect(try cursor.walked(backwards: true) == wanted.reversed()) }
  }
}
