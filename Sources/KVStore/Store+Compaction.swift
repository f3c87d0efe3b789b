// Compaction: the index in a new file, on full pages, without those that are free. LMDB's file never shrinks by itself.
//
// Invariants
// - The new file is complete and durable before it takes the old one's name; until then the store is as it was.
// - Nobody has the index open when the names change: LMDB's lock file speaks of the file that was there.
// - Everything is copied but the free pages: what the log holds beyond the index stays in the log.

import Foundation
import KVLog
import LMDB

extension Store {
  /// Gives disk space that a store's index no longer uses back to the file system, by writing the index anew. Returns how
  /// many bytes smaller its file is.
  ///
  /// For a store that nobody has open: otherwise it throws `inUse`. It needs room for the new index beside the old one, and
  /// the memory of a fold. Should it be cut off, the store is as it was before or after. Worth it after very many
  /// deletions; an index that is written to reuses its free pages by itself.
  ///
  /// Blocks the calling thread; `progress` is called on it with the number of rows copied, and ends the compaction with
  /// what it throws. Throws ``StoreError``: `noStore`, `foreign`, `newerFormat`, `inUse`, `corrupt`, `full`, `notAllowed`,
  /// `system`.
  @discardableResult
  public static func compact(at path: String, progress: (Int) throws -> Void = { _ in }) throws -> Int {
    try withUnusedStore(at: path) { directory, manifest in
      try directory.checkParts(manifest)
      return try Compaction(directory: directory, identity: manifest.identity).run(progress)
    }
  }

  /// Runs `body` on a store that nobody writes; whether somebody reads it `body` has to find out.
  static func withUnusedStore<Result>(
    at path: String, _ body: (StoreDirectory, StoreManifest) throws -> Result
  ) throws -> Result {
    let directory = StoreDirectory(path: path)
    guard try directory.content() == .store else { throw noStore(path) }
    do {
      let lock = try StoreLock(directory.lock, store: path)
      defer { lock.release() }
      return try body(directory, try directory.readManifest())
    } catch {
      throw StoreError.published(error, path: path)
    }
  }
}

struct Compaction {
  let directory: StoreDirectory
  /// The store's.
  let identity: Identity

  static func name(in directory: StoreDirectory) -> String { directory.index + ".compact" }

  private var new: String { Compaction.name(in: directory) }

  /// Removes what a compaction that was cut off has left.
  static func tidy(_ directory: StoreDirectory) {
    unsafe unlink(name(in: directory))
    unsafe unlink(name(in: directory) + "-lock")
  }

  func run(_ progress: (Int) throws -> Void) throws -> Int {
    Compaction.tidy(directory)
    defer { Compaction.tidy(directory) }
    let before = byteCount
    try copy(progress)
    try replaceWhileUnused()
    return max(0, before - byteCount)
  }

  /// Puts an empty index in the place of one that is damaged.
  func replaceWithNothing() throws {
    Compaction.tidy(directory)
    defer { Compaction.tidy(directory) }
    do {
      let empty = try Index(path: new, readOnly: false, identity: identity)
      try empty.environment.synchronize()
    }
    try replaceWhileUnused()
  }

  private func copy(_ progress: (Int) throws -> Void) throws {
    let index = try Index(path: directory.index, readOnly: false, identity: identity)
    let source = try index.source()
    let state = try Index.state(source)
    let keys = try Index.liveKeys(source)
    let snapshot = Snapshot(sources: [source], start: StoreState(start: .zero), path: directory.path)
    var copier = IndexCopier(try Index(path: new, readOnly: false, identity: snapshot.home), snapshot)
    try copier.run(state, progress)
    guard copier.keys == keys else {
      throw StoreError(
        .corrupt, "\(copier.keys) keys have a value, but \(keys) are counted. Run `kvsync verify`.",
        path: directory.index)
    }
  }

  private func replaceWhileUnused() throws {
    let isUnused = try LMDBEnvironment.whileUnused(directory.index) { try replace() }
    guard isUnused else { throw Store.openElsewhere(directory.path) }
  }

  private func replace() throws(StoreError) {
    guard unsafe rename(new, directory.index) == 0 else {
      let number = errno
      throw StoreError(
        .init(errno: number), "cannot put the new index in place: \(describe(errno: number)).", path: directory.index)
    }
    try directory.synchronize(directory: directory.path)
  }

  private var byteCount: Int {
    var status = stat()
    return unsafe stat(directory.index, &status) == 0 ? Int(status.st_size) : 0
  }
}
