// What the threads of an open store share. `Store` is the user's handle; the core lives until the last thread and the
// last snapshot have let go of it.

import Foundation
import KVLog
import LMDB
import Synchronization

final class StoreCore: Sendable {
  let path: String
  let identity: Identity
  let log: ReplicationLog
  let tail: Tail
  let index: Index
  let publication: Publication
  let idleSnapshots: IdleSnapshots
  let folder = Folder()
  let writer = WriteQueue()
  let synchronizer = Synchronizer()
  let inserter = Inserter()
  let preparer = LogPreparer()
  let watch = Watch()
  let marks = CommitMarks()
  let locks: StoreLocks
  let reserve: Reserve
  let conflictRetention: ConflictRetention
  /// What all processes with the store open share.
  let memory: SharedMemory
  /// The lease that this process believes to hold; 0: none.
  let lease = Atomic<UInt64>(0)
  let leaseMilliseconds = Atomic(StoreLimits.leaseMilliseconds)
  /// Whether rows may follow their log a little later: nobody but this process looks into the tail, and the log's files can
  /// be mapped.
  let insertsLater: Bool
  /// Groups of so many bytes or more are worth the inserter's waking up.
  let lateGroupBytes: Int
  /// This process.
  let process = getpid()

  init(
    path: String, manifest: StoreManifest, log: ReplicationLog, tail: Tail, index: Index, state: StoreState,
    sequence: UInt64, locks: StoreLocks, reserve: Reserve, conflictRetention: ConflictRetention,
    lateGroupBytes: Int
  ) {
    self.path = path
    identity = manifest.identity
    self.log = log
    self.tail = tail
    self.index = index
    self.locks = locks
    self.reserve = reserve
    self.lateGroupBytes = lateGroupBytes
    insertsLater = locks.isExclusive && log.configuration.fileSystem is PosixFileSystem
    self.conflictRetention = conflictRetention
    memory = tail.memory
    idleSnapshots = IdleSnapshots(tail.memory, watch)
    publication = Publication(state, sequence, tail.memory, watch)
  }

  func start() throws {
    publication.attach(self)
    writer.start(self, GroupWriter(self, try tail.live()))
    folder.start(self)
    watch.start(self)
  }

  /// Readers of everything, newest first, that agree on one version.
  func sources(live: Bool) throws -> [Source] {
    if live { try inserter.settle() }
    return try tail.withSources(live: live, index: index)
  }

  // MARK: What is visible

  /// The newest state that any process has made visible. When it cannot be read, the newest known here.
  var state: StoreState {
    let sequence = memory.sequence
    let known = publication.latest
    guard !locks.isExclusive, known.sequence < sequence, let state = try? visibleState() else { return known.state }
    publication.publish(state, sequence)
    return publication.state
  }

  /// The state as the tail and the index have it.
  func visibleState() throws -> StoreState {
    try inserter.settle()
    return try tail.state(index) ?? StoreState(start: identity)
  }

  /// Looks at what other processes have done.
  func follow() {
    if memory.isPoisoned { _ = poisonedElsewhere() }
    idleSnapshots.expireOld()
    _ = state
    // What cannot be opened now is reported by the reads and writes that need it.
    try? tail.refresh()
    folder.wake()
  }

  /// Under the writer's lock: goes on where the last process to write has stopped. Gives the state as of there.
  @discardableResult
  func resumeLog() throws -> StoreState {
    let state = try visibleState()
    let end = memory.logEnd
    try log.resume(at: end.position(state), synchronizedThrough: end.durable)
    return state
  }

  /// Under the writer's lock: where the log goes on, for the next process to write. `state` is as of its end.
  func noteLog(_ state: StoreState) {
    let end = log.end
    let durable = log.synchronizedThrough
    memory.logEnd = SharedMemory.LogEnd(segment: end.segment, offset: end.offset, durable: durable)
    if durable == end.offset { memory.raiseDurableVersion(to: state.version) }
  }

  /// The disk is full: what was set aside for later goes, and the folder gives back what it can.
  func makeRoom() {
    log.discardPreparedSegment()
    folder.makeRoom()
  }

  // MARK: Failure

  /// Makes every further write fail with one clear error; reading goes on.
  func poison(_ error: any Error) -> any Error {
    let poisoned = StoreError(
      .poisoned,
      "a write failed with an unknown outcome (\(error)); the store takes no more writes. Close and reopen it: what was acknowledged is safe.",
      path: path)
    publication.fail(poisoned)
    memory.poison()
    folder.wake()
    // Several threads may fail over the same disk: all get what the first has found.
    return publication.failure ?? poisoned
  }

  /// Another process has poisoned the store.
  func poisonedElsewhere() -> any Error {
    let poisoned = StoreError(
      .poisoned,
      "a write of another process failed with an unknown outcome; the store takes no more writes. Close it in all processes and reopen it: what was acknowledged is safe.",
      path: path)
    publication.fail(poisoned)
    folder.wake()
    return publication.failure ?? poisoned
  }
}

extension SharedMemory.LogEnd {
  /// The place, at which the log stands where `state` does.
  func position(_ state: StoreState) -> LogPosition {
    LogPosition(segment: segment, offset: offset, version: state.version, digest: state.position.digest)
  }
}
