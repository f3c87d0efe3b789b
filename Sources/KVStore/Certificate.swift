// What a sealed generation of the tail may have beside it: a small file which says that it is durable, and between which
// states of the store it lies. With it the generation survives the end of all processes; without it, it is scratch that
// the log makes anew.
//
//   certificate = capacity u64 | state before | state after | checksum u64         sealed (see `Sealed`) under the file's name
//
// Invariants
// - It is made durable after the generation, under its final name, and removed before it.
// - A generation counts only where the states join: the index's, or that of the certified generation before it, is the
//   state before, and its own counters are the state after.

import Foundation
import KVLog

struct Certificate {
  let number: UInt32
  let capacity: Int
  let before: StoreState
  let after: StoreState

  fileprivate static let suffix = "-durable"

  static func path(ofGenerationAt path: String) -> String { path + suffix }

  static func remove(ofGenerationAt path: String) { unsafe unlink(path + suffix) }

  /// Writes the file, durably.
  func write(forGenerationAt generation: String) throws(SystemError) {
    let path = generation + Certificate.suffix
    var bytes: [UInt8] = []
    bytes.append(littleEndian: UInt64(capacity))
    bytes += before.encoded()
    bytes += after.encoded()
    bytes.append(littleEndian: Sealed.checksum(bytes.bytes, key: Certificate.key(number).bytes))
    let files = PosixFileSystem()
    let file = try files.open(path + ".new", .create)
    try file.write(bytes.bytes, at: 0)
    try file.synchronizeAll()
    try files.rename(path + ".new", to: path)
    try files.synchronizeDirectory(Certificate.directory(of: path))
  }

  /// Those that follow each other from `state` on.
  static func chain(in directory: String, prefix: String, after state: StoreState) -> [Certificate] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
    let numbers = names.compactMap { Tail.number(ofFile: $0, suffix: suffix) }.sorted()
    var chain: [Certificate] = []
    for number in numbers {
      guard let next = Certificate(ofGeneration: number, at: Tail.path(prefix, number)) else { continue }
      guard next.before == (chain.last?.after ?? state), chain.last.map({ $0.number + 1 == number }) ?? true else {
        continue
      }
      chain.append(next)
    }
    return chain
  }

  fileprivate static func key(_ number: UInt32) -> [UInt8] { [UInt8]("generation \(number)".utf8) }

  private static func directory(of path: String) -> String {
    path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
  }
}

extension Certificate {
  /// Reads the file; nil when there is none, or none that can be believed.
  init?(ofGeneration number: UInt32, at generation: String) {
    guard let data = FileManager.default.contents(atPath: generation + Certificate.suffix) else { return nil }
    let bytes = [UInt8](data)
    let key = Certificate.key(number)
    guard let count = try? Sealed.payloadBytes(bytes.bytes, key: key.bytes, path: generation) else { return nil }
    let stateBytes = (count - 8) / 2
    guard stateBytes > 0 else { return nil }
    let first = bytes.bytes.extracting(8..<8 + stateBytes)
    let second = bytes.bytes.extracting(8 + stateBytes..<count)
    guard let before = try? StoreState(decoding: first), let after = try? StoreState(decoding: second),
      before.position.precedes(after.position)
    else { return nil }
    self.number = number
    self.before = before
    self.after = after
    capacity = Int(clamping: bytes.bytes.load(UInt64.self, at: 0))
  }
}
