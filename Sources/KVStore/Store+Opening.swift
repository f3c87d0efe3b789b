// Opening: recovery is the only way in, so that every opening exercises it.

import Foundation
package import KVLog
import LMDB
import Synchronization

extension Store {
  /// How a store is opened. The defaults suit a program that owns its store.
  public struct Options: Sendable {
    /// Creates the store when there is none; otherwise that is ``StoreError/Code/noStore``.
    public var createIfMissing = true
    /// Opens a view of what is durable now, beside other processes that write, without changing data. Its reads are one
    /// at a time. It takes a reader's slot in `index.mdb-lock` and needs write permission to that one file; on a
    /// read-only mount it works without.
    public var readOnly = false
    /// When a write returns that does not say so itself.
    public var durability = Durability.durable
    /// What becomes of log that is no longer needed here. Of several processes with the store open, the one that keeps the
    /// most has its way.
    public var logRetention = LogRetention.acknowledged(bytes: StoreLimits.retainedLogBytes)
    /// Where a segment file of the log is sealed and the next one begins, in bytes.
    public var segmentBytes = 64 << 20

    /// How long what lost a conflict is kept.
    public var conflictRetention = ConflictRetention()

    package var fileSystem: any LogFileSystem = PosixFileSystem()
    package var generationBytes = StoreLimits.largestGenerationBytes
    /// No other process may open the store for writing meanwhile; views are not kept out. Rows may follow their log a little
    /// later then, see `Inserter`…
    package var isExclusive = false
    /// …those of groups of so many bytes or more.
    package var lateGroupBytes = StoreLimits.overlappedBytes
    package var leaseMilliseconds = StoreLimits.leaseMilliseconds
    /// The name of the network file system that holds the path, if one does.
    package var network: @Sendable (String) -> String? = { FileSystemKind.network(holding: $0) }
    /// An index of at most so many bytes is walked page by page before it is used.
    package var verifiedIndexBytes = StoreLimits.verifiedIndexBytes
    /// Address space that the index is opened with; it grows when it is used up.
    package var indexMapBytes = StoreLimits.indexMapBytes
    var index: Index.Sizes { Index.Sizes(mapBytes: indexMapBytes, verifiedBytes: verifiedIndexBytes) }

    /// The defaults.
    public init() {}
  }

  /// Which log segments may go.
  public enum LogRetention: Sendable, Equatable {
    /// None: what a hub needs for replicas that come back after a long time.
    case all
    /// Those whose commits are all folded and acknowledged, apart from the newest `bytes` of log and from what was written
    /// within the last `age`. A segment goes as a whole, and the newest never goes.
    case acknowledged(bytes: Int, age: Duration = .zero)
    /// Those whose commits are all folded and acknowledged, once the hub has announced that a backup of it covers them
    /// (``Store/announceBackup(of:)`` on its side); until then those apart from the newest `atMost` bytes of log, so
    /// that a hub without backups does not fill the disk. For that, sessions must pull as well as push.
    case untilBackedUp(atMost: Int)

    /// The bytes to keep.
    var bytes: UInt64 {
      switch self {
      case .all: .max
      case .acknowledged(let bytes, _): UInt64(max(0, bytes))
      case .untilBackedUp(let bytes): UInt64(max(0, bytes))
      }
    }

    /// How long to keep it, in seconds.
    var seconds: UInt64 {
      switch self {
      case .all: .max
      case .acknowledged(_, let age): UInt64(max(0, age.components.seconds))
      case .untilBackedUp: 0
      }
    }

    /// Whether it is kept although a backup of the hub covers it.
    var keepsBackedUp: Bool {
      if case .untilBackedUp = self { false } else { true }
    }
  }

  /// What has happened to a write when it returns.
  public enum Durability: Sendable, Hashable {
    /// It is on the medium: it survives a loss of power. One fdatasync for all writes that wait at the same time.
    case durable
    /// The operating system has it: it survives the end of the process, however sudden. It is synchronised within 100 ms; a
    /// loss of power before that takes it, and everything written after it, and nothing else.
    case relaxed
  }

  /// Opens the store at `path`, creating it by default; recovers what a crash has left.
  ///
  /// What recovery shows is durable when this returns. It takes as long as replaying the log behind the index: after
  /// a crash what fits into the tail, after a clean close nothing. Any number of processes may have a store open, each of
  /// them once; only the first to open it has anything to recover.
  ///
  /// Throws ``StoreError``: `noStore`, `foreign`, `newerFormat`, `inUse` (this process has it open, or was forked from one that
  /// had a store open; or another one has been opening or closing it for 30 s), `notAllowed` (permissions; a network file system), `corrupt`, `full`, `system`; for
  /// reading also `expired`, when the writer was faster ten times.
  public static func open(at path: String, options: Options = Options()) async throws -> Store {
    // In a forked child there is no thread that the work could be left to.
    try ForkGuard.refuse(path)
    return try await onBlockingThread { try openBlocking(at: path, options: options) }
  }

  /// As ``open(at:options:)``, blocking the calling thread; throws the same.
  public static func openBlocking(at path: String, options: Options = Options()) throws -> Store {
    do {
      try ForkGuard.refuse(path)
      if let name = options.network(path) { throw FileSystemKind.refusal(name, path) }
      return options.readOnly ? try openForReading(path, options) : try openForWriting(path, options)
    } catch {
      throw StoreError.published(error, path: path)
    }
  }

