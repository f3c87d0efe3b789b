// Which of a store's commits still have a row: one walk over all rows, for a backlog so large that looking up each of its
// changes would take longer.
//
// Invariants
// - One bit for each version of (`after`, `through`]: set when a row, be it a tombstone, was written by that local commit.
//   The row of a pending change is replaced by nothing but a newer change, so a version without a bit has no current change.
// - It never changes: what came later than its snapshot can only have taken bits away.

import KVLog

struct CurrentVersions: Sendable {
  let after: Version
  let through: Version
  private var bits: [UInt64]

  /// Reads and checks every row of the snapshot.
  init(after: Version, through: Version, in snapshot: Snapshot) throws {
    self.after = after
    self.through = through
    var bits = [UInt64](repeating: 0, count: Int(through - after + 63) / 64)
    let home = snapshot.home
    var cursor = try snapshot.mergeCursor(KeyRange(), reversed: false)
    try cursor.forEach { key, bytes in
      let row = try Row(bytes, key: key, home: home)
      if row.version > after, row.version <= through, row.serverVersion == 0 {
        let place = Int(row.version - after - 1)
        bits[place / 64] |= 1 << UInt64(place % 64)
      }
      return true
    }
    self.bits = bits
  }

  func covers(_ version: Version) -> Bool { version > after && version <= through }

  /// Of a version that is covered.
  func contains(_ version: Version) -> Bool {
    let place = Int(version - after - 1)
    return bits[place / 64] & 1 << UInt64(place % 64) != 0
  }
}
