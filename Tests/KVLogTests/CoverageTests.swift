// Which keys a replica has: ranges of keys, held against sets of them.

import KVLog
import TestSupport
import Testing

@Suite struct CoverageTests {
  /// All keys of up to three of four bytes: enough for every way in which two ranges can lie to each other.
  private static let keys: [[UInt8]] = {
    let letters: [UInt8] = [0x00, 0x61, 0x62, 0xFF]
    var keys: [[UInt8]] = [[]]
    for key in keys { keys += letters.map { key + [$0] } }
    for key in keys where key.count == 1 { keys += letters.map { key + [$0] } }
    for key in keys where key.count == 2 { keys += letters.map { key + [$0] } }
    return keys
  }()

  private func members(_ coverage: Coverage) -> Set<[UInt8]> {
    Set(Self.keys.filter { key in coverage.contains(key.bytes) })
  }

  @Test("Union, difference and intersection are those of the keys, and equal sets of ranges have equal ranges")
  func algebra() throws {
    var random = SeededGenerator()
    func interval() -> KeyInterval {
      let bounds = [Self.keys.randomElement(using: &random)!, Self.keys.randomElement(using: &random)!]
        .sorted { $0.lexicographicallyPrecedes($1) }
      return KeyInterval(from: bounds[0], end: random.chance(20) ? nil : bounds[1])
    }
    for _ in 0..<300 {
      let one = Coverage((0..<random.below(4)).map { _ in interval() })
      let other = Coverage((0..<random.below(4)).map { _ in interval() })
      #expect(members(one.union(other)) == members(one).union(members(other)))
      #expect(members(one.subtracting(other)) == members(one).subtracting(members(other)))
      #expect(members(one.intersection(other)) == members(one).intersection(members(other)))
      #expect(one.subtracting(other).union(one.intersection(other)) == one)
      for coverage in [one, other, one.union(other), one.subtracting(other)] {
        for (first, second) in zip(coverage.intervals, coverage.intervals.dropFirst()) {
          #expect(first.end.map { $0.lexicographicallyPrecedes(second.from) } == true)
        }
        var bytes: [UInt8] = []
        coverage.encode(to: &bytes)
        #expect(bytes.count == coverage.encodedByteCount)
        var reader = ByteReader()
        #expect(try Coverage(from: &reader, in: bytes.bytes) == coverage)
        for end in 0..<bytes.count {
          var reader = ByteReader()
          let cut = Array(bytes[..<end])
          #expect(throws: LogFormatError.self) { try Coverage(from: &reader, in: cut.bytes) }
        }
      }
    }
  }

  @Test("A prefix covers the keys that begin with it, and the empty one covers all")
  func prefixes() {
    for prefix in Self.keys {
      #expect(members(Coverage(prefixes: [prefix])) == Set(Self.keys.filter { $0.starts(with: prefix) }))
    }
    #expect(Coverage(prefixes: [[]]).isAll && Coverage(prefixes: []).isEmpty)
  }

  @Test("Ranges that touch, overlap or are out of order are no coverage")
  func malformed() {
    func bytes(_ intervals: [KeyInterval]) -> [UInt8] {
      var bytes: [UInt8] = []
      bytes.append(littleEndian: UInt16(intervals.count))
      for interval in intervals { interval.encode(to: &bytes) }
      return bytes
    }
    let (a, b, c) = ([UInt8](arrayLiteral: 1), [UInt8](arrayLiteral: 2), [UInt8](arrayLiteral: 3))
    for intervals in [
      [KeyInterval(from: a, end: b), KeyInterval(from: b, end: c)],
      [KeyInterval(from: b, end: c), KeyInterval(from: a, end: b)],
      [KeyInterval(from: a, end: nil), KeyInterval(from: b, end: c)],
      [KeyInterval(from: b, end: a)],
    ] {
      let bytes = bytes(intervals)
      var reader = ByteReader()
      #expect(throws: LogFormatError.self) { try Coverage(from: &reader, in: bytes.bytes) }
    }
  }
}
