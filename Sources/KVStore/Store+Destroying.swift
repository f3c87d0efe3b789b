// Removing a store, and nothing else.
//
// Invariants
// - The manifest goes first, by becoming that of a creation that was cut off: from then on there is no store, whenever the
//   rest is interrupted, and what is left can be created over and destroyed again.
// - Only files that a store makes are removed. A directory goes when nothing is left in it.

import Foundation
import KVLog
import LMDB

extension Store {
  /// Removes the store at `path`, damaged or not, or what a creation, a backup or a removal that was cut off has left. Gives
  /// the paths of what lies in its directory and is not the store's: that is left, and the directory with it.
  ///
  /// Throws ``StoreError``: `noStore`, `foreign` (something else than a store, which is left as it is), `inUse` (open here or
  /// elsewhere, for writing or for reading), `notAllowed`, `system`. After an error in the middle it can be called again.
  @discardableResult
  public static func destroy(at path: String) throws -> [String] {
    let directory = StoreDirectory(path: path)
    let isStore = unsafe access(directory.manifest, F_OK) == 0
    if !isStore, unsafe access(directory.creating, F_OK) != 0 {
      _ = try directory.content()
      throw noStore(path)
    }
    do {
      let lock = try StoreLock(directory.lock, store: path)
      defer { lock.release() }
      let isUnused = try LMDBEnvironment.whileUnused(directory.index) { if isStore { try directory.unpublish() } }
      guard isUnused else { throw openElsewhere(path) }
      directory.removeFiles()
      return try directory.removeDirectory()
    } catch {
      throw StoreError.published(error, path: path)
    }
  }

  static func openElsewhere(_ path: String) -> StoreError {
    StoreError(.inUse, "the store is open for reading, here or elsewhere. Close it there first.", path: path)
  }
}

extension StoreDirectory {
  /// Makes the store one whose creation was cut off. Durable.
  fileprivate func unpublish() throws(StoreError) {
    guard unsafe rename(manifest, creating) == 0 else {
      let number = errno
      throw StoreError(.init(errno: number), "cannot remove the store: \(describe(errno: number)).", path: path)
    }
    try synchronize(directory: path)
  }

  /// Removes the store's files, but those that say that there was one.
  fileprivate func removeFiles() {
    let isSegment = { (name: String) in SegmentDirectory.isName(name) }
    for (folder, isOwn) in [
      (log, isSegment), (undelivered, isSegment), (tail, { $0 == Tail.sharedName || $0.hasPrefix("generation-") }),
    ] {
      for name in names(in: folder) where isOwn(name) { unsafe unlink("\(folder)/\(name)") }
      unsafe rmdir(folder)
    }
    for file in [index, Compaction.name(in: self)] {
      unsafe unlink(file)
      unsafe unlink(file + "-lock")
    }
    unsafe unlink(Reserve(self).path)
    for name in [Self.noteName, Self.newNoteName] { unsafe unlink("\(path)/\(name)") }
  }

  /// Removes what is left of the store, and the directory unless it holds anything else.
  fileprivate func removeDirectory() throws(StoreError) -> [String] {
    let own = Self.lockNames.union([(creating as NSString).lastPathComponent])
    var left: [String] = []
    for name in names(in: path) where !own.contains(name) {
      let inside = [log, undelivered, tail].contains("\(path)/\(name)") ? names(in: "\(path)/\(name)") : []
      left += inside.isEmpty ? ["\(path)/\(name)"] : inside.map { "\(path)/\(name)/\($0)" }
    }
    unsafe unlink(creating)
    for name in Self.lockNames { unsafe unlink("\(path)/\(name)") }
    if left.isEmpty, unsafe rmdir(path) != 0, errno != ENOENT, errno != EBUSY {
      let number = errno
      throw StoreError(
        .init(errno: number), "cannot remove the directory: \(describe(errno: number)).", path: path)
    }
    let above = URL(fileURLWithPath: path).deletingLastPathComponent().path
    let isGone = unsafe access(path, F_OK) != 0
    try synchronize(directory: isGone ? above : path)
    return left.sorted()
  }

  private func names(in folder: String) -> [String] {
    (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
  }
}
