// What readers and writers promise: values, isolation, aborts, limits.

import LMDB
import TestSupport
import Testing

@Suite struct TransactionTests {
  let scratch: ScratchFile
  let environment: LMDBEnvironment
  let rows: Table

  init() throws {
    scratch = try ScratchFile()
    (environment, rows) = try scratch.opened()
  }

  @Test func `what is committed is read, replaced, and gone after a delete`() throws {
    try environment.write { try $0.put(rows, [1], [10]) }
    #expect(try environment.reader().value(rows, [1]) == [10])
    try environment.write { try $0.put(rows, [1], [20, 21]) }
    #expect(try environment.reader().value(rows, [1]) == [20, 21])
    try environment.write { try #expect($0.delete(rows, [1])) }
    #expect(try environment.reader().value(rows, [1]) == nil)
    try environment.write { try #expect(!$0.delete(rows, [1])) }
  }

  @Test func `a key exists or not without its value being looked at`() throws {
    try environment.write { try $0.put(rows, [1], []) }
    let reader = try environment.reader()
    unsafe #expect(try reader.get(rows, key: ([1] as [UInt8]).span.bytes) == true)
    unsafe #expect(try reader.get(rows, key: ([2] as [UInt8]).span.bytes) == false)
    #expect(try reader.value(rows, [1]) == [], "an empty value is a value")
  }

  @Test func `a writer sees its own changes before the commit, nobody else does`() throws {
    var writer = try environment.beginWrite()
    try writer.put(rows, [1], [10])
    #expect(try writer.value(rows, [1]) == [10])
    #expect(try writer.entryCount(rows) == 1)
    #expect(try environment.reader().value(rows, [1]) == nil)
    try writer.commit()
    #expect(try environment.reader().value(rows, [1]) == [10])
  }

  @Test func `a writer that is dropped, aborted or thrown past changes nothing`() throws {
    struct Stop: Error {}
    try environment.write { try $0.put(rows, [1], [1]) }
    do {
      var writer = try environment.beginWrite()
      try writer.put(rows, [1], [2])
    }
    var writer = try environment.beginWrite()
    try writer.put(rows, [1], [3])
    writer.abort()
    #expect(throws: Stop.self) {
      try environment.write {
        try $0.put(rows, [1], [4])
        throw Stop()
      }
    }
    #expect(try environment.reader().value(rows, [1]) == [1])
  }

  @Test func `a reader keeps its state while writers commit`() throws {
    try environment.write { for number in 0..<100 { try $0.put(rows, key(number), [1]) } }
    let before = try environment.reader()
    for round in 2...5 {
      try environment.write { writer in
        for number in 0..<100 { try writer.put(rows, key(number), [UInt8(round)]) }
        for number in stride(from: 0, to: 100, by: 3) { _ = try writer.delete(rows, key(number)) }
        try writer.put(rows, key(100 + round), [])
      }
    }
    let after = try environment.reader()
    for number in 0..<100 { #expect(try before.value(rows, key(number)) == [1]) }
    #expect(try before.entryCount(rows) == 100)
    #expect(try after.entryCount(rows) == 66 + 4)
    #expect(try after.value(rows, key(1)) == [5])
    #expect(after.transactionID == before.transactionID + 4)
  }

  @Test func `reserved bytes are what the closure filled in`() throws {
    var generator = SeededGenerator(seed: 3)
    for count in [0, 1, 100, 4_096, 100_000] {
      let wanted = generator.bytes(count)
      var writer = try environment.beginWrite()
      unsafe try writer.put(rows, key: key(count).span.bytes, reservingBytes: count) { bytes in
        #expect(bytes.byteCount == count)
        for index in 0..<count { bytes.storeBytes(of: wanted[index], toByteOffset: index, as: UInt8.self) }
      }
      try writer.commit()
      #expect(try environment.reader().value(rows, key(count)) == wanted)
    }
  }

  @Test func `values around and far beyond the size of a page come back whole`() throws {
    var generator = SeededGenerator(seed: 4)
    let page = environment.statistics.pageSize
    let sizes = [0, 1, 500, page / 2 - 40, page / 2, page - 16, page - 15, page, page + 1, 3 * page, 1 << 20]
    let values = sizes.map { generator.bytes($0) }
    try environment.write { for (size, value) in zip(sizes, values) { try $0.put(rows, key(size), value) } }
    let reader = try environment.reader()
    for (size, value) in zip(sizes, values) { #expect(try reader.value(rows, key(size)) == value, "\(size) bytes") }
  }

  @Test func `keys of 1 to 511 bytes are taken, others refused, and the writer goes on`() throws {
    let longest = [UInt8](repeating: 7, count: LMDBLimits.maximumKeyBytes)
    try environment.write { writer in
      try writer.put(rows, longest, [1])
      try writer.put(rows, [0], [2])
      for wrong in [[], longest + [7]] {
        let error = #expect(throws: LMDBError.self) { try writer.put(rows, wrong, [3]) }
        #expect(error?.code == .badValueSize)
        #expect(code { _ = try writer.delete(rows, wrong) } == .badValueSize)
      }
      #expect(
        code { unsafe try writer.put(rows, key: (longest + [7]).span.bytes, reservingBytes: 1) { _ in } }
          == .badValueSize)
    }
    let reader = try environment.reader()
    #expect(try reader.value(rows, longest) == [1])
    #expect(try reader.value(rows, [0]) == [2])
    #expect(try reader.entryCount(rows) == 2)
    #expect(code { _ = try reader.value(rows, []) } == .badValueSize)
    #expect(try reader.value(rows, longest + [7]) == nil)
  }

  @Test func `appending takes keys in order only`() throws {
    try environment.write { writer in
      for number in 0..<1_000 { try writer.put(rows, key(number), [1], append: true) }
      #expect(code { try writer.put(rows, key(500), [2], append: true) } == .keyExists)
    }
    #expect(try environment.reader().entryCount(rows) == 1_000)
  }

  @Test func `emptying a table leaves it usable and the others alone`() throws {
    let tables = try environment.openTables(["rows", "others"], create: true)
    #expect(tables[0] == rows)
    try environment.write { writer in
      for number in 0..<1_000 { for table in tables { try writer.put(table, key(number), [1]) } }
    }
    try environment.write { writer in
      try writer.removeAll(rows)
      try writer.put(rows, [9], [9])
    }
    let reader = try environment.reader()
    #expect(try reader.entryCount(rows) == 1)
    #expect(try reader.entryCount(tables[1]) == 1_000)
  }

  @Test func `what a body throws passes through as it is`() throws {
    struct Mine: Error, Equatable { var number: Int }
    try environment.write { try $0.put(rows, [1], [1]) }
    let reader = try environment.reader()
    #expect(throws: Mine(number: 7)) {
      unsafe try reader.get(rows, key: ([1] as [UInt8]).span.bytes) { _ in throw Mine(number: 7) }
    }
    let cursor = try reader.cursor(rows)
    _ = try cursor.first()
    #expect(throws: Mine(number: 8)) { try cursor.withEntry { _, _ in throw Mine(number: 8) } }
    #expect(throws: Mine(number: 9)) { try cursor.withKey { _ in throw Mine(number: 9) } }
  }

  @Test func `a full map is an error, and after the abort the environment works on`() throws {
    let scratch = try ScratchFile()
    let (environment, rows) = try scratch.opened(mapSizeBytes: 256 << 10)
    try environment.write { try $0.put(rows, [0], [1]) }
    let value = [UInt8](repeating: 1, count: 1_000)
    let error = #expect(throws: LMDBError.self) {
      try environment.write { writer in for number in 0..<1_000 { try writer.put(rows, key(number), value) } }
    }
    #expect(error?.code == .mapFull)
    #expect(error?.isFull == true)
    #expect(error?.path == scratch.path)
    let message = try #require(error).description
    #expect(message.contains("put a value") && message.contains(scratch.path))
    #expect(try environment.reader().entryCount(rows) == 1)
    try environment.write { writer in for number in 0..<50 { try writer.put(rows, key(number), value) } }
    #expect(try environment.reader().entryCount(rows) == 51)
  }

  @Test func `a transaction that failed can only be aborted`() throws {
    let scratch = try ScratchFile()
    let (environment, rows) = try scratch.opened(mapSizeBytes: 256 << 10)
    var writer = try environment.beginWrite()
    try writer.put(rows, [1], [1])
    #expect(code { try writer.put(rows, [2], [UInt8](repeating: 0, count: 1 << 20)) } == .mapFull)
    #expect(code { try writer.put(rows, [3], [3]) } == .badTransaction)
    do {
      try writer.commit()
      Issue.record("the commit succeeded")
    } catch {
      #expect(error.code == .badTransaction)
    }
    #expect(try environment.reader().entryCount(rows) == 0)
    try environment.write { try $0.put(rows, [4], [4]) }
  }
}
