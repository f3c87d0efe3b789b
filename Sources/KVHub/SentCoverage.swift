// What a replica has of a space, as far as the session has brought it.
//
// Invariants
// - A key is covered when the page with it has been sent; the replica has it when it says that it has applied the page.

import KVLog
import KVProtocol

struct SentCoverage: Sendable {
  private(set) var covered = Coverage.all
  private(set) var missing = Coverage.none
  /// The replica has changes pending, which may meet deletions.
  private(set) var wantsDeletions = false
  private var pages: UInt32 = 0
  private static let maximumEarlier = 64
  /// What was covered when so many pages had been sent, of some of those that the replica may not have applied.
  private var earlier: [(pages: UInt32, covered: Coverage)] = []

  init() {}

  init(_ hello: Hello, _ state: SpaceState) {
    covered = hello.covered
    missing = hello.missing
    wantsDeletions = hello.wantsDeletions
    guard hello.mode.contains(.pull), state.common?.version ?? 0 < state.retentionFloor else { return }
    // The log no longer has what follows on what the replica has: it has to begin again.
    missing = missing.union(covered)
    covered = .none
  }

  mutating func sent(_ interval: KeyInterval) {
    earlier.append((pages, covered))
    // To know of a bit less than it has is safe.
    if earlier.count > Self.maximumEarlier { earlier = earlier.indices.filter { $0 % 2 == 0 }.map { earlier[$0] } }
    covered.insert(interval)
    missing.remove(interval)
    pages += 1
  }

  /// What the replica has that has applied so many pages, and does not say again that it has fewer; nil: so many were not
  /// sent.
  mutating func applied(_ pages: UInt32) -> Coverage? {
    guard pages <= self.pages else { return nil }
    guard pages < self.pages else {
      earlier = []
      return covered
    }
    while earlier.count > 1, earlier[1].pages <= pages { earlier.removeFirst() }
    return earlier.first?.covered ?? Coverage.none
  }
}
