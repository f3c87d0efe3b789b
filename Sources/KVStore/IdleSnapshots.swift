// Snapshots that no read is using, kept for the next one: a read of a store that nobody writes to takes one from a slot
// and puts it back, which costs two atomic exchanges, no lock and no reader of its own.
//
// Invariants
// - A snapshot is only handed out while it shows the present: while the shared era is the one it was taken in.
// - None holds anything back for long: what this process changes lets go of all, what another one changes does when the
//   watching thread notices. One that is put back just when the era ends is taken out again by who put it there.
// - A snapshot that somebody still refers to (a scan that outlives its read) never comes in here.
// - A slot owns what is in it; whoever takes that out has it alone.

import LMDB
import Synchronization

final class IdleSnapshots: Sendable {
  private let memory: SharedMemory
  private let watch: Watch
  private let slots = (0..<IdleSnapshots.slotCount).map { _ in Slot() }
  private let isClosed = Atomic<Bool>(false)

  /// A read that finds no idle snapshot makes one, and one that finds no slot lets it go: only more threads than this
  /// that read at once would notice.
  private static let slotCount = 16

  init(_ memory: SharedMemory, _ watch: Watch) {
    self.memory = memory
    self.watch = watch
  }

  /// Read before the sources of a new snapshot are taken.
  var era: UInt64 { memory.era }

  var hasAny: Bool { slots.contains { !$0.isEmpty } }

  func take() -> Snapshot? {
    let first = preferredSlot
    for offset in 0..<IdleSnapshots.slotCount {
      let slot = slots[(first + offset) % IdleSnapshots.slotCount]
      if let snapshot = slot.take(), snapshot.era == memory.era { return snapshot }
    }
    return nil
  }

  /// Keeps the snapshot for the next read, if it is still current and nobody else has it.
  func giveBack(_ snapshot: consuming Snapshot) {
    let era = snapshot.era
    guard isCurrent(era), isKnownUniquelyReferenced(&snapshot) else { return }
    let first = preferredSlot
    for offset in 0..<IdleSnapshots.slotCount {
      let slot = slots[(first + offset) % IdleSnapshots.slotCount]
      guard slot.put(snapshot) else { continue }
      // The era may have ended, and the slots may have been emptied, just before.
      if isCurrent(era) { watch.need(memory) } else { _ = slot.take() }
      return
    }
  }

  /// What snapshots show, or hold on to, has changed.
  func expire(closing: Bool = false) {
    if closing { isClosed.store(true, ordering: .sequentiallyConsistent) }
    for slot in slots { _ = slot.take() }
  }

  /// Lets go of what another process has made old.
  func expireOld() {
    for slot in slots {
      if let snapshot = slot.take() { giveBack(snapshot) }
    }
  }

  private func isCurrent(_ era: UInt64) -> Bool {
    era == memory.era && !isClosed.load(ordering: .sequentiallyConsistent)
  }

  /// Threads begin at different slots, so that they do not wait for each other's exchanges.
  private var preferredSlot: Int { Int(truncatingIfNeeded: currentThread() >> 12) & (IdleSnapshots.slotCount - 1) }
}

/// Room for one snapshot.
private final class Slot: Sendable {
  /// A reference that was retained for the slot, or zero.
  private let reference = Atomic<UInt>(0)
  /// Keeps slots of different threads on different lines of the cache.
  private let padding: (UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0)

  deinit { _ = take() }

  var isEmpty: Bool { reference.load(ordering: .relaxed) == 0 }

  @inline(__always)
  func take() -> Snapshot? {
    // Most slots are empty: looking is cheaper than exchanging.
    guard !isEmpty else { return nil }
    let taken = reference.exchange(0, ordering: .sequentiallyConsistent)
    guard let pointer = unsafe UnsafeRawPointer(bitPattern: taken) else { return nil }
    return unsafe Unmanaged<Snapshot>.fromOpaque(pointer).takeRetainedValue()
  }

  /// False when the slot is taken.
  @inline(__always)
  func put(_ snapshot: Snapshot) -> Bool {
    guard isEmpty else { return false }
    let retained = unsafe Unmanaged.passRetained(snapshot)
    let isPut = reference.compareExchange(
      expected: 0, desired: unsafe UInt(bitPattern: retained.toOpaque()), ordering: .sequentiallyConsistent
    ).exchanged
    if !isPut { unsafe retained.release() }
    return isPut
  }
}
