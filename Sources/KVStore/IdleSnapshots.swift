// Snapshots that no read is using, kept for the next one: a read of a store that nobody writes to costs two look-ups
// in a list and no reader of its own.
//
// Invariants
// - A snapshot in here shows the present: all are let go of when a group becomes visible, before anybody is told.
// - None holds anything back: all are let go of too when the index commits or a generation retires.
// - A snapshot that somebody still refers to (a scan that outlives its read) never comes in here.

import Synchronization

final class IdleSnapshots: Sendable {
  /// Sound to send: it is in the list, so nobody else refers to it.
  private struct Idle: @unchecked Sendable {
    let snapshot: Snapshot
  }

  private struct Contents {
    /// Counts what makes snapshots old.
    var era: UInt64 = 0
    var idle: [Idle] = []
    var isClosed = false
  }

  private let contents = Mutex(Contents())

  /// Read before the sources of a new snapshot are taken.
  var era: UInt64 { contents.withLock { $0.era } }

  func take() -> Snapshot? { contents.withLock { $0.idle.popLast() }?.snapshot }

  /// Keeps the snapshot for the next read, if it is still current and nobody else has it.
  func giveBack(_ snapshot: consuming Snapshot) {
    guard isKnownUniquelyReferenced(&snapshot) else { return }
    let idle = Idle(snapshot: snapshot)
    contents.withLock { contents in
      if !contents.isClosed, contents.era == idle.snapshot.era { contents.idle.append(idle) }
    }
  }

  /// What snapshots show, or hold on to, has changed.
  func expire(closing: Bool = false) {
    let expired = contents.withLock { contents in
      contents.era += 1
      contents.isClosed = contents.isClosed || closing
      defer { contents.idle.removeAll(keepingCapacity: true) }
      return contents.idle
    }
    // Their readers end here, outside the lock.
    withExtendedLifetime(expired) {}
  }
}
