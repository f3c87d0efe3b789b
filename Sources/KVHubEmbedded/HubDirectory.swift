// A hub's directory: what lies where, how it is made, and how anything else that may be at the path is refused.
//
//   kvsync-hub      marker: one line, "kvsync hub 1"; the number is the format
//   lock            held by the process that serves the directory
//   spaces/NAME/    one store for each space
//   owners/NAME     whose the replicas of a space are; ReplicaOwnersFile.swift
//   tokens          the tokens, hashed; HubTokens.swift
//   tokens.lock     held by whoever changes them
//
// Invariants:
// - The marker is written last and renamed into place: a directory that has it is complete.
// - Nothing is written into a directory that is neither empty nor a hub's.

import Foundation
import KVStore

struct HubDirectory {
  static let format = 1
  private static let marker = "kvsync-hub"
  private static let markerPrefix = "kvsync hub "

  let path: String

  func space(_ name: String) -> String { "\(path)/spaces/\(name)" }
  var owners: String { "\(path)/owners" }
  var tokens: String { "\(path)/tokens" }

  /// Makes the directory, unless it is there already, served or not.
  func makeIfMissing() throws(StoreError) {
    guard try !holdsHub() else { return }
    try open().release()
  }

  /// Makes or checks the directory; gives the lock that keeps other processes away.
  func open() throws(StoreError) -> StoreLock {
    let isNew = try !holdsHub()
    if isNew { try make(path) }
    let lock: StoreLock
    do {
      lock = try StoreLock("\(path)/lock", store: path)
    } catch  where error.code == .inUse {
      throw StoreError(
        .inUse, "another process serves this hub. End it first, or choose another directory.", path: path)
    }
    if isNew {
      try make("\(path)/spaces")
      try writeMarker()
    }
    return lock
  }

  /// Whether the space's store is there; a creation that was cut off is none.
  func hasSpace(_ name: String) -> Bool {
    FileManager.default.fileExists(atPath: "\(space(name))/\(StoreManifest.name)")
  }

  /// The names of the spaces; nil when this is not a hub's directory.
  func spaceNames() -> [String]? {
    guard FileManager.default.fileExists(atPath: "\(path)/\(Self.marker)") else { return nil }
    return ((try? FileManager.default.contentsOfDirectory(atPath: "\(path)/spaces")) ?? []).filter(hasSpace).sorted()
  }

  /// Whether the marker is there; throws when something else is.
  private func holdsHub() throws(StoreError) -> Bool {
    if let data = FileManager.default.contents(atPath: "\(path)/\(Self.marker)") {
      let text = String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
      guard text.hasPrefix(Self.markerPrefix), let format = Int(text.dropFirst(Self.markerPrefix.count)) else {
        throw StoreError(.corrupt, "the marker is damaged. It reads \"kvsync hub 1\" in an undamaged hub.", path: path)
      }
      guard format <= Self.format else {
        throw StoreError(
          .newerFormat, "the hub has format \(format), this kvsync knows \(Self.format). Upgrade kvsync.", path: path)
      }
      return true
    }
    var isDirectory: ObjCBool = false
    guard unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else { return false }
    guard isDirectory.boolValue else {
      throw StoreError(.foreign, "this is a file; a hub is a directory. Choose another path.", path: path)
    }
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: path) else {
      throw StoreError(.notAllowed, "the directory cannot be read. Check its permissions.", path: path)
    }
    // What a creation that was cut off leaves behind.
    guard Set(names).isSubset(of: ["lock", "spaces", Self.marker + ".new"]), isVacant("\(path)/spaces") else {
      throw StoreError(
        .foreign, "this directory is not a kvsync hub and is not empty. Choose another path.", path: path)
    }
    return false
  }

  private func isVacant(_ directory: String) -> Bool {
    (try? FileManager.default.contentsOfDirectory(atPath: directory))?.isEmpty ?? true
  }

  private func make(_ directory: String) throws(StoreError) {
    guard unsafe mkdir(directory, 0o750) == 0 || errno == EEXIST else { throw StoreError.creating(directory, errno) }
  }

  private func writeMarker() throws(StoreError) {
    try replace("\(path)/\(Self.marker)", with: Data("\(Self.markerPrefix)\(Self.format)\n".utf8), mode: 0o640)
  }

  /// Puts a file into place, durably, in one step.
  func replace(_ file: String, with contents: Data, mode: Int) throws(StoreError) {
    let new = file + ".new"
    guard
      FileManager.default.createFile(atPath: new, contents: contents, attributes: [.posixPermissions: mode]),
      synchronize(new), unsafe rename(new, file) == 0, synchronize(path)
    else {
      let code: StoreError.Code = errno == ENOSPC || errno == EDQUOT ? .full : .system
      throw StoreError(code, "cannot write the file. Check space and permissions.", path: file)
    }
  }

  private func synchronize(_ file: String) -> Bool {
    let descriptor = unsafe Foundation.open(file, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    return fsync(descriptor) == 0
  }
}
