// Up to which version of its own log a store has nothing that its hub did not have at some version: a few such pairs, so that
// when a backup of the hub covers a version, the store knows what it need not keep any more.
//
// Invariants
// - Ascending by both; of those that a backup covers the last one is kept.
// - There are a few at most: of more, the one goes that leaves the smallest gap. So what is kept beyond need is a small part of
//   what was written since the last backup.
// - A function of what was added, so that replaying the log gives the same.
//
// entry: hub u64 | local u64, little-endian

import KVLog

struct CoverageMarks: EncodedList, Sendable, Equatable {
  var bytes: [UInt8] = []

  static let entryBytes = 16
  static let maximumCount = 24

  private func hub(_ index: Int) -> Version { bytes.bytes.load(UInt64.self, at: index * Self.entryBytes) }
  private func local(_ index: Int) -> Version { bytes.bytes.load(UInt64.self, at: index * Self.entryBytes + 8) }

  /// What the hub had at its version `hub` of this store's log; 0: nothing is known.
  func local(at hub: Version) -> Version {
    (0..<count).last { self.hub($0) <= hub }.map { local($0) } ?? 0
  }

  /// The hub has everything up to `local` at its version `hub`.
  mutating func add(hub: Version, local: Version) {
    // What it had before it has still: the lower version says more.
    guard count == 0 || local > self.local(count - 1) else { return }
    while count > 0, self.hub(count - 1) >= hub { remove(count - 1) }
    bytes.append(littleEndian: hub)
    bytes.append(littleEndian: local)
    guard count > Self.maximumCount else { return }
    let superfluous = (1..<count - 1).min { gap(around: $0) < gap(around: $1) }
    if let superfluous { remove(superfluous) }
  }

  /// A backup covers what the hub had at `hub`.
  mutating func covered(by hub: Version) {
    while count > 1, self.hub(1) <= hub { remove(0) }
  }

  /// What the hub had after `hub` never was.
  mutating func drop(after hub: Version) {
    while count > 0, self.hub(count - 1) > hub { remove(count - 1) }
  }

  private func gap(around index: Int) -> UInt64 { local(index + 1) - local(index - 1) }

  private mutating func remove(_ index: Int) {
    bytes.removeSubrange(index * Self.entryBytes..<(index + 1) * Self.entryBytes)
  }
}
