// The thread that puts the rows of durable groups into the tail, those of many groups at a time and in the order of their
// keys, while the writer goes on with the log. Only in a process that has the store for itself: to another one the tail
// would show less than what is published.
//
// Invariants
// - A group comes here after it is durable and before it is published. All that is kept of it here is where it lies in the
//   log: a crash loses nothing by it.
// - Whoever looks into the tail has it settled first, and sees all that is published.
// - While anything is here, this thread alone writes into the tail and rolls its generations; otherwise the store's writer.
// - What is here is bounded, and so is the number of stores of the process that insert at the same time.
// - A full disk is waited out, as the folder does, and what there is of room is used, however little at a time; any other
//   failure poisons the store.

import KVLog
import LMDB
import Synchronization

final class Inserter: Sendable {
  private struct Group {
    var records: BlockRecords
    /// The state with it.
    var after: StoreState
  }

  private struct State {
    /// Groups that wait, or are being inserted, oldest first; nothing but commits and progress.
    var groups: [Group] = []
    var bytes = 0
    /// How many wait for the tail to be settled.
    var awaiting = 0
    var hasThread = false
    var isStopping = false
    /// Why what is here does not get into the tail.
    var failure: (any Error)?

    var isSettled: Bool { groups.isEmpty }
  }

  private let state = Monitor(State())
  /// Nothing is here: what most reads look at.
  private let isSettled = Atomic(true)
  /// How many more stores of the process may insert now.
  private static let turns = Monitor(StoreLimits.inserters)

  /// Whether a group of `bytes` is worth a thread's waking up, and not so large that the writer should rather take its time.
  func wants(_ bytes: Int, _ core: StoreCore) -> Bool {
    bytes <= StoreLimits.insertedGroupBytes
      && (bytes >= core.lateGroupBytes || !isSettled.load(ordering: .acquiring))
  }

  /// Takes a group over. `after` is the state with it.
  func take(_ records: BlockRecords, after newest: StoreState, _ core: StoreCore) {
    let starts = state.update { state in
      precondition(!state.isStopping, "the writer ends before the inserter")
      isSettled.store(false, ordering: .releasing)
      state.groups.append(Group(records: records, after: newest))
      state.bytes += records.byteCount
      defer { state.hasThread = true }
      return !state.hasThread
    }
    if starts { start(core) }
  }

  /// Bytes of log whose rows the tail lacks.
  var waitingBytes: Int { isSettled.load(ordering: .acquiring) ? 0 : state.withLock { $0.bytes } }

  /// Waits until the inserter is not too far behind.
  func waitForRoom() throws {
    guard !isSettled.load(ordering: .acquiring) else { return }
    try state.wait { state, _ in
      if state.bytes < StoreLimits.waitingBytes, state.groups.count < StoreLimits.waitingGroups { return () }
      if let failure = state.failure { throw failure }
      return nil
    }
  }

  /// Returns when the tail has all that was taken.
  func settle() throws {
    guard !isSettled.load(ordering: .acquiring) else { return }
    state.update { $0.awaiting += 1 }
    defer { state.withLock { $0.awaiting -= 1 } }
    try state.wait { state, _ in
      if state.isSettled { return () }
      if let failure = state.failure { throw failure }
      return nil
    }
  }

  /// Whether the tail has all that was taken.
  var hasInsertedAll: Bool { isSettled.load(ordering: .acquiring) }

  /// Puts what is left into the tail and ends the thread.
  func stop() {
    state.update { $0.isStopping = true }
    state.wait { state, _ in state.hasThread ? nil : () }
  }

  private func start(_ core: StoreCore) {
    Handoff(core).start(threadNamed: "kvsync.insert") { [self] core in
      var share = StoreLimits.insertedBytes
      while let groups = next() {
        takeTurn()
        let inserted = insert(groups, &share, core)
        Inserter.turns.update { $0 += 1 }
        guard inserted > 0 else { return }
        state.update { state in
          state.bytes -= state.groups[..<inserted].reduce(0) { $0 + $1.records.byteCount }
          state.groups.removeFirst(inserted)
          if state.isSettled { isSettled.store(true, ordering: .releasing) }
        }
      }
    } ended: { [state] in
      state.update { $0.hasThread = false }
    }
  }

