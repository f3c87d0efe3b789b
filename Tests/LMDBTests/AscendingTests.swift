// Puts that make use of the order in which keys come: whatever the order is, they leave what plain puts leave.

import LMDB
import TestSupport
import Testing

@Suite struct AscendingTests {
  @Test(
    "Entries put in ascending order replace, lend what they replaced, and append", arguments: [1, 2, 3, 4] as [UInt64])
  func ascending(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let scratch = try ScratchFile()
    let (environment, rows) = try scratch.opened()
    var model: [[UInt8]: [UInt8]] = [:]
    for round in 0..<60 {
      var changes: [[UInt8]: [UInt8]] = [:]
      let chosen = round.isMultiple(of: 3) ? 10_000 + round * 100 : 0
      for _ in 0..<random.below(120) {
        let size = random.below(12)
        changes[key(chosen + random.below(400))] = random.bytes(size < 11 ? size * 8 : 9_000)
      }
      var writer = try environment.beginWrite()
      do {
        var place = try writer.ascendingWriter(rows)
        for (key, value) in changes.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
          let replaced = unsafe try place.put(key: key.span.bytes, value: value.span.bytes) { former in
            unsafe former.withUnsafeBytes { unsafe [UInt8]($0) }
          }
          #expect(replaced == model[key], "round \(round)")
        }
      }
      if random.chance(20) {
        writer.abort()
      } else {
        try writer.commit()
        model.merge(changes) { $1 }
      }
      try expect(model, in: rows, of: environment)
    }
  }

  @Test("Keys that grow, fall and repeat, in several tables at once", arguments: [1, 2, 3, 4] as [UInt64])
  func growing(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let scratch = try ScratchFile()
    let environment = try scratch.opened().0
    let tables = try environment.openTables(["one", "two"], create: true)
    var models: [[[UInt8]: [UInt8]]] = [[:], [:]]
    var next = 1_000
    for _ in 0..<80 {
      var changed = models
      var writer = try environment.beginWrite()
      for _ in 0..<random.below(60) {
        let table = random.chance(80) ? 0 : 1
        next += random.below(3)
        let key = key(random.chance(70) ? next : random.below(next + 200))
        let value = random.bytes(random.below(60))
        unsafe try writer.putGrowing(tables[table], key: key.span.bytes, reservingBytes: value.count) { bytes in
          for index in value.indices { bytes.storeBytes(of: value[index], toByteOffset: index, as: UInt8.self) }
        }
        changed[table][key] = value
      }
      if random.chance(20) {
        writer.abort()
      } else {
        try writer.commit()
        models = changed
      }
      for (table, model) in zip(tables, models) { try expect(model, in: table, of: environment) }
    }
  }

  private func expect(_ model: [[UInt8]: [UInt8]], in table: Table, of environment: LMDBEnvironment) throws {
    let reader = try environment.reader()
    let cursor = try reader.cursor(table)
    var found: [[UInt8]: [UInt8]] = [:]
    var more = try cursor.first()
    while more {
      try cursor.withEntry { key, value in
        unsafe key.withUnsafeBytes { key in
          unsafe value.withUnsafeBytes { value in found[unsafe [UInt8](key)] = unsafe [UInt8](value) }
        }
      }
      more = try cursor.next()
    }
    #expect(found == model)
    _ = try environment.verify()
  }
}
