// Single flipped bits that take a row out of sight instead of making it unreadable: in keys, in what a page says of itself,
// in the names of tables. Whoever looks gets what was written, or an error.

import Foundation
import KVLog
import KVStore
import Synchronization
import TestSupport
import Testing

/// Flips bits of a file that a store has open; it sees them at once.
private struct FlippedFile {
  let path: String
  let bytes: Data
  private let descriptor: Int32

  init(_ path: String) throws {
    self.path = path
    bytes = try Data(contentsOf: URL(fileURLWithPath: path))
    descriptor = unsafe open(path, O_RDWR)
    try #require(descriptor >= 0)
  }

  /// Runs `body` while the bit is the other way round in each of the places.
  func whileFlipped(_ places: [Int], _ bit: Int, _ body: () throws -> Void) rethrows {
    for place in places { set(place, bytes[place] ^ 1 << UInt8(bit)) }
    defer { for place in places { set(place, bytes[place]) } }
    try body()
  }

  private func set(_ place: Int, _ byte: UInt8) {
    var byte = byte
    #expect(unsafe pwrite(descriptor, &byte, 1, off_t(place)) == 1)
  }

  func close() { _ = Foundation.close(descriptor) }

  /// Where the text begins, everywhere.
  func places(of text: some Sequence<UInt8>) -> [Int] {
    let text = Data(text)
    var places: [Int] = []
    var start = bytes.startIndex
    while let found = bytes.range(of: text, in: start..<bytes.endIndex) {
      places.append(found.lowerBound)
      start = found.upperBound
    }
    return places
  }
}

private func owned(_ bytes: RawSpan) -> [UInt8] {
  unsafe bytes.withUnsafeBytes { unsafe [UInt8]($0) }
}

/// What is read is in `rows`, nothing of it is missing, or there is an error.
private final class Expectation {
  let rows: [(key: [UInt8], value: [UInt8])]
  var errors = 0

  init(rows: [(key: [UInt8], value: [UInt8])]) { self.rows = rows }

  func attempt(_ comment: Comment, _ body: () throws -> Bool) {
    do {
      let isRight = try body()
      #expect(isRight, comment)
    } catch {
      errors += 1
      #expect((error as? StoreError)?.code == .corrupt, "\(error): \(comment)")
    }
  }

  func checkGet(_ store: Store, _ index: Int, _ comment: Comment) {
    let (key, value) = rows[index]
    attempt(comment) { try store.value(for: key) == value }
    attempt(comment) { try store.read { try $0.contains(key) } }
  }

  /// The first rows of a walk from a key on, and of one back from it.
  func checkPages(_ store: Store, _ index: Int, _ comment: Comment) {
    let key = rows[index].key
    attempt(comment) { try page(store, KeyRange(from: key), false) == Array(rows[index...].prefix(2).map(\.value)) }
    attempt(comment) {
      try page(store, KeyRange(upTo: key + [0]), true) == Array(rows[...index].reversed().prefix(2).map(\.value))
    }
  }

  private func page(_ store: Store, _ range: KeyRange, _ reversed: Bool) throws -> [[UInt8]] {
    try store.read { try $0.scan(range, reversed: reversed).prefix(2).map(\.value) }
  }

  /// Rows are right from the first to where the error is.
  func checkScans(_ store: Store, _ prefix: [UInt8], _ comment: Comment) {
    for reversed in [false, true] {
      var expected = rows.filter { $0.key.starts(with: prefix) }[...]
      attempt(comment) {
        var isRight = true
        try store.read { snapshot in
          try snapshot.forEach(in: KeyRange(prefix: prefix), reversed: reversed) { key, value in
            let next = reversed ? expected.popLast() : expected.popFirst()
            isRight = isRight && next?.key == owned(key) && next?.value == owned(value)
            return true
          }
        }
        return isRight && expected.isEmpty
      }
    }
  }
}

