// The thread of a process that follows what other processes do to the store. It sleeps while nothing concerns it.
//
// Invariants
// - It is told of every group only while somebody here waits for one, or while a read has left an idle snapshot, which
//   must not outlive a change for long; of generations that come and go it is told always.
// - While this process replicates it shows every second that it is alive.
// - While relaxed groups are written, by whomever, it looks again when one has become old: its process may have died.
// - Whoever starts to wait says so afterwards looks again at what is published: no group falls between.

import Foundation
import Synchronization

final class Watch: Sendable {
  private let isStopping = Atomic(false)
  /// Somebody has begun to wait.
  private let isWanted = Atomic(false)
  /// Whether this process is told of every group.
  private let watching = Atomic(false)
  private let hasEnded = Monitor(true)

  /// Read by the writer, which does not have to tell its own process.
  var isWatching: Bool { watching.load(ordering: .sequentiallyConsistent) }

  func start(_ core: StoreCore) {
    hasEnded.update { $0 = false }
    Handoff(core).start(threadNamed: "kvsync.watch") { [self] core in
      run(core)
    } ended: { [hasEnded] in
      hasEnded.update { $0 = true }
    }
  }

  /// Somebody here waits for groups, or has left an idle snapshot.
  func need(_ memory: SharedMemory) {
    if isWatching || isWanted.exchange(true, ordering: .sequentiallyConsistent) { return }
    memory.wake()
  }

  func stop(_ memory: SharedMemory) {
    isStopping.store(true, ordering: .sequentiallyConsistent)
    hasEnded.wait { hasEnded, _ in
      if !hasEnded { memory.wake() }
      return hasEnded ? () : nil
    }
  }

  private func run(_ core: StoreCore) {
    let memory = core.memory
    while !isStopping.load(ordering: .sequentiallyConsistent) {
      let seen = memory.signal
      let wanted = isWanted.exchange(false, ordering: .sequentiallyConsistent)
      let isNeeded = wanted || core.publication.hasWaiters || core.idleSnapshots.hasAny
      if isNeeded != isWatching {
        watching.store(isNeeded, ordering: .sequentiallyConsistent)
        if isNeeded { memory.addWatcher() } else { memory.removeWatcher() }
        continue
      }
      core.follow()
      let lease = core.lease.load(ordering: .sequentiallyConsistent)
      memory.renewLease(lease, at: monotonicMilliseconds())
      var pause = lease != 0 ? core.leaseMilliseconds.load(ordering: .relaxed) / 10 : .max
      if lease == 0, isNeeded { pause = StoreLimits.idleMilliseconds }
      let soon = core.synchronizer.lookAfterOthers(core)
      if let soon { pause = min(pause, soon) }
      memory.sleep(seen: seen, milliseconds: pause == .max ? 0 : pause)
      // Nothing has happened for a while: what is left of old reads must not hold pages back.
      if isNeeded, soon == nil, memory.signal == seen { core.idleSnapshots.expire() }
    }
    if isWatching { memory.removeWatcher() }
  }
}
