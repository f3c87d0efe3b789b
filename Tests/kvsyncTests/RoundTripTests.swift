// What `dump` writes, `load` reads, byte for byte; equal stores give equal bytes.

import Foundation
import TestSupport
import Testing

@Suite("dump | load")
struct RoundTripTests {
  let place: Workplace

  init() throws { place = try Workplace() }

  @Test("Any rows survive dump | load, and the dumps are equal, whatever order the rows were written in")
  func roundTrip() async throws {
    var random = SeededGenerator()
    var rows: [[UInt8]: [UInt8]] = [:]
    for _ in 0..<2000 {
      rows[random.anyBytes(Int.random(in: 1...40, using: &random))] = random.anyBytes(
        Int.random(in: 0...200, using: &random))
    }
    rows[random.anyBytes(511)] = []
    rows[[0xFF] + random.anyBytes(510)] = [0x0A]
    rows[[0]] = Array("\"quoted\"\n".utf8)
    rows[Array("large".utf8)] = [UInt8](repeating: 0xC3, count: 3 << 20)

    let first = try await place.store("first", rows.map { ($0.key, $0.value) }.shuffled(using: &random))
    let second = try await place.store("second", rows.map { ($0.key, $0.value) }.shuffled(using: &random))
    let dump = try await place.run("dump", first)
    #expect(dump.status == 0)
    #expect(try await place.run("dump", second).output == dump.output, "seed \(random.seed)")
    #expect(dump.lines.count == rows.count, "seed \(random.seed)")

    let third = try await place.store("third")
    #expect(try await place.run("load", third, "--batch", "7", input: dump.output).status == 0)
    #expect(try await place.run("dump", third).output == dump.output, "seed \(random.seed)")
    for (key, value) in rows.prefix(20) {
      guard let text = String(validating: key, as: UTF8.self), !text.contains("\0"), !text.hasPrefix("-") else {
        continue
      }
      #expect(try await place.run("get", third, text).output == value, "seed \(random.seed)")
    }
    let piped = try await place.shell(
      #""$kvsync" init "$2" && "$kvsync" dump "$1" | "$kvsync" load "$2""#, first, place.file("fourth"))
    #expect(piped.status == 0)
    #expect(try await place.run("dump", place.file("fourth")).output == dump.output, "seed \(random.seed)")
  }

  @Test("dump prints the rows in the order of their keys' bytes")
  func order() async throws {
    let keys: [[UInt8]] = [[0xFF], [0x61, 0x00], [0x61], [0x62], [0xC3, 0xA9], [0x00]]
    let store = try await place.store("s", keys.map { ($0, []) })
    let dumped = try await place.run("dump", store).objects().compactMap { row in
      (row["key"] as? String).map { Array($0.utf8) }
        ?? (row["keyBase64"] as? String).flatMap { Data(base64Encoded: $0) }.map { Array($0) }
    }
    #expect(dumped == [[0x00], [0x61], [0x61, 0x00], [0x62], [0xC3, 0xA9], [0xFF]])
  }
}