@Suite struct HiddenRowTests {
  @Test("An older row never shows in the place of a newer one in the tail whose key is damaged")
  func damagedTail() throws {
    let scratch = try Scratch(inMemory: true)
    let path = scratch.path("store")
    let keys = (10..<50).map { Array("key <\($0)>".utf8) }
    var store = try Store.openBlocking(at: path)
    for key in keys { try store.putBlocking("old", for: key) }
    try store.closeBlocking()
    store = try Store.openBlocking(at: path)
    // Some keys of the index lie between those of the tail.
    let rewritten = keys.indices.filter { $0 % 3 > 0 }
    for index in rewritten { try store.putBlocking("new", for: keys[index]) }
    let expectation = Expectation(
      rows: keys.indices.map { (keys[$0], Array(($0 % 3 > 0 ? "new" : "old").utf8)) })
    let name = try #require(
      try FileManager.default.contentsOfDirectory(atPath: path + "/tail").first { $0.hasSuffix(".mdb") })
    let file = try FlippedFile(path + "/tail/" + name)
    defer { file.close() }
    var cases = 0
    for index in rewritten {
      let places = file.places(of: keys[index])
      for (offset, bit) in [(0, 1), (4, 6), (5, 0), (6, 0), (6, 2), (7, 7)] {
        file.whileFlipped(places.map { $0 + offset }, bit) {
          let comment: Comment = "bit \(bit) of byte \(offset) of key \(index)"
          let before = expectation.errors
          expectation.checkGet(store, index, comment)
          expectation.checkPages(store, index, comment)
          expectation.checkScans(store, Array("key <".utf8), comment)
          expectation.checkScans(store, Array(keys[index].dropLast(2)), comment)
          expectation.attempt(comment) { try store.read { try $0.count() } == keys.count }
          expectation.attempt(comment) {
            let seen = Mutex<[UInt8]?>(nil)
            try store.writeBlocking { transaction in
              let value = try transaction.value(for: keys[index])
              seen.withLock { $0 = value }
            }
            return seen.withLock { $0 } == expectation.rows[index].value
          }
          cases += 1
          #expect(expectation.errors - before >= 8, "otherwise this shows nothing: \(comment)")
        }
      }
    }
    #expect(cases == rewritten.count * 6)
    for index in keys.indices { #expect(try store.value(for: keys[index]) == expectation.rows[index].value) }
    try store.closeBlocking()
  }

  @Test(
    "A flipped bit in the structure of an index that nobody has walked hides no row",
    arguments: SeededGenerator.seeds(1, fresh: 1))
  func hiddenEntries(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let scratch = try Scratch(inMemory: true)
    let path = scratch.path("store")
    // Long keys make a deep tree of few rows.
    let rows = (0..<1_200).map { number in
      (
        key: Array("row/\(10_000 + number * 7)/".utf8) + [UInt8](repeating: 0x2E, count: 150 + number % 60),
        value: Array("value \(number)".utf8)
      )
    }
    var store = try Store.openBlocking(at: path)
    let shuffled = rows.shuffled(using: &random)
    try store.writeBlocking { transaction in
      for row in shuffled { try transaction.put(row.value, for: row.key) }
    }
    try store.closeBlocking()
    var options = Store.Options()
    options.readOnly = true
    options.verifiedIndexBytes = 0
    store = try Store.openBlocking(at: path, options: options)
    let file = try FlippedFile(path + "/index.mdb")
    defer { file.close() }
    let pages = Set(file.places(of: "row/".utf8).map { $0 / 4_096 }).sorted()
    let branches = pages.filter { file.bytes[$0 * 4_096 + 10] == 1 }
    #expect(branches.count > 3, "a tree of three levels")
    let expectation = Expectation(rows: rows)
    for number in 0..<220 {
      let page = random.chance(40) ? branches[random.below(branches.count)] : pages[random.below(pages.count)]
      let place = page * 4_096 + structure(of: file, page, &random)
      let bit = random.below(8)
      file.whileFlipped([place], bit) {
        let comment: Comment = "seed \(seed), case \(number): bit \(bit) of byte \(place % 4_096) of page \(page)"
        expectation.checkScans(store, [], comment)
        for _ in 0..<40 {
          let index = random.below(rows.count)
          expectation.checkGet(store, index, comment)
          expectation.checkPages(store, index, comment)
        }
        // Those of the page itself.
        for offset in file.places(of: "row/".utf8) where offset / 4_096 == page {
          let text = String(decoding: file.bytes[offset + 4..<offset + 9], as: UTF8.self)
          guard let index = Int(text).map({ ($0 - 10_000) / 7 }) else { continue }
          for index in max(0, index - 1)...min(rows.count - 1, index + 1) {
            expectation.checkGet(store, index, comment)
          }
          expectation.checkPages(store, index, comment)
        }
      }
    }
    #expect(expectation.errors > 1_000, "otherwise this shows nothing")
    expectation.errors = 0
    expectation.checkScans(store, [], "after all")
    #expect(expectation.errors == 0)
    try store.closeBlocking()
  }