  private func takeTurn() {
    Inserter.turns.wait { turns, _ -> Void? in
      guard turns > 0 else { return nil }
      turns -= 1
      return ()
    }
  }

  /// Waits until there is enough to insert, or somebody waits for it, or it has waited for long; nil: the end.
  private func next() -> [Group]? {
    let hasGroups = state.wait { state, _ -> Bool? in
      state.groups.isEmpty ? (state.isStopping ? false : nil) : true
    }
    guard hasGroups else { return nil }
    let due = Deadline(secondsFromNow: StoreLimits.insertionSeconds)
    let groups: [Group] = state.wait(until: due) { state, timedOut -> [Group]? in
      let isEnough =
        state.bytes >= StoreLimits.insertedBytes || 2 * state.groups.count >= StoreLimits.waitingGroups
      return timedOut || isEnough || state.awaiting > 0 || state.isStopping ? state.groups : nil
    }
    return groups
  }

  // MARK: The tail

  /// Gives the number of groups that are in the tail now; 0 when that cannot be: the log has it, for the next opening. `share`:
  /// bytes of log to insert at once, fewer where the disk has no room for the rows of more.
  private func insert(_ groups: [Group], _ share: inout Int, _ core: StoreCore) -> Int {
    while true {
      do {
        let count = try insertSome(of: groups, share, core)
        state.withLock { $0.failure = nil }
        share = min(2 * share, StoreLimits.insertedBytes)
        return count
      } catch {
        let isFull = StoreError.isFull(error)
        let failure = isFull ? StoreError.published(error, path: core.path) : core.poison(error)
        let isOver = state.update { state in
          state.failure = failure
          return !isFull || state.isStopping
        }
        if isOver { return 0 }
        core.makeRoom()
        if share > groups[0].records.byteCount { share /= 2 } else { rest(seconds: 1) }
      }
    }
  }

  private func insertSome(of groups: [Group], _ share: Int, _ core: StoreCore) throws -> Int {
    var mapped = 0
    let few = groups.prefix { group in
      defer { mapped += group.records.byteCount }
      return mapped < share
    }
    let blocks = try MappedBlocks(few.map(\.records), of: core.log.configuration)
    return try blocks.withBytes { records in
      let applier = LogApplier(tables: try core.tail.live().tables)
      var collected = LogApplier.Collected()
      var count = 0
      var bytes = 0
      for range in blocks.ranges where collected.rows.count < StoreLimits.insertedRows {
        try applier.collect(records, range, into: &collected)
        bytes += range.count
        count += 1
      }
      collected.rows.sort(in: records)
      try apply(collected, of: records, groups[count - 1].after, core)
      core.memory.appended(bytes)
      return count
    }
  }

  /// Many rows become a generation of their own, filled from its first page to the last.
  private func apply(
    _ collected: LogApplier.Collected, of records: RawSpan, _ after: StoreState, _ core: StoreCore
  ) throws {
    var room = collected.rows.treeBytes
    let live = try core.tail.live()
    let isOwn = collected.rows.count >= StoreLimits.ownGenerationRows && !live.isEmpty
    let isOld = core.memory.logBytesInGeneration > live.capacity
    if isOwn || isOld || live.isNearlyFull || live.freeBytes < 2 * room { try roll(room: room, core) }
    while true {
      let generation = try core.tail.live()
      do {
        var writer = try generation.environment.beginWrite()
        try LogApplier(tables: generation.tables).apply(collected, of: records, in: after, to: &writer)
        try writer.put(state: after, in: generation.tables)
        try writer.commit()
        return generation.markFilled()
      } catch let error as LMDBError where error.code == .mapFull {
        room *= 2
        try roll(room: room, core)
      }
    }
  }

  /// What is here is durable, so that no fold can run ahead of the log.
  private func roll(room bytes: Int, _ core: StoreCore) throws {
    try core.folder.waitForRoom(core)
    do {
      try core.tail.roll(filling: bytes)
    } catch let error where StoreError.isFull(error) {
      core.makeRoom()
      _ = core.reserve.release(.all)
      try core.tail.roll(filling: bytes)
    }
    core.folder.wake()
  }

  private func rest(seconds: Double) {
    let deadline = Deadline(secondsFromNow: seconds)
    state.wait(until: deadline) { state, timedOut in timedOut || state.isStopping ? () : nil }
  }
}
