// What is done to a data file behind LMDB's back is found out, and is an error.

import Foundation
import LMDB
import TestSupport
import Testing

@Suite struct DamageTests {
  let scratch: ScratchFile
  let pageSize = 4_096

  init() throws { scratch = try ScratchFile() }

  var url: URL { URL(fileURLWithPath: scratch.path) }

  /// A closed file with three levels of pages, values of their own pages, and free pages; its bytes.
  func makeFile(_ change: (inout LMDBEnvironment.Options) -> Void = { _ in }) throws -> Data {
    let page = try {
      let (environment, rows) = try scratch.opened(change)
      var generator = SeededGenerator(seed: 11)
      try environment.write { writer in
        for number in 0..<3_000 {
          try writer.put(rows, key(number) + [UInt8](repeating: 1, count: 200), generator.bytes(number % 100 * 2))
        }
        for number in 0..<10 { try writer.put(rows, key(10_000 + number), generator.bytes(20_000)) }
      }
      try environment.write { writer in
        for number in stride(from: 0, to: 3_000, by: 5) {
          _ = try writer.delete(rows, key(number) + [UInt8](repeating: 1, count: 200))
        }
      }
      let verified = try environment.verify()
      #expect(verified.entries == 2_410 && verified.freePages > 0)
      return environment.statistics.pageSize
    }()
    try #require(page == pageSize)
    return try Data(contentsOf: url)
  }

  func store(_ bytes: Data) throws { try bytes.write(to: url) }