  /// A byte of the page's header, its list of offsets, or the header or key of a node.
  private func structure(of file: FlippedFile, _ page: Int, _ random: inout SeededGenerator) -> Int {
    func little(_ place: Int) -> Int {
      Int(file.bytes[page * 4_096 + place]) | Int(file.bytes[page * 4_096 + place + 1]) << 8
    }
    let lower = little(12)
    if random.chance(30) { return 8 + random.below(8) }
    if random.chance(40) { return 16 + random.below(lower - 16) }
    let node = little(16 + random.below((lower - 16) / 2) * 2)
    return node + random.below(18)
  }

  @Test("A table whose name is damaged is not taken for one that was never made", arguments: [0, 8 << 20])
  func damagedNames(verifiedBytes: Int) throws {
    let scratch = try Scratch(inMemory: true)
    let path = scratch.path("store")
    var store = try Store.openBlocking(at: path)
    for number in 0..<20 { try store.putBlocking("value", for: "key \(number)") }
    try store.closeBlocking()
    let intact = try Data(contentsOf: URL(fileURLWithPath: path + "/index.mdb"))
    var options = Store.Options()
    options.verifiedIndexBytes = verifiedBytes
    var refused = 0
    for name in ["rows", "voids", "conflicts", "state", "tombstones", "keys", "counters", "home"] {
      for bit in 0..<3 {
        let file = try FlippedFile(path + "/index.mdb")
        let places = file.places(of: name.utf8)
        #expect(!places.isEmpty)
        file.whileFlipped(places.map { $0 + bit }, bit) {
          for readOnly in [true, false] {
            options.readOnly = readOnly
            do {
              store = try Store.openBlocking(at: path, options: options)
              defer { try? store.closeBlocking() }
              let count = try store.read { try $0.count() }
              #expect(count == 20, "\(name)")
              for number in 0..<20 { #expect(text(try store.value(for: "key \(number)")) == "value", "\(name)") }
              _ = try store.conflicts()
            } catch {
              refused += 1
              #expect((error as? StoreError)?.code == .corrupt, "\(error): \(name)")
            }
          }
        }
        file.close()
        try intact.write(to: URL(fileURLWithPath: path + "/index.mdb"))
      }
    }
    #expect(refused > 40)
  }

  @Test(
    "Whatever a flipped bit makes of the pages where a state begins, rows are right or there is an error",
    arguments: [0, 8 << 20])
  func damagedMeta(verifiedBytes: Int) throws {
    let scratch = try Scratch(inMemory: true)
    let path = scratch.path("store")
    // Several folds, so that the page of the state before names other pages.
    for round in 0..<3 {
      let store = try Store.openBlocking(at: path)
      for number in 0..<20 { try store.putBlocking("value \(round)", for: "key \(number)") }
      try store.closeBlocking()
    }
    var options = Store.Options()
    options.verifiedIndexBytes = verifiedBytes
    options.readOnly = true
    let file = try FlippedFile(path + "/index.mdb")
    defer { file.close() }
    var (right, refused) = (0, 0)
    for page in [0, 4_096] {
      // From the page's own header to the number of the transaction.
      for place in 0..<152 * 8 {
        let (place, bit) = (place / 8, place % 8)
        file.whileFlipped([page + place], bit) {
          do {
            let store = try Store.openBlocking(at: path, options: options)
            defer { try? store.closeBlocking() }
            let rows = try contents(store)
            #expect(rows.count == 20 && rows.values.allSatisfy { text($0) == "value 2" }, "bit \(bit) of byte \(place)")
            #expect(try store.read { try $0.count() } == 20, "bit \(bit) of byte \(place)")
            right += 1
          } catch {
            #expect(error is StoreError, "\(error): bit \(bit) of byte \(place)")
            refused += 1
          }
        }
      }
    }
    #expect(right > 30 && refused > 30)
  }
}
