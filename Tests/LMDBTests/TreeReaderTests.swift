// Readers walk the pages themselves: they find what liblmdb put there, in files of any size and while they grow, and
// whatever is wrong with a page is an error.

import Foundation
import LMDB
import TestSupport
import Testing

@Suite struct TreeReaderTests {
  let scratch: ScratchFile

  init() throws { scratch = try ScratchFile() }

  @Test func `a reader follows the file beyond its first map, and what it lent before stays where it was`() throws {
    let (environment, rows) = try scratch.opened { $0.mapSizeBytes = 64 << 20 }
    try environment.write { try $0.put(rows, key(0), [7, 7]) }
    let old = try environment.reader()
    try unsafe old.get(rows, key: key(0).span.bytes) { lent in
      for round in 1...12 {
        try environment.write { writer in
          let value = [UInt8](repeating: UInt8(round), count: 30_000)
          for number in 0..<50 { try writer.put(rows, key(round * 50 + number), value) }
        }
        #expect(try environment.reader().value(rows, key(round * 50 + 49))?.last == UInt8(round))
        #expect(owned(lent) == [7, 7])
      }
    }
    #expect(try old.value(rows, key(50)) == nil)
    #expect(try environment.reader().entryCount(rows) == 601)
    #expect(environment.statistics.usedBytes > 16 << 20, "otherwise this shows nothing")
  }

  @Test func `values of any size are found: in the page, just too large for it, over many pages`() throws {
    let (environment, rows) = try scratch.opened()
    var generator = SeededGenerator(seed: 3)
    let sizes = Array(0...20) + Array(1_990...2_050) + [4_080, 4_081, 8_176, 8_177, 100_000]
    let values = sizes.map { generator.bytes($0) }
    try environment.write { writer in
      for (number, value) in values.enumerated() { try writer.put(rows, key(number), value) }
    }
    let reader = try environment.reader()
    for (number, value) in values.enumerated() { #expect(try reader.value(rows, key(number)) == value) }
    let cursor = try reader.cursor(rows)
    #expect(try cursor.first())
    #expect(try cursor.walked(backwards: false).map(\.value) == values)
  }

  @Test(arguments: SeededGenerator.seeds(4, fresh: 2))
  func `damage in any page is an error or bytes of a value, and never a trap`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let model = try makeFile(&generator)
    let url = URL(fileURLWithPath: scratch.path)
    let good = try Data(contentsOf: url)
    let page = 4_096
    var errors = 0
    for _ in 0..<150 {
      var bytes = good
      // Not the pages that liblmdb itself looks at when the file is opened.
      let start = pages(of: good, page).randomElement(using: &generator)! * page
      let kind = generator.below(6)
      switch kind {
      case 0: bytes[start + generator.below(64)] ^= 1 << UInt8(generator.below(8))
      case 1: bytes[start + generator.below(page)] ^= 1 << UInt8(generator.below(8))
      case 2:
        let place = start + generator.below(page - 8)
        bytes.replaceSubrange(place..<place + 8, with: generator.bytes(8))
      case 3:
        // Offsets that lead out of the page; from the last pages out of the file.
        for place in stride(from: start + 16, to: start + 24, by: 2) { bytes[place + 1] = 0xFF }
      case 4:
        // Lengths likewise: of values or, in a branch, numbers of pages.
        for place in stride(from: start + 16, to: start + 24, by: 2) {
          let offset = Int(bytes[place]) + Int(bytes[place + 1]) << 8
          if offset < page - 8 { bytes[start + offset + 3] = 0x7F }
        }
      default:
        let other = generator.below(good.count / page) * page
        bytes.replaceSubrange(start..<start + page, with: good[other..<other + page])
      }
      try bytes.write(to: url)
      // A page in the place of another one is known by its number.
      errors += try readAll(model, isExact: kind == 5, "seed \(seed)")
    }
    #expect(errors > 15, "seed \(seed)")
  }

  /// Reads in every way; counts what was an error. What is found is right, or it lies in a damaged key or value; `isExact`:
  /// it is right.
  private func readAll(_ model: [Entry], isExact: Bool, _ comment: Comment) throws -> Int {
    let (environment, rows) = try scratch.opened()
    let reader = try environment.reader()
    var errors = 0
    func attempt(_ body: () throws -> Void) {
      do { try body() } catch {
        errors += 1
        #expect((error as? LMDBError)?.code == .corrupted && "\(error)".contains(scratch.path), comment)
      }
    }
    for index in stride(from: 0, to: model.count, by: 3) {
      attempt {
        let value = try reader.value(rows, model[index].key)
        #expect(!isExact || value == model[index].value, comment)
      }
    }
    for isBackwards in [false, true] {
      var steps = 0
      attempt {
        let cursor = try reader.cursor(rows)
        guard try isBackwards ? cursor.last() : cursor.first() else { return }
        try cursor.walk(backwards: isBackwards) { _, _ in
          steps += 1
          return true
        }
      }
      // No more entries than fit into the file, whatever the pages say.
      #expect(steps < 100 * model.count, comment)
    }
    attempt {
      let cursor = try reader.cursor(rows)
      if try cursor.seek(model[model.count / 2].key) { for _ in 0..<200 where try !cursor.next() { break } }
    }
    return min(errors, 1)
  }

  private func makeFile(_ generator: inout SeededGenerator) throws -> [Entry] {
    let (environment, rows) = try scratch.opened()
    var model: [[UInt8]: [UInt8]] = [:]
    for _ in 0..<500 {
      let value = generator.chance(5) ? generator.bytes(2_000...9_000) : generator.bytes(0...120)
      model[generator.bytes(8...200)] = value
    }
    try environment.write { writer in for (key, value) in model { try writer.put(rows, key, value) } }
    return model.map { Entry(key: $0.key, value: $0.value) }
      .sorted { $0.key.lexicographicallyPrecedes($1.key) }
  }

  private func little(_ number: Int) -> Data { Data((0..<8).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }) }

  /// Pages of the table's tree, and the first ones of its values: those that know their number, are branches, leaves or
  /// values, and do not name tables.
  private func pages(of file: Data, _ page: Int) -> [Int] {
    (2..<file.count / page).filter { number in
      let start = number * page
      guard file[start + 10] & 0x07 != 0, file[start..<start + 8] == little(number) else { return false }
      return file[start..<start + page].range(of: Data("rows".utf8)) == nil
    }
  }
}