  static func logConfiguration(
    _ directory: StoreDirectory, _ manifest: StoreManifest, _ options: Options
  ) -> LogConfiguration {
    var configuration = LogConfiguration(
      directory: directory.log(of: manifest), identity: manifest.identity, fileSystem: options.fileSystem)
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
    let locks = try StoreLocks(directory, isExclusive: options.isExclusive)
    let (core, manifest) = try locks.whileOpening { isAlone throws -> (StoreCore, StoreManifest) in
      var manifest = try findOrCreate(directory, isAlone: isAlone, options)
      try directory.checkParts(manifest)
      if isAlone { manifest = try Adoption.run(directory, manifest, options) }
      let core =
        isAlone
        ? try recover(directory, manifest, locks, options) : try join(directory, manifest, locks, options)
      core.memory.retain(options.logRetention)
      return (core, manifest)
    }
    core.leaseMilliseconds.store(options.leaseMilliseconds, ordering: .relaxed)
    do {
      try core.start()
    } catch {
      stop(core)
      throw error
    }
    return Store(
      path: path, manifest: manifest, configuration: core.log.configuration, durability: options.durability,
      backing: .writable(core))
  }

  private static func findOrCreate(
    _ directory: StoreDirectory, isAlone: Bool, _ options: Options
  ) throws -> StoreManifest {
    // Looked at again under the lock: somebody else may have created the store meanwhile.
    if try directory.content() == .store { return try directory.readManifest() }
    guard isAlone else {
      throw StoreError(.inUse, "another process has the store for itself. Wait until it is done.", path: directory.path)
    }
    return try directory.create { logConfiguration(directory, $0, options) }
  }

  /// The first process to open the store: whatever an earlier one has left, the log says what the store is. Of the tail
  /// it keeps what was durable.
  private static func recover(
    _ directory: StoreDirectory, _ manifest: StoreManifest, _ locks: StoreLocks, _ options: Options
  ) throws -> StoreCore {
    let configuration = logConfiguration(directory, manifest, options)
    let index = try Index(
      path: directory.index, readOnly: false, identity: configuration.identity, options.index)
    let folded = try Index.state(index.source()) ?? StoreState(start: configuration.identity)
    let (tail, state) = try Tail.recovered(
      directory.tail, after: folded, home: index.tables.home, largestBytes: options.generationBytes)
    var recovery = Recovery(tail: tail, state: state)
    do {
      let log = try ReplicationLog.open(configuration, after: state.position) { try recovery.apply($0) }
      try recovery.finish()
      try log.synchronize()
      let core = StoreCore(
        path: directory.path, manifest: manifest, log: log, tail: tail, index: index,
        state: recovery.state, sequence: tail.memory.sequence, locks: locks, reserve: Reserve(directory),
        conflictRetention: options.conflictRetention, lateGroupBytes: options.lateGroupBytes)
      core.noteLog(recovery.state)
      core.reserve.restore()
      return core
    } catch {
      tail.removeFiles()
      throw error
    }
  }

  /// Other processes have the store open: what they have published is all there is.
  private static func join(
    _ directory: StoreDirectory, _ manifest: StoreManifest, _ locks: StoreLocks, _ options: Options
  ) throws -> StoreCore {
    let configuration = logConfiguration(directory, manifest, options)
    let index = try Index(
      path: directory.index, readOnly: false, identity: configuration.identity, options.index)
    let tail = try Tail(joining: directory.tail, home: index.tables.home, largestBytes: options.generationBytes)
    let sequence = tail.memory.sequence
    let state = try tail.state(index) ?? StoreState(start: configuration.identity)
    // Where that is, is only true under the writer's lock: the first write resumes there.
    let log = try ReplicationLog.join(configuration, at: state.position, synchronizedThrough: 0)
    return StoreCore(
      path: directory.path, manifest: manifest, log: log, tail: tail, index: index, state: state,
      sequence: sequence - 1, locks: locks, reserve: Reserve(directory), conflictRetention: options.conflictRetention,
      lateGroupBytes: options.lateGroupBytes)
  }

  private static func openForReading(_ path: String, _ options: Options) throws -> Store {
    let directory = StoreDirectory(path: path)
    guard try directory.content() == .store else { throw noStore(path) }
    let manifest = try directory.readManifest()
    do {
      return try view(directory, manifest, options)
    } catch {
      // A backup that somebody opened for writing between our look at the manifest and at the rest: look again.
      let current = try directory.readManifest()
      guard current != manifest else { throw error }
      return try view(directory, current, options)
    }
  }

  /// A view of what lies in the directory, be it published yet or not.
  static func view(_ directory: StoreDirectory, _ manifest: StoreManifest, _ options: Options) throws -> Store {
    try directory.checkParts(manifest)
    let configuration = logConfiguration(directory, manifest, options)
    let view = try ReadOnlyStore(
      directory, identity: manifest.identity, configuration: configuration, options.index)
    return Store(
      path: directory.path, manifest: manifest, configuration: configuration, durability: options.durability,
      backing: .readOnly(view))
  }
}
