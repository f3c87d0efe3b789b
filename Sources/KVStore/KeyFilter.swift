// Which keys a sealed generation certainly does not have, without a look at its pages: a read passes over most of the
// generations that wait for a fold.
//
// A Bloom filter whose bits for one key lie in one line of the processor's cache (F. Putze, P. Sanders, J. Singler: Cache-,
// Hash- and Space-Efficient Bloom Filters, 2007). With ten bits and six probes for each key about one look-up in seventy is
// made in vain.
//
// Invariants
// - It is made of rows whose checksums were right, and never changes: a key that it does not have was not in the generation.
//   Damage that comes later is met by the look-up that the filter lets pass.
// - It lies in the memory of one process, at most `StoreLimits.filterBytes` for a generation.

import KVLog
import LMDB

final class KeyFilter: Sendable {
  private static let wordsPerLine = 8
  private static let probes = 6

  private let words: [UInt64]
  private let lines: UInt64

  /// Goes through all rows; throws when one of them is damaged.
  init(_ source: Source) throws {
    let rows = try source.reader.entryCount(source.tables.rows)
    let wanted = max(1, rows * StoreLimits.filterBitsPerKey / (64 * KeyFilter.wordsPerLine))
    let count = min(wanted, StoreLimits.filterBytes / (8 * KeyFilter.wordsPerLine))
    var words = [UInt64](repeating: 0, count: count * KeyFilter.wordsPerLine)
    let cursor = try source.reader.cursor(source.tables.rows)
    if try cursor.first() {
      try cursor.walk(backwards: false) { key, row in
        _ = try Row.isLive(row, key: key)
        let hash = checksum64(key)
        let line = KeyFilter.line(of: hash, UInt64(count))
        for probe in 0..<KeyFilter.probes {
          let bit = KeyFilter.bit(probe, of: hash)
          words[line + bit / 64] |= 1 << UInt64(bit % 64)
        }
        return true
      }
    }
    self.words = words
    lines = UInt64(count)
  }

  /// False: no key with this checksum is there.
  @inline(__always)
  func mayHave(_ hash: UInt64) -> Bool {
    let line = KeyFilter.line(of: hash, lines)
    for probe in 0..<KeyFilter.probes {
      let bit = KeyFilter.bit(probe, of: hash)
      if words[line + bit / 64] & 1 << UInt64(bit % 64) == 0 { return false }
    }
    return true
  }

  /// Where the line begins; by the upper bits of the hash, the probes by the lower ones.
  @inline(__always)
  private static func line(of hash: UInt64, _ lines: UInt64) -> Int {
    Int(hash.multipliedFullWidth(by: lines).high) * wordsPerLine
  }

  @inline(__always)
  private static func bit(_ probe: Int, of hash: UInt64) -> Int {
    Int(truncatingIfNeeded: hash >> UInt64(9 * probe)) & 511
  }
}
