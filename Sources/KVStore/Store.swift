// The user's handle of an open store.
//
// Invariants
// - A process has one handle of a store; handles of several processes read and write it at once.
// - All state is in the core, which the threads share; the handle only starts and stops them.

import Dispatch
public import KVLog
import Synchronization

/// An embedded key-value store that records every write in an append-only replication log.
///
/// Every write succeeds locally, with no network, and is durable when it returns. Reads are synchronous and run in
/// parallel (one at a time in a store opened read-only); writes are asynchronous, with blocking variants for tools. A
/// `Store` may be used from any thread. Several processes may have the same store open, one `Store` each: what a write has
/// returned for in one, the next read in another sees. In a child process after `fork` every operation throws
/// ``StoreError/Code/inUse``.
///
/// ```swift
/// let store = try await Store.open(at: "field-notes")
/// try await store.put("rain", for: "weather/today")
/// let value = try store.value(for: "weather/today")
/// ```
public final class Store: Sendable {
  enum Backing {
    case writable(StoreCore)
    case readOnly(ReadOnlyStore)
  }

  /// The directory, as it was given.
  public let path: String
  /// Who this store is: 128 random bits, drawn when it was created.
  public let identity: Identity
  let configuration: LogConfiguration
  let durability: Durability
  /// See `ForkGuard`.
  private let generation = ForkGuard.generation
  var isForked: Bool { generation != ForkGuard.generation }
  let streams = StreamCache()
  /// The core's; nil when read-only. A read that finds one here needs neither lock nor core.
  let idleSnapshots: IdleSnapshots?
  private let contents: Mutex<Contents>
  /// Whether a replicator of this process is at work.
  let hasSession = Mutex(false)
  /// True while a close is under way.
  private let closing = Monitor(false)

  private struct Contents {
    /// nil once closing has begun.
    var backing: Backing?
    /// The state at closing.
    var lastState: StoreState
  }

  init(
    path: String, manifest: StoreManifest, configuration: LogConfiguration, durability: Durability, backing: Backing
  ) {
    self.path = path
    self.configuration = configuration
    self.durability = durability
    contents = Mutex(Contents(backing: backing, lastState: backing.state))
    idleSnapshots = if case .writable(let core) = backing { core.idleSnapshots } else { nil }
    identity = manifest.identity
  }

  deinit {
    // Without `close` nothing is lost: the next opening replays the log.
    guard case .writable(let core) = contents.withLock({ $0.backing }) else { return }
    if isForked {
      // All of it belongs to the parent.
      _ = unsafe Unmanaged.passRetained(core)
    } else if core.writer.isCurrent {
      BlockingWork.queue.async { Store.stop(core) }
    } else {
      Store.stop(core)
    }
  }

  /// Waits for writes under way, folds the tail so that the next opening has nothing to replay, and closes.
  ///
  /// Operations after it throw ``StoreError/Code/closed``; closing again does nothing but wait for a close under way.
  /// Throws ``StoreError`` when the log cannot be made durable or the fold fails: `poisoned`, `corrupt`, `full`, `system`;
  /// the store is closed all the same, and no write that returned is lost. A disk too full for the fold is no failure: the
  /// next opening replays the log.
  ///
  /// A closure given to ``read(_:)`` that still runs keeps its snapshot, and the store cannot be opened again in this
  /// process before it ends.
  public func close() async throws {
    try await onBlockingThread { try self.closeBlocking() }
  }

  /// As ``close()``, blocking the calling thread. From a transaction of this store it throws ``StoreError/Code/inUse``.
  public func closeBlocking() throws {
    if case .writable(let core)? = contents.withLock({ $0.backing }), core.writer.isCurrent {
      throw StoreError(.inUse, "a store cannot be closed from one of its transactions. Close it after.", path: path)
    }
    closing.wait { isClosing, _ -> Void? in
      if isClosing { return nil }
      isClosing = true
      return ()
    }
    defer { closing.update { $0 = false } }
    if isForked { return }
    let backing = contents.withLock { $0.backing.take() }
    streams.removeAll()
    guard case .writable(let core) = backing else { return }
    do {
      try Store.stop(core, folding: true)
    } catch {
      contents.withLock { $0.lastState = core.publication.state }
      throw StoreError.published(error, path: path)
    }
    contents.withLock { $0.lastState = core.publication.state }
  }

  static func stop(_ core: StoreCore) { try? stop(core, folding: false) }

  /// Ends the threads and gives the store up. The last process to do so leaves nothing to replay.
  private static func stop(_ core: StoreCore, folding: Bool) throws {
    core.writer.stop()
    core.inserter.stop()
    core.synchronizer.stop()
    core.preparer.stop(core)
    core.folder.stop()
    core.watch.stop(core.memory)
    _ = core.state
    defer {
      core.publication.fail(.closed)
      core.idleSnapshots.expire(closing: true)
      core.locks.release()
    }
    try core.locks.whileClosing { isLast in
      defer { if isLast { core.tail.removeFiles() } }
      // Of a poisoned store, or one in which the last writer died at work, the next opening finds out what it holds.
      guard core.publication.failure == nil, !core.memory.isPoisoned else { return }
      try core.log.synchronize()
      guard isLast, folding, core.memory.unfinishedWriter == nil, core.inserter.hasInsertedAll else { return }
      try core.resumeLog()
      try core.log.synchronize()
      try core.folder.finish(core)
      try core.log.close()
    }
  }

  /// The writable core; throws when the store is read-only or closed.
  func core() throws(StoreError) -> StoreCore {
    guard case .writable(let core) = try backing() else {
      throw StoreError(.readOnly, "the store was opened read-only. Open it for writing.", path: path)
    }
    return core
  }

  func backing() throws(StoreError) -> Backing {
    guard !isForked else {
      throw StoreError(
        .inUse,
        "this process is a forked child of the one that opened the store, to which the handle belongs. Open the store in a process that executes a program of its own.",
        path: path)
    }
    guard let backing = contents.withLock({ $0.backing }) else {
      throw StoreError(.closed, StoreError.closed.message, path: path)
    }
    return backing
  }

  /// The name under which the store writes commits: its identity at first, and another one from when the store turned out
  /// to be a copy, or restored from an older copy. Of a hub's space it is the epoch.
  public var incarnation: Identity { state.incarnation }

  /// The published state; of a closed store, the last one.
  var state: StoreState {
    contents.withLock { $0.backing?.state ?? $0.lastState }
  }
}

extension Store.Backing {
  var state: StoreState {
    switch self {
    case .writable(let core): core.state
    case .readOnly(let store): store.state
    }
  }
}

/// Runs blocking work away from the threads that serve tasks.
package func onBlockingThread<Result: Sendable>(
  _ work: @escaping @Sendable () throws -> Result
) async throws -> Result {
  try await withCheckedThrowingContinuation { continuation in
    BlockingWork.queue.async { continuation.resume(with: Swift.Result(catching: work)) }
  }
}
