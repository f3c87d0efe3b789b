// A store's directory: what lies where, how it is created so that a crash leaves either no store or a whole one, and
// how anything else that may be at the path is refused.
//
//   kvsync.store   manifest                 log/     segments of the replication log
//   lock*          locks, empty files       tail/    scratch: generations, and what processes share
//   index.mdb      the index                reserve  space for making room on a full disk
//   replication    what the process that replicates leaves for others
//   announced      which of its versions a backup covers; of a hub's space
//   undelivered/   in place of log/ in a backup: the source's log that its hub had not decided

import Foundation
import KVLog
import LMDB

struct StoreDirectory {
  let path: String

  var manifest: String { "\(path)/\(StoreManifest.name)" }
  var lock: String { "\(path)/lock" }
  var index: String { "\(path)/\(Index.name)" }
  var log: String { "\(path)/log" }
  var tail: String { "\(path)/tail" }
  var undelivered: String { "\(path)/undelivered" }
  var creating: String { "\(path)/\(StoreManifest.creating)" }

  func log(of manifest: StoreManifest) -> String { manifest.backup == nil ? log : undelivered }

  static let lockNames: Set<String> = ["lock", "lock.opening", "lock.writing", "lock.folding"]
  static let ownNames = lockNames.union([
    "log", "tail", "undelivered", Index.name, Index.name + "-lock", Index.name + ".compact",
    Index.name + ".compact-lock", StoreManifest.creating, Reserve.name, noteName, newNoteName, announcementName,
    newAnnouncementName,
  ])

  enum Content {
    case store
    /// Nothing there, an empty directory, or a creation that was cut off.
    case vacant
  }

  /// Looks without changing anything; throws when the path holds something else.
  func content() throws(StoreError) -> Content {
    var information = stat()
    guard unsafe stat(path, &information) == 0 else {
      let number = errno
      if number == ENOENT { return .vacant }
      throw StoreError(.init(errno: number), "cannot look at the store: \(describe(errno: number)).", path: path)
    }
    guard information.st_mode & S_IFMT == S_IFDIR else {
      throw StoreError(.foreign, "this is a file; a store is a directory. Choose another path.", path: path)
    }
    if unsafe access(manifest, F_OK) == 0 { return .store }
    guard errno == ENOENT, let names = try? FileManager.default.contentsOfDirectory(atPath: path) else {
      throw StoreError(.notAllowed, "the directory cannot be read. Check its permissions.", path: path)
    }
    // The locks are taken before the first file is written.
    if names.allSatisfy(Self.lockNames.contains) { return .vacant }
    if names.contains(StoreManifest.creating), names.allSatisfy(Self.ownNames.contains) { return .vacant }
    throw StoreError(
      .foreign, "this directory is not a kvsync store and is not empty. Choose another path.", path: path)
  }

  func readManifest() throws(StoreError) -> StoreManifest {
    guard let data = FileManager.default.contents(atPath: manifest) else {
      let number = errno
      throw StoreError(.init(errno: number), "cannot read the manifest: \(describe(errno: number)).", path: manifest)
    }
    return try StoreManifest.decode(String(decoding: data, as: UTF8.self), path: manifest)
  }

  /// A store whose index or log has gone is damaged, and must not be taken for a new one.
  func checkParts(_ manifest: StoreManifest) throws(StoreError) {
    for part in [index, log(of: manifest)] {
      var information = stat()
      let isMissing = unsafe stat(part, &information) != 0 && errno == ENOENT
      if isMissing || (information.st_mode & S_IFMT == S_IFREG && information.st_size == 0) {
        throw StoreError(
          .corrupt,
          "this part of the store is \(isMissing ? "missing" : "empty"). Restore it from a backup, or synchronise anew.",
          path: part)
      }
    }
  }

  /// Makes the directory, so that it can be locked.
  func make() throws(StoreError) {
    guard unsafe mkdir(path, 0o750) == 0 || errno == EEXIST else {
      throw StoreError.creating(path, errno)
    }
  }

  /// Creates an empty store; the caller holds the lock. Durable, the manifest last.
  func create(log configuration: (StoreManifest) -> LogConfiguration) throws -> StoreManifest {
    removeParts()
    let manifest = StoreManifest.random()
    try write(manifest.encoded(), to: creating)
    _ = try ReplicationLog.create(configuration(manifest))
    do {
      let index = try Index(path: index, readOnly: false, identity: manifest.identity)
      try index.environment.synchronize()
    }
    try publish()
    return manifest
  }

  /// Removes what a creation that was cut off has left; the caller holds the lock.
  func removeParts() {
    for name in Self.ownNames.subtracting(Self.lockNames) {
      try? FileManager.default.removeItem(atPath: "\(path)/\(name)")
    }
  }

  /// Makes the directory a store, or another one than it was: gives the manifest that is ready its name, once everything
  /// else has its own. Durable.
  func publish() throws(StoreError) {
    try synchronize(directory: path)
    guard unsafe rename(creating, self.manifest) == 0 else {
      let number = errno
      throw StoreError(.init(errno: number), "cannot finish the store: \(describe(errno: number)).", path: path)
    }
    try synchronize(directory: path)
    try synchronize(directory: "\(path)/..")
  }

  func write(_ text: String, to file: String) throws(StoreError) {
    let descriptor = unsafe open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o640)
    defer { if descriptor >= 0 { Foundation.close(descriptor) } }
    let bytes = [UInt8](text.utf8)
    let written =
      descriptor < 0
      ? -1 : unsafe bytes.withUnsafeBytes { unsafe Foundation.write(descriptor, $0.baseAddress, $0.count) }
    guard written == bytes.count, fsync(descriptor) == 0 else {
      let number = errno
      throw StoreError(.init(errno: number), "cannot write the manifest: \(describe(errno: number)).", path: file)
    }
  }

  func synchronize(directory: String) throws(StoreError) {
    let descriptor = unsafe open(directory, O_RDONLY | O_CLOEXEC)
    defer { if descriptor >= 0 { Foundation.close(descriptor) } }
    guard descriptor >= 0, fsync(descriptor) == 0 else {
      let number = errno
      throw StoreError(
        .init(errno: number), "cannot make the directory durable: \(describe(errno: number)).", path: directory)
    }
  }
}
