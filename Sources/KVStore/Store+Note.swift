// What the process that replicates leaves for others to read: a few words, opaque to the store.
//
// Invariants
// - A reader finds one note whole, or none: it is written beside the old one and takes its name. It is not synchronised:
//   a loss of power may take it, and its checksum says so.
// - A note says which process left it; whether that one still replicates is known from the lease.
//
// grammar (little-endian)
//   note = magic u64 | checksum u64 of what follows | process u32 | zero u32 | bytes

import Foundation
import KVLog

extension StoreDirectory {
  static let noteName = "replication"
  /// On its way to become the note.
  static let newNoteName = noteName + ".new"
}

extension Store {
  /// A note as it was found.
  package struct Note: Sendable, Equatable {
    package var bytes: [UInt8]
    /// Who left it.
    package var process: Int32
    /// Whether that process has the lease still, and lives.
    package var isCurrent: Bool
  }

  private static var noteMagic: UInt64 { 0x0001_4554_4F4E_564B }
  /// Far above any note; what is longer is none.
  private static var largestNote: Int { 64 << 10 }

  /// Leaves a note in place of the one before. Blocks for as long as writing a small file takes. Throws ``StoreError``.
  package func leaveNote(_ bytes: [UInt8]) throws {
    guard case .writable(let core) = try backing() else { return }
    var body: [UInt8] = []
    body.append(littleEndian: UInt32(bitPattern: core.process))
    body.append(littleEndian: UInt32(0))
    body.append(contentsOf: bytes)
    var note: [UInt8] = []
    note.append(littleEndian: Self.noteMagic)
    note.append(littleEndian: checksum64(body.bytes))
    note.append(contentsOf: body)
    let directory = StoreDirectory(path: path)
    let fresh = "\(path)/\(StoreDirectory.newNoteName)"
    try directory.replace("\(path)/\(StoreDirectory.noteName)", with: note, by: fresh)
  }

  /// The note that was left last; nil when there is none, or when it is damaged.
  package func note() -> Note? {
    guard let data = FileManager.default.contents(atPath: "\(path)/\(StoreDirectory.noteName)"),
      data.count <= Self.largestNote, let note = try? Self.parse([UInt8](data))
    else { return nil }
    return Note(bytes: note.bytes, process: note.process, isCurrent: replicatingProcess == note.process)
  }

  private static func parse(_ data: [UInt8]) throws(LogFormatError) -> (process: Int32, bytes: [UInt8]) {
    let span = data.bytes
    var reader = ByteReader()
    guard try reader.read(UInt64.self, from: span) == noteMagic else { throw LogFormatError(.badValue, at: 0) }
    let checksum = try reader.read(UInt64.self, from: span)
    guard checksum64(span.extracting(reader.offset..<span.byteCount)) == checksum else {
      throw LogFormatError(.badValue, at: 8)
    }
    let process = Int32(bitPattern: try reader.read(UInt32.self, from: span))
    guard try reader.read(UInt32.self, from: span) == 0 else { throw LogFormatError(.notZero, at: 20) }
    return (process, Array(data[reader.offset...]))
  }

  /// The process that has the lease to replicate, if it has shown lately that it is alive; nil: none.
  package var replicatingProcess: Int32? {
    let memory: SharedMemory? =
      switch try? backing() {
      case .writable(let core): core.memory
      case .readOnly(let store): store.memory
      case nil: nil
      }
    guard let lease = memory?.lease, let process = lease.process, kill(process, 0) == 0 || errno == EPERM,
      monotonicMilliseconds() < lease.time + StoreLimits.leaseMilliseconds
    else { return nil }
    return process
  }
}

extension StoreDirectory {
  /// Gives `file` other bytes, at once.
  func replace(
    _ file: String, with bytes: [UInt8], by fresh: String, durably: Bool = false
  ) throws(StoreError) {
    let descriptor = unsafe open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o640)
    let written =
      descriptor < 0
      ? -1 : unsafe bytes.withUnsafeBytes { unsafe Foundation.write(descriptor, $0.baseAddress, $0.count) }
    let isWhole = written == bytes.count && (!durably || fsync(descriptor) == 0)
    let number = errno
    if descriptor >= 0 { Foundation.close(descriptor) }
    guard isWhole, unsafe rename(fresh, file) == 0 else {
      throw StoreError(.init(errno: number), "cannot write it: \(describe(errno: number)).", path: file)
    }
    if durably { try synchronize(directory: path) }
  }
}
