// Snapshots that no read is using, kept for the next one: a read of a store that nobody writes to costs two look-ups
// in a list and no reader of its own.
//
// Invariants
// - A snapshot is only handed out while it shows the present: while the shared era is the one it was taken in.
// - None holds anything back for long: what this process changes lets go of all, what another one changes does when the
//   watching thread notices.
// - A snapshot that somebody still refers to (a scan that outlives its read) never comes in here.

import Synchronization

final class IdleSnapshots: Sendable {
  /// Sound to send: it is in the list, so nobody else refers to it.
  private struct Idle: @unchecked Sendable {
    let snapshot: Snapshot
  }

  private struct Contents {
    var idle: [Idle] = []
    var isClosed = false
  }

  private let memory: SharedMemory
  private let contents = Mutex(Contents())

  init(_ memory: SharedMemory) { self.memory = memory }

  /// Read before the sources of a new snapshot are taken.
  var era: UInt64 { memory.era }

  var hasAny: Bool { contents.withLock { !$0.idle.isEmpty } }

  func take() -> Snapshot? {
    guard let snapshot = contents.withLock({ $0.idle.popLast() })?.snapshot else { return nil }
    return snapshot.era == memory.era ? snapshot : nil
  }

  /// Keeps the snapshot for the next read, if it is still current and nobody else has it. Says whether it was kept.
  func giveBack(_ snapshot: consuming Snapshot) -> Bool {
    guard isKnownUniquelyReferenced(&snapshot), snapshot.era == memory.era else { return false }
    let idle = Idle(snapshot: snapshot)
    return contents.withLock { contents in
      if !contents.isClosed { contents.idle.append(idle) }
      return !contents.isClosed
    }
  }

  /// What snapshots show, or hold on to, has changed.
  func expire(closing: Bool = false) {
    let expired = contents.withLock { contents in
      contents.isClosed = contents.isClosed || closing
      defer { contents.idle.removeAll(keepingCapacity: true) }
      return contents.idle
    }
    // Their readers end here, outside the lock.
    withExtendedLifetime(expired) {}
  }

  /// Lets go of what another process has made old.
  func expireOld() {
    let era = memory.era
    let expired = contents.withLock { contents in
      defer { contents.idle.removeAll { $0.snapshot.era != era } }
      return contents.idle.filter { $0.snapshot.era != era }
    }
    withExtendedLifetime(expired) {}
  }
}
