// A number of bytes that many connections share.
//
// Invariants:
// - What is reserved never exceeds the limit; every reservation is released by whoever made it.

import Synchronization

package final class ByteBudget: Sendable {
  package let limitBytes: Int
  private let reserved = Mutex(0)

  package init(limitBytes: Int) {
    self.limitBytes = limitBytes
  }

  /// Takes `count` bytes, or nothing and gives `false`.
  package func reserve(_ count: Int) -> Bool {
    reserved.withLock { reserved in
      guard count <= limitBytes - reserved else { return false }
      reserved += count
      return true
    }
  }

  package func release(_ count: Int) {
    reserved.withLock { $0 -= count }
  }

  package var reservedBytes: Int { reserved.withLock { $0 } }
}
