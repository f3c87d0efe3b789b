// Who replicates: of all processes with the store open, one at a time.
//
// Invariants
// - The lease is taken and checked under the writer's lock. A holder that was taken for dead finds that out with its next
//   acknowledgement or feed, of which nothing is recorded then; what it may still send, the hub has seen before.
// - Nothing leaves the store that a loss of power could take from it.

import Foundation
package import KVLog
import Synchronization

extension Store {
  /// Claims the store for one session with a hub: two at once would count what the hub decided twice. `endSession` ends
  /// it. Throws ``StoreError`` `inUse` while there is one, in this process or in another that is alive: one that has not
  /// shown so for 10 s loses the lease.
  package func beginSession() async throws {
    let isFree = hasSession.withLock { hasSession in
      defer { hasSession = true }
      return !hasSession
    }
    guard isFree else {
      throw StoreError(
        .inUse, "the store is being synchronised already. Wait for that, or cancel it.", path: path)
    }
    do {
      let token = try await perform { try $0.takeLease() }
      let core = try core()
      core.lease.store(token, ordering: .sequentiallyConsistent)
      // From now on the watching thread shows that this process is alive.
      core.memory.wake()
    } catch {
      hasSession.withLock { $0 = false }
      throw error
    }
  }

  package func endSession() {
    if case .writable(let core)? = try? backing() {
      core.memory.endLease(core.lease.exchange(0, ordering: .sequentiallyConsistent), of: core.process)
    }
    hasSession.withLock { $0 = false }
  }

  /// The number of the lease that this process believes to hold; 0: none.
  var lease: UInt64 {
    guard case .writable(let core)? = try? backing() else { return 0 }
    return core.lease.load(ordering: .sequentiallyConsistent)
  }

  /// Every commit up to this version is durable, as far as is known.
  package var durableVersion: Version {
    get throws { try core().memory.durableVersion }
  }

  /// Waits until everything published is durable, relaxed writes too.
  func shipOnlyDurable() throws {
    guard case .writable(let core) = try backing(), core.memory.durableVersion < core.state.version else { return }
    try synchronizeBlocking()
  }
}

extension GroupWriter {
  func takeLease() throws -> UInt64 {
    let now = monotonicMilliseconds()
    let lease = core.memory.lease
    if let holder = lease.process, holder != core.process, isAlive(holder),
      now < lease.time + core.leaseMilliseconds.load(ordering: .relaxed)
    {
      throw StoreError(
        .inUse, "process \(holder) is synchronising the store. Wait for that, or end it.", path: core.path)
    }
    return core.memory.takeLease(core.process, at: now)
  }

  /// Throws when another process has taken the lease over.
  func checkLease(_ token: UInt64) throws(StoreError) {
    let lease = core.memory.lease
    guard token == 0 || lease.token == token else {
      throw StoreError(
        .inUse,
        "process \(lease.process ?? 0) has taken the synchronisation over, because this one had stopped to show that it is alive. Run it again.",
        path: core.path)
    }
  }

  private func isAlive(_ process: Int32) -> Bool { kill(process, 0) == 0 || errno == EPERM }
}
