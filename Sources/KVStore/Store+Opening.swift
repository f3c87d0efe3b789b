// Opening: recovery is the only way in, so that every opening exercises it.

import Foundation
package import KVLog
import LMDB

extension Store {
  /// How a store is opened. The defaults suit a program that owns its store.
  public struct Options: Sendable {
    /// Creates the store when there is none; otherwise that is ``StoreError/Code/noStore``.
    public var createIfMissing = true
    /// Opens a view of what is durable now, beside a writer in another process, without changing data. Its reads are one
    /// at a time. It takes a reader's slot in `index.mdb-lock` and needs write permission to that one file; on a
    /// read-only mount it works without.
    public var readOnly = false
    /// What becomes of log that is no longer needed here.
    public var logRetention = LogRetention.acknowledged(bytes: StoreLimits.retainedLogBytes)
    /// Where a segment file of the log is sealed and the next one begins, in bytes.
    public var segmentBytes = 64 << 20

    package var fileSystem: any LogFileSystem = PosixFileSystem()

    /// The defaults.
    public init() {}
  }

  /// Which log segments may go.
  public enum LogRetention: Sendable, Equatable {
    /// None: what a hub needs for replicas that come back after a long time.
    case all
    /// Those whose commits are all folded and acknowledged, apart from the newest `bytes` of log.
    case acknowledged(bytes: Int)
  }

  /// Opens the store at `path`, creating it by default; recovers what a crash has left.
  ///
  /// What recovery shows is durable when this returns. It takes as long as replaying the log behind the index: after
  /// a crash what fits into the tail, after a clean close nothing. A store is open in one process for writing, and
  /// once in a process, be it for writing or reading.
  ///
  /// Throws ``StoreError``: `noStore`, `foreign`, `newerFormat`, `inUse`, `notAllowed`, `corrupt`, `full`, `system`; for
  /// reading also `expired`, when the writer was faster ten times.
  public static func open(at path: String, options: Options = Options()) async throws -> Store {
    try await onBlockingThread { try openBlocking(at: path, options: options) }
  }

  /// As ``open(at:options:)``, blocking the calling thread; throws the same.
  public static func openBlocking(at path: String, options: Options = Options()) throws -> Store {
    do {
      return options.readOnly ? try openForReading(path, options) : try openForWriting(path, options)
    } catch {
      throw StoreError.published(error, path: path)
    }
  }

  private static func logConfiguration(
    _ directory: StoreDirectory, _ identity: Identity, _ options: Options
  ) -> LogConfiguration {
    var configuration = LogConfiguration(
      directory: directory.log, identity: identity, fileSystem: options.fileSystem)
    configuration.segmentBytes = options.segmentBytes
    return configuration
  }

  static func noStore(_ path: String) -> StoreError {
    StoreError(.noStore, "there is no kvsync store here. Create one with `kvsync init`, or check the path.", path: path)
  }

  private static func openForWriting(_ path: String, _ options: Options) throws -> Store {
    let directory = StoreDirectory(path: path)
    if try directory.content() == .vacant {
      guard options.createIfMissing else { throw noStore(path) }
      try directory.make()
    }
    let lock = try StoreLock(directory.lock, store: path)
    // Looked at again under the lock: somebody else may have created the store meanwhile.
    let manifest =
      try directory.content() == .store
      ? try directory.readManifest() : try directory.create { logConfiguration(directory, $0, options) }
    try directory.checkParts()
    let configuration = logConfiguration(directory, manifest.identity, options)

    let index = try Index(path: directory.index, readOnly: false)
    let state = try Index.state(index.source()) ?? StoreState(start: manifest.identity)
    var recovery = Recovery(
      tail: try Tail(directory: directory.tail), identity: manifest.identity, state: state)
    let log: ReplicationLog
    do {
      log = try ReplicationLog.open(configuration, after: state.position) { try recovery.apply($0) }
      try log.synchronize()
    } catch {
      recovery.tail.removeFiles()
      throw error
    }
    let core = StoreCore(
      path: path, identity: manifest.identity, log: log, tail: recovery.tail, index: index, state: recovery.state,
      retention: options.logRetention, lock: lock)
    core.folder.start(core)
    core.writer.start(core)
    return Store(path: path, manifest: manifest, configuration: configuration, backing: .writable(core))
  }

  private static func openForReading(_ path: String, _ options: Options) throws -> Store {
    let directory = StoreDirectory(path: path)
    guard try directory.content() == .store else { throw noStore(path) }
    let manifest = try directory.readManifest()
    try directory.checkParts()
    let configuration = logConfiguration(directory, manifest.identity, options)
    let view = try ReadOnlyStore(directory, identity: manifest.identity, configuration: configuration)
    return Store(path: path, manifest: manifest, configuration: configuration, backing: .readOnly(view))
  }
}

/// Applies the blocks that the index does not have to a new tail.
struct Recovery {
  let tail: Tail
  private(set) var state: StoreState
  private let identity: Identity

  init(tail: Tail, identity: Identity, state: StoreState) {
    self.tail = tail
    self.identity = identity
    self.state = state
  }

  mutating func apply(_ block: borrowing Block) throws {
    while true {
      do {
        return try apply(block, to: tail.live)
      } catch let error as LMDBError where error.code == .mapFull {
        // A generation that took nothing is followed by a larger one.
        try tail.roll(room: block.records.count)
      }
    }
  }

  private mutating func apply(_ block: borrowing Block, to generation: Generation) throws {
    var writer = try generation.environment.beginWrite()
    var next = state
    let applier = LogApplier(identity: identity, tables: generation.tables)
    try block.withRecords { try applier.apply($0, to: &writer, state: &next) }
    next.position = block.end
    try writer.put(state: next, in: generation.tables)
    try writer.commit()
    generation.markFilled()
    state = next
  }
}
