// Follows the log for an iterator: reads batch after batch, and suspends where nothing has been written yet.
//
// Invariants
// - Nothing is queued: while the iterator's task is elsewhere the log goes on growing, and only the log.
// - While it is suspended it holds one open file of the log, no buffer, no snapshot and no thread.
// - What was just written is read where the task runs: it is in memory, and at most `recentLogBytes`. Anything
//   else may have to come from the disk, so it is read on a thread that may block.

import KVLog

struct ChangeFollower {
  let store: Store
  private let delivery: ChangeDelivery
  /// Everything through this has been read.
  private(set) var version: Version
  private var reader: ChangeReader?

  init(_ store: Store, after version: Version, _ delivery: ChangeDelivery) {
    self.store = store
    self.version = version
    self.delivery = delivery
  }

  /// Goes to a position of the log that is known, so that nothing has to be searched for. Throws `StoreError`.
  mutating func begin(at position: LogPosition) throws {
    version = position.version
    do {
      reader = try ChangeReader(store, after: version, through: position, delivery)
    } catch {
      throw StoreError.published(error, path: store.path)
    }
  }

  /// Suspends until something after `version` is published, and tells through where; nil when nothing ever will be,
  /// because the store was opened read-only. Throws `CancellationError`, and `StoreError` of a store that is closed or
  /// poisoned.
  mutating func wait() async throws -> LogPosition? {
    while true {
      try Task.checkCancellation()
      let backing = try store.backing()
      let state = backing.state
      if state.version > version { return state.position }
      guard case .writable(let core) = backing else { return nil }
      // Begun here, where the position is known, the next reading need not search a segment for it.
      if reader == nil, state.version == version { try begin(at: state.position) }
      _ = try await core.publication.wait(for: .versionBeyond(version))
    }
  }

  /// The next batch of `range`. Throws `StoreError`.
  mutating func next(in range: KeyRange, through limit: LogPosition) async throws -> ChangeBatch {
    let isRecent = reader?.distance(to: limit).map { $0 <= StoreLimits.recentLogBytes } ?? false
    let taken = reader.take()
    let work = { @Sendable [store, delivery, version] in
      var reader = try taken ?? ChangeReader(store, after: version, through: limit, delivery)
      var batch = try reader.next(in: range, through: limit, of: store.state)
      try store.decideStates(of: &batch)
      return (reader, batch)
    }
    do {
      let (reader, batch) = isRecent ? try work() : try await onBlockingThread(work)
      guard batch.version > version else {
        throw StoreError(.corrupt, "the log ends before version \(limit.version).", path: store.path)
      }
      self.reader = reader
      version = batch.version
      return batch
    } catch {
      throw StoreError.published(error, path: store.path)
    }
  }
}
