// Backup: a consistent copy of an open store, made while others read and write.
//
// A backup is a store's directory with an index that holds everything up to one version, and with the log that the hub had
// not decided by then (`undelivered/`) in place of `log/`. What happens when it is opened for writing is in `Adoption`.
//
// Invariants
// - The copy is of one version: that of one snapshot.
// - The directory becomes a store when everything in it is durable and verified: the manifest gets its name last. Until
//   then it is a creation that was cut off, which holds no data for anybody.
// - Memory does not grow with the store: rows go into the copy in transactions of bounded size.

import Foundation
import KVLog
import LMDB

extension Store {
  /// Copies the store, as it is at one version, into the directory `path`, while others read and write. What comes back
  /// describes the copy, which was verified. It is durable when this returns.
  ///
  /// `path` must be absent or an empty directory. A backup that failed leaves nothing there; what one that was killed
  /// leaves is no store, and the next backup to the same place begins again. The copy is compact, and can be opened
  /// read-only as it is. Opened for writing, it becomes a store with an identity of its own, which offers its hub what the
  /// source had not delivered; see <doc:Maintenance>.
  ///
  /// While it runs, the backup holds a snapshot. `progress` is called now and then, on another thread, with the number of
  /// rows and changes copied and checked so far. Cancelling the task ends the backup with `CancellationError`. Throws
  /// ``StoreError``: `exists`, `inUse` (another backup to the same place), `noStore` or `notAllowed` (the directory cannot
  /// be made), `corrupt` (source or copy), `full`, `closed`, `system`; from a store opened read-only also `expired`, when
  /// the writer gave up the log it needs: open it again.
  @discardableResult
  public func backup(
    to path: String, progress: @escaping @Sendable (Int) -> Void = { _ in }
  ) async throws -> VerificationReport {
    let isCancelled = Monitor(false)
    return try await withTaskCancellationHandler {
      try await onBlockingThread {
        try self.backupBlocking(to: path) { done in
          if isCancelled.withLock({ $0 }) { throw CancellationError() }
          progress(done)
        }
      }
    } onCancel: {
      isCancelled.update { $0 = true }
    }
  }

  /// As ``backup(to:progress:)``, blocking the calling thread, on which `progress` is called too: what that throws ends
  /// the backup.
  @discardableResult
  public func backupBlocking(
    to path: String, progress: (Int) throws -> Void = { _ in }
  ) throws -> VerificationReport {
    do {
      let target = try BackupTarget(path)
      do {
        try progress(0)
        let copied = try copy(to: target, progress)
        let report = try Store.verify(target.directory, copied.manifest, Options()) { try progress(copied.rows + $0) }
        guard report.keys == copied.keys, report.lastVersion == copied.manifest.backup else {
          throw StoreError(.corrupt, "the copy does not hold what was written. Check the disk.", path: path)
        }
        try target.publish(copied.manifest)
        return report
      } catch {
        target.takeBack()
        throw error
      }
    } catch {
      throw StoreError.published(error, path: path)
    }
  }

  private struct Copied {
    var manifest: StoreManifest
    var keys: Int
    var rows: Int
  }

  private func copy(to target: BackupTarget, _ progress: (Int) throws -> Void) throws -> Copied {
    var attempts = 0
    while true {
      do {
        return try read { snapshot in
          do {
            return try copy(snapshot, to: target, progress)
          } catch {
            throw StoreError.published(error, path: target.directory.path)
          }
        }
      } catch let error as StoreError where error.code == .expired && attempts < 10 {
        // The hub decided it meanwhile: the next snapshot needs less of the log.
        attempts += 1
      }
    }
  }

  private func copy(
    _ snapshot: Snapshot, to target: BackupTarget, _ progress: (Int) throws -> Void
  ) throws -> Copied {
    var state = try snapshot.state
    let manifest = StoreManifest(identity: identity, backup: state.version)
    try target.begin(manifest)
    // The log first: nothing keeps it from being truncated.
    state.position = try copyUndelivered(
      state, to: Store.logConfiguration(target.directory, manifest, Options()), progress)
    let index = try Index(path: target.directory.index, readOnly: false, identity: snapshot.home)
    var copier = IndexCopier(index, snapshot)
    try copier.run(state, progress)
    return Copied(manifest: manifest, keys: copier.keys, rows: copier.rows)
  }

  /// Copies the commits that the hub has not decided, and begins a segment after them. Returns where that begins.
  private func copyUndelivered(
    _ state: StoreState, to configuration: LogConfiguration, _ progress: (Int) throws -> Void
  ) throws -> LogPosition {
    let first = state.hasPending ? state.acknowledged : state.version
    var copied = 0
    let end: LogPosition
    if first < state.version {
      var stream = try CommitStream(self.configuration, after: first, through: state.position)
      let log = try LogCopy(configuration, after: first, stream.digest)
      try stream.pass(through: state.position) { entry, bytes in
        try log.append(entry, in: bytes)
        copied += 1
        if copied & 0xFFF == 0 { try progress(0) }
        return true
      }
      end = try log.finish(seal: true)
    } else {
      end = try LogCopy(configuration, after: first, state.position.digest).finish(seal: true)
    }
    guard end.version == state.version, end.digest == state.position.digest else {
      throw StoreError(
        .corrupt, "the log does not lead to version \(state.version). Run `kvsync verify`.", path: self.path)
    }
    return end
  }
}

/// The directory that a backup is written into.
private struct BackupTarget {
  let directory: StoreDirectory
  private let lock: StoreLock
  private let isNew: Bool

  /// Makes the directory, or takes an empty one, or one in which a backup was cut off.
  init(_ path: String) throws {
    let directory = StoreDirectory(path: path)
    isNew = unsafe access(path, F_OK) != 0
    try Self.checkVacant(directory)
    try directory.make()
    do throws(StoreError) {
      lock = try StoreLock(directory.lock, store: path)
    } catch {
      guard error.code == .inUse else { throw error }
      throw StoreError(.inUse, "another process makes a store or a backup here. Choose another path.", path: path)
    }
    try Self.checkVacant(directory)
    self.directory = directory
  }

  private static func checkVacant(_ directory: StoreDirectory) throws(StoreError) {
    let what: String
    do throws(StoreError) {
      guard try directory.content() == .store else { return }
      what = "there is a store here already"
    } catch {
      guard error.code == .foreign else { throw error }
      what = "there is something else here"
    }
    throw StoreError(
      .exists, "\(what). A backup goes into a directory that does not exist yet or is empty: choose another path.",
      path: directory.path)
  }

  /// Begins, again if it has to: everything that is there is of an attempt before.
  func begin(_ manifest: StoreManifest) throws {
    directory.removeParts()
    try directory.write(manifest.encoded(), to: directory.creating)
  }

  /// Makes a store of it. Durable.
  func publish(_ manifest: StoreManifest) throws {
    try directory.publish()
    lock.release()
  }

  func takeBack() {
    directory.removeParts()
    unsafe unlink(directory.lock)
    if isNew { unsafe rmdir(directory.path) }
    lock.release()
  }
}