  func little(_ value: UInt64, _ count: Int) -> Data {
    Data((0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) })
  }

  /// Overwrites bytes of both meta pages.
  func inBothMetas(_ bytes: Data, at offset: Int, _ new: Data) -> Data {
    var bytes = bytes
    for start in [offset, pageSize + offset] { bytes.replaceSubrange(start..<start + new.count, with: new) }
    return bytes
  }

  @Test func `a meta page with another magic, version, page size, page count or root is refused`() throws {
    let good = try makeFile()
    let cases: [(String, Int, Data, LMDBError.Code)] = [
      ("flags", 10, little(0, 2), .invalid),
      ("magic", 16, little(0xDEAD_BEEF, 4), .invalid),
      ("version 2", 20, little(2, 4), .versionMismatch),
      ("version 999", 20, little(999, 4), .versionMismatch),
      ("page size 0", 40, little(0, 4), .corrupted),
      ("page size 4095", 40, little(4_095, 4), .corrupted),
      ("page size 1 GiB", 40, little(1 << 30, 4), .corrupted),
      ("no pages", 136, little(0, 8), .corrupted),
      ("one page", 136, little(1, 8), .corrupted),
      ("too many pages", 136, little(1 << 40, 8), .corrupted),
      ("all the pages there can be", 136, little(.max, 8), .corrupted),
      ("root of the free list", 80, little(0, 8), .corrupted),
      ("root of the tables", 128, little(1 << 30, 8), .corrupted),
      ("tables in another order", 92, little(0x02, 2), .incompatible),
    ]
    for (name, offset, bytes, expected) in cases {
      try store(inBothMetas(good, at: offset, bytes))
      #expect(code { _ = try scratch.environment() } == expected, "\(name)")
      #expect(code { _ = try scratch.environment { $0.readOnly = true } } == expected, "\(name), reading only")
    }
    try store(good)
    #expect(try scratch.opened().0.verify().entries == 2_410)
  }

  @Test func `a file cut short is refused, however it is opened, and stays refused`() throws {
    let good = try makeFile()
    let variants: [(inout LMDBEnvironment.Options) -> Void] = [
      { _ in }, { $0.readOnly = true }, { $0.writeMap = true }, { $0.preallocate = true },
      {
        $0.writeMap = true; $0.preallocate = true
      },
    ]
    let lengths = [1, 100, pageSize, pageSize + 1, 2 * pageSize, 3 * pageSize, good.count / 2]
    for length in lengths + [good.count - 8 * pageSize] {
      try store(good.prefix(length))
      for (index, variant) in variants.enumerated() {
        let found = code { _ = try scratch.environment(variant) }
        #expect(found == .invalid || found == .corrupted, "\(length) bytes, variant \(index)")
      }
      #expect(try Data(contentsOf: url).count == length, "the refusals left the file as it was")
    }
    try store(good)
    _ = try scratch.opened()
  }

  @Test func `a file that LMDB itself left short is opened`() throws {
    let seed: UInt64 = 21
    print("seed \(seed)")
    var generator = SeededGenerator(seed: seed)
    var shorts = 0
    for keyBytes in stride(from: 8, through: 248, by: 12) {
      try? FileManager.default.removeItem(at: url)
      for _ in 0..<60 {
        let (environment, rows) = try scratch.opened()
        try environment.write { writer in
          for _ in 0..<Int.random(in: 1...60, using: &generator) {
            let number = Int.random(in: 0..<400, using: &generator)
            let key = key(number) + [UInt8](repeating: 3, count: keyBytes - 8)
            if Int.random(in: 0..<100, using: &generator) < 40 {
              try writer.put(rows, key, [UInt8](repeating: 1, count: number % 10 == 0 ? 20_000 : number))
            } else {
              _ = try writer.delete(rows, key)
            }
          }
        }
        if try Data(contentsOf: url).count < environment.statistics.usedBytes { shorts += 1 }
      }
    }
    #expect(shorts > 0, "otherwise this shows nothing")
  }

  @Test(arguments: [31, 32, 33, 34] as [UInt64])
  func `a damaged page is found by verifying, and is never a trap`(seed: UInt64) throws {
    print("seed \(seed)")
    var generator = SeededGenerator(seed: seed)
    let good = try makeFile()
    var found = 0
    for _ in 0..<80 {
      var bytes = good
      let page = Int.random(in: 2..<good.count / pageSize, using: &generator)
      // Mostly in the header and the offsets, where LMDB would follow it.
      let reach = Bool.random(using: &generator) ? 80 : pageSize - 8
      let offset = page * pageSize + Int.random(in: 0..<reach, using: &generator)
      switch Int.random(in: 0..<3, using: &generator) {
      case 0: bytes.replaceSubrange(offset..<offset + 8, with: generator.bytes(8))
      case 1: bytes[offset] ^= 1 << Int.random(in: 0..<8, using: &generator)
      default: bytes.replaceSubrange(page * pageSize..<(page + 1) * pageSize, with: Data(count: pageSize))
      }
      try store(bytes)
      let (failure, entries) = { () -> (LMDBError.Code?, Int) in
        var entries = 0
        return (code { entries = try scratch.environment().verify().entries }, entries)
      }()
      if let failure {
        #expect(failure == .corrupted)
        found += 1
      } else {
        // Bytes of a value, of a free page or of a gap: nothing that holds the file together.
        #expect(entries == 2_410)
      }
    }
    #expect(found > 8)
  }

  /// A file with two tables of three entries each, so that each is one page; `damage` gets every copy of the page
  /// on which `marker` is found.
  func makeSmallFile(_ marker: [UInt8], _ damage: (inout Data, _ page: Int, _ found: Int) -> Void) throws {
    try? FileManager.default.removeItem(at: url)
    try {
      let environment = try scratch.environment()
      for (index, table) in try environment.openTables(["first-table", "other-table"], create: true).enumerated() {
        try environment.write { writer in
          for number in 0..<3 { try writer.put(table, Array("key \(number) of table \(index)".utf8), [UInt8(index)]) }
        }
      }
      #expect(try environment.verify().entries == 6)
    }()
    var bytes = try Data(contentsOf: url)
    var start = 0
    while let found = bytes[start...].range(of: Data(marker)) {
      damage(&bytes, found.lowerBound / pageSize * pageSize, found.lowerBound)
      start = found.upperBound
    }
    try #require(start > 0)
    try store(bytes)
  }

  func verifying() -> String {
    do { return "\(try scratch.environment().verify())" } catch { return "\(error)" }
  }

  @Test func `entries in the wrong order are found`() throws {
    try makeSmallFile(Array("key 1 of table 0".utf8)) { bytes, page, _ in
      let second = bytes[page + 18..<page + 20]
      bytes.replaceSubrange(page + 18..<page + 20, with: bytes[page + 20..<page + 22])
      bytes.replaceSubrange(page + 20..<page + 22, with: Data(second))
    }
    #expect(verifying().contains("keys out of order"))
  }

  @Test func `the same entry twice is found`() throws {
    try makeSmallFile(Array("key 1 of table 0".utf8)) { bytes, page, _ in
      bytes.replaceSubrange(page + 18..<page + 20, with: Data(bytes[page + 20..<page + 22]))
    }
    #expect(verifying().contains("the same key twice"))
  }

  @Test func `a table that holds more or less than its record says is found`() throws {
    try makeSmallFile(Array("first-table".utf8)) { bytes, _, found in
      // The record follows the name; the count of entries is its fifth number.
      bytes[found + 11 + 32] += 1
    }
    #expect(verifying().contains("does not hold what its record says"))
  }

  @Test func `a page in the place of another one is found`() throws {
    var other = Data()
    try makeSmallFile(Array("key 1 of table 1".utf8)) { bytes, page, _ in other = bytes[page..<page + pageSize] }
    try makeSmallFile(Array("key 1 of table 0".utf8)) { bytes, page, _ in
      bytes.replaceSubrange(page..<page + pageSize, with: other)
    }
    #expect(verifying().contains("not the page of the tree"))
  }

  @Test func `verifying runs beside readers and a writer`() async throws {
    let (environment, rows) = try scratch.opened()
    try environment.write { for number in 0..<2_000 { try $0.put(rows, key(number), key(number)) } }
    async let writing: Void = Task.detached {
      for round in 0..<400 {
        try environment.write { writer in
          for number in 0..<50 { try writer.put(rows, key(round * 50 % 2_000 + number), key(round)) }
        }
      }
    }.value
    for _ in 0..<40 { #expect(try environment.verify().entries == 2_000) }
    try await writing
  }
}
