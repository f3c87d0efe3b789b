// The tail's transaction of a group: when the records become rows, and what happens when a generation has no room for them.
//
// Invariants
// - The open transaction equals the published state, and nothing more while `isDeferring`; from then on that plus the
//   records in `builder`, an open commit included.
// - A generation that runs full is followed by the next one, in which everything the block holds is applied again: the same
//   way in which a write that failed is taken back.

import KVLog
import LMDB

extension GroupWriter {
  /// Has the tail hold all that is published, and begins its transaction.
  func openTail() throws {
    guard writer == nil else { return }
    try core.inserter.settle()
    let live = try core.tail.live()
    if live !== generation { enter(live) }
    if generation.isNearlyFull || core.memory.logBytesInGeneration > generation.capacity { try rollAhead() }
    try beginTail()
  }

  func beginTail() throws {
    writer = try generation.environment.beginWrite()
    isDeferring = true
  }

  func restartTail() throws {
    if let open = writer.take() { open.abort() }
    try beginTail()
  }

  /// Brings the tail's transaction up to date with the group, for as long as that lasts.
  func applyDeferred() throws {
    guard isDeferring else { return }
    try openTail()
    var applied = published
    try builder.withRecords { try applier.apply($0, to: &writer!, state: &applied) }
    try applyOpenChanges()
    isDeferring = false
  }

  /// Before a transaction of the group reads. Without room it goes on in the next generation.
  func showOwnWrites() throws {
    if let requestFailure { throw requestFailure }
    guard isDeferring else { return }
    do {
      guard !builder.isEmpty else { return try openTail() }
      do { try applyDeferred() } catch let error as LMDBError where error.code == .mapFull {
        try rollGeneration(room: builder.byteCount)
        try rebuild()
      }
    } catch {
      // The others of the group go on, with what they have; a tail that could not be opened is opened by who needs it next.
      isDeferring = true
      if writer != nil { do { try restartTail() } catch { groupFailure = error } }
      fail(error)
      throw error
    }
  }

  /// Starts the tail's transaction again and applies what the block holds so far, an open commit included.
  func rebuild() throws {
    try retryingInLargerGeneration {
      try restartTail()
      state = published
      try builder.withRecords { try applier.apply($0, to: &writer!, state: &state) }
      try applyOpenChanges()
      isDeferring = false
    }
  }

  private func applyOpenChanges() throws {
    guard let header = builder.openHeader else { return }
    try builder.withOpenChanges { bytes in
      var changes = ChangeCursor(openChanges: 0..<bytes.byteCount, count: builder.openChangeCount)
      while let change = try changes.next(in: bytes) {
        try applier.put(
          bytes.extracting(change.key), bytes.extracting(change.value), change.isDeletion, header, &writer!)
      }
    }
  }

  /// Repeats `body`, after `next`, in one generation after the other until one has room for it: each that took
  /// nothing is followed by one twice as large, so that only a full disk ends this.
  func retryingInLargerGeneration(_ body: () throws -> Void, next: () throws -> Void = {}) throws {
    while true {
      do {
        return try body()
      } catch let error as LMDBError where error.code == .mapFull {
        try rollGeneration(room: builder.byteCount)
        try next()
      }
    }
  }

  /// Seals a generation before a group begins: when it is nearly full, so that running full in the middle stays rare, or
  /// when it stands for much log, so that keys written again and again do not make the log, and recovery, grow for ever.
  /// On a full disk what is left of it is used up first.
  func rollAhead() throws {
    let hadValues = hasValues
    hasValues = true
    defer { hasValues = hadValues }
    do {
      try rollGeneration(room: 0)
    } catch let error where StoreError.isFull(error) {
      core.makeRoom()
    }
  }

  /// Seals the live generation; waits while the folder is too far behind.
  func rollGeneration(room bytes: Int) throws {
    if let open = writer.take() { open.abort() }
    below = nil
    try core.folder.waitForRoom(core)
    // A fold must never run ahead of the durable log.
    do { try core.log.synchronize() } catch { throw core.poison(error) }
    _ = try generation.environment.checkReaders()
    do {
      try core.tail.roll(room: bytes)
    } catch let error where StoreError.isFull(error) {
      core.makeRoom()
      guard !hasValues else { throw error }
      _ = core.reserve.release(.tail)
      try core.tail.roll(room: bytes, isPressed: true)
    }
    core.folder.wake()
    enter(try core.tail.live())
  }

  /// Runs `body` on the tail, or leaves that for later; when the generation is full, continues in the next one.
  func withTail(_ body: (inout LMDBWriter) throws(LMDBError) -> Void) throws {
    if let requestFailure { throw requestFailure }
    if isDeferring { return }
    do {
      do throws(LMDBError) {
        try body(&writer!)
      } catch {
        guard error.code == .mapFull else { throw error }
        try rollGeneration(room: builder.byteCount)
        try rebuild()
      }
    } catch {
      fail(error)
      throw error
    }
  }
}
