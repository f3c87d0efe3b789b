// Whose the replicas of a space are, in a file: one line each, the replica's identity and its principal.
//
//     7f3e…32 digits…0a alice
//
// Invariants:
// - A line is durable before anybody is told of it. Lines are only ever added; one that a crash cut off was never told, and
//   is cut off when the next one is added.

import Foundation
import KVHub
import KVLog
import Synchronization

final class ReplicaOwnersFile: Sendable {
  private struct State {
    var owners = ReplicaOwners()
    var isRead = false
    /// Where the next line goes.
    var bytes = 0
  }

  private let directory: String
  private let path: String
  private let state = Mutex(State())

  init(_ directory: String, space: String) {
    self.directory = directory
    path = "\(directory)/\(space)"
  }

  func claim(_ replica: Identity, by principal: String?) throws -> String? {
    try state.withLock { state in
      if !state.isRead { try read(&state) }
      let (owner, isNew) = try state.owners.claim(replica, by: principal)
      guard isNew, let owner else { return owner }
      let line = Array("\(replica) \(owner)\n".utf8)
      do {
        try append(line, at: state.bytes)
      } catch {
        state.owners.forget(replica)
        throw error
      }
      state.bytes += line.count
      return owner
    }
  }

  private func read(_ state: inout State) throws {
    var owners = ReplicaOwners()
    let text: Data
    do {
      text = try Data(contentsOf: URL(fileURLWithPath: path))
    } catch CocoaError.fileReadNoSuchFile {
      text = Data()
    }
    let whole = text.lastIndex(of: UInt8(ascii: "\n")).map { text[...$0] } ?? Data()
    for line in whole.split(separator: UInt8(ascii: "\n")) {
      let words = String(decoding: line, as: UTF8.self).split(separator: " ", maxSplits: 1)
      guard words.count == 2, let replica = Identity(String(words[0])) else {
        throw HubStorageError.corrupt("the list of whose the replicas are is damaged.")
      }
      _ = try owners.claim(replica, by: String(words[1]))
    }
    state.owners = owners
    state.isRead = true
    state.bytes = whole.count
  }

  private func append(_ line: [UInt8], at offset: Int) throws {
    let isNew = offset == 0
    if isNew { try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true) }
    let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o640)
    guard descriptor >= 0 else { throw HubStorageError.failed("a replica's owner cannot be written down") }
    defer { close(descriptor) }
    let written = unsafe line.withUnsafeBytes { unsafe pwrite(descriptor, $0.baseAddress, $0.count, off_t(offset)) }
    guard written == line.count, ftruncate(descriptor, off_t(offset + line.count)) == 0, fsync(descriptor) == 0,
      !isNew || Self.synchronize(directory)
    else {
      let isFull = errno == ENOSPC || errno == EDQUOT
      throw isFull
        ? HubStorageError.full("no room to write down whose a replica is.")
        : HubStorageError.failed("a replica's owner cannot be written down")
    }
  }

  private static func synchronize(_ directory: String) -> Bool {
    let descriptor = unsafe open(directory, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    return fsync(descriptor) == 0
  }
}
