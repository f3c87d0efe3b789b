// Spaces kept in stores below one directory.
//
// Invariants:
// - One process serves a directory, and a space is opened once in it, when it is first asked for.
// - A store whose outcome became unknown is closed and opened again before anybody uses the space further.

import KVProtocol
import Synchronization

public import KVHub
public import KVStore

/// A hub storage in a directory: one store for each space, durable across crashes and restarts.
///
/// ```swift
/// let hub = Hub(storage: try EmbeddedHubStorage(directory: "/var/lib/kvsync"))
/// try await hub.run()
/// ```
///
/// The directory is made if it does not exist. Spaces are opened when a replica first asks for them, and closed with
/// the hub. Their log is kept whole, so that a replica may stay away for as long as it likes, unless a retention is set.
public final class EmbeddedHubStorage: Sendable {
  typealias Opening = Task<EmbeddedSpace, any Error>

  private struct State {
    var spaces: [String: Opening] = [:]
    var isClosed = false
  }

  let directory: HubDirectory
  private let createsSpaces: Bool
  private let maximumSpaces: Int
  let retention: Duration?
  let segmentBytes: Int
  private let lock: StoreLock
  private let state = Mutex(State())

  /// Opens the hub's directory, or makes it. With `createsSpaces` off, only spaces that exist are served. Replicas make no
  /// more than `maximumSpaces`, as each that is open has some files, a thread and its caches; those that exist are served
  /// all the same.
  ///
  /// With a `retention`, each space keeps the log of that time at least, and forgets what is older, in whole segments of
  /// 64 MiB: a replica that stays away for longer gets a snapshot when it comes back. `nil`: it keeps all.
  ///
  /// One process serves a directory at a time; the lock is held until the hub is shut down.
  ///
  /// Throws `StoreError`: `foreign`, `inUse`, `newerFormat`, `corrupt`, `notAllowed`, `full`, `noStore` (the directory
  /// above is missing), `system`.
  public convenience init(
    directory path: String, createsSpaces: Bool = true, maximumSpaces: Int = 256, retention: Duration? = nil
  ) throws {
    try self.init(
      directory: path, createsSpaces: createsSpaces, maximumSpaces: maximumSpaces, retention: retention,
      segmentBytes: Store.Options().segmentBytes)
  }

  package init(
    directory path: String, createsSpaces: Bool = true, maximumSpaces: Int = 256, retention: Duration?,
    segmentBytes: Int
  ) throws {
    directory = HubDirectory(path: path)
    self.createsSpaces = createsSpaces
    self.maximumSpaces = maximumSpaces
    self.retention = retention
    self.segmentBytes = segmentBytes
    lock = try directory.open()
  }

  /// Copies a space, while replicas go on with it, as `Store.backup(to:progress:)` does; throws the same, and `noStore` when
  /// there is no such space. With `announcing`, replicas are told within a second that a backup covers what the space had,
  /// as `Store.announceBackup(of:)` says: only for backups that will be kept.
  @discardableResult
  public func backup(
    space name: String, to path: String, announcing: Bool = false
  ) async throws -> VerificationReport {
    guard SpaceName.isValid(name), directory.hasSpace(name) else {
      throw StoreError(.noStore, "the hub has no space of that name.", path: directory.path)
    }
    let store = try await opening(of: name, creating: false).value.store
    let report = try await store.backup(to: path)
    if announcing { try store.announceBackup(of: report) }
    return report
  }

  /// The names of the spaces in the directory, in order; `nil` when it is not a hub's. Looks without changing anything.
  package static func spaceNames(at path: String) -> [String]? {
    HubDirectory(path: path).spaceNames()
  }

  /// Closes what is open of a space, and opens it again when it is next asked for.
  func retire(_ space: EmbeddedSpace, named name: String) {
    state.withLock { state in
      guard !state.isClosed, let former = state.spaces[name] else { return }
      let directory = directory
      state.spaces[name] = Opening { [weak self] in
        // Another session may have retired it before.
        guard case .success(let current) = await former.result, current === space else { return try await former.value }
        try? await space.store.close()
        guard let self else { throw HubStorageError.closed }
        return try await EmbeddedSpace(name: name, directory: directory, storage: self)
      }
    }
  }

  private func opening(of name: String, creating: Bool) throws -> Opening {
    try state.withLock { state in
      guard !state.isClosed else { throw HubStorageError.closed }
      if let opening = state.spaces[name] { return opening }
      if !directory.hasSpace(name) {
        guard creating && createsSpaces else { throw HubStorageError.unknownSpace }
        // Those on disk, and those that are being made.
        let names = Set(directory.spaceNames() ?? []).union(state.spaces.keys)
        guard names.count < maximumSpaces else { throw HubStorageError.tooManySpaces }
      }
      let opening = Opening { [self] in
        try await EmbeddedSpace(name: name, directory: directory, storage: self)
      }
      state.spaces[name] = opening
      return opening
    }
  }
}

extension EmbeddedHubStorage: HubStorage {
  package func space(named name: String, creating: Bool) async throws -> any HubSpace {
    guard SpaceName.isValid(name) else { throw HubStorageError.unknownSpace }
    let opening = try opening(of: name, creating: creating)
    do {
      return try await opening.value
    } catch {
      // The next one to ask tries again.
      state.withLock { state in
        if state.spaces[name] == opening { state.spaces[name] = nil }
      }
      throw EmbeddedSpace.storageError(error)
    }
  }

  /// Closes all spaces; throws the first failure after all were tried.
  package func close() async throws {
    let openings = state.withLock { state in
      defer { state.spaces = [:] }
      state.isClosed = true
      return Array(state.spaces.values)
    }
    var failure: (any Error)?
    for opening in openings {
      guard case .success(let space) = await opening.result else { continue }
      do { try await space.store.close() } catch { failure = failure ?? error }
    }
    lock.release()
    if let failure { throw failure }
  }
}

extension Hub {
  /// A hub over the spaces of a directory, yet to be started. It closes the storage when it is shut down.
  public convenience init(storage: EmbeddedHubStorage, options: Options = Options()) {
    self.init(engine: storage, options: options)
  }
}
