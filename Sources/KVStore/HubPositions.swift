// A few of the positions in the hub's history that a replica has passed: near the newest one close together, further back
// ever further apart. When the hub turns out to have been restored, the newest that it still has says how far back.
//
// Invariants
// - Ascending by version; of the positions whose distance from the newest is in [2^k, 2^(k+1)), the oldest is kept. So
//   there are 65 at most, and what is taken for lost is at most four times as much as was.
// - A function of the positions added, so that replaying the log gives the same.
//
// entry: version u64 | digest 16, little-endian

import KVLog

package struct HubPositions: EncodedList, Sendable, Equatable {
  var bytes: [UInt8] = []

  static let entryBytes = 24
  static let maximumCount = 65

  func version(_ index: Int) -> Version { bytes.bytes.load(UInt64.self, at: index * Self.entryBytes) }

  /// The newest first. The epoch is that of the cursor, whatever it was when the position was passed.
  func all(in epoch: Identity) -> [Position] {
    (0..<count).reversed().map { index in
      var reader = ByteReader(at: index * Self.entryBytes + 8)
      let digest = (try? reader.digest(from: bytes.bytes)) ?? .zero
      return Position(identity: epoch, version: version(index), digest: digest)
    }
  }

  /// The cursor has come to `version`.
  mutating func add(_ version: Version, _ digest: Digest) {
    drop(from: version)
    var kept: [UInt8] = []
    kept.reserveCapacity(bytes.count + Self.entryBytes)
    var lastClass = Int.max
    for index in 0..<count {
      let distanceClass = Self.distanceClass(version - self.version(index))
      guard distanceClass != lastClass else { continue }
      lastClass = distanceClass
      kept.append(contentsOf: bytes[index * Self.entryBytes..<(index + 1) * Self.entryBytes])
    }
    kept.append(littleEndian: version)
    kept.append(digest)
    bytes = kept
  }

  /// What was at `version` or after it never was.
  mutating func drop(from version: Version) {
    while count > 0, self.version(count - 1) >= version { bytes.removeLast(Self.entryBytes) }
  }

  private static func distanceClass(_ distance: UInt64) -> Int { 63 - distance.leadingZeroBitCount }
}
