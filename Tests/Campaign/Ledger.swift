// What a replica's process was told by its store, kept beside the store in a file that outlives the process.
//
//   ledger = *line
//   line   = "begin" N | "done" N | "found" N | "lost" N | "wrong" WORDS
//     begin: the transaction is about to be written. done: it was acknowledged.
//     found, lost: it was under way when the process was killed, and was found after that, or was not.
//     wrong: what must not be.
//
// Invariant: a line is durable before what it announces happens, and before anybody is told what it says.

import Foundation

final class Ledger: Sendable {
  let path: String
  private let descriptor: Int32

  struct CannotWrite: Error {
    var number: Int32
  }

  init(_ path: String) throws {
    self.path = path
    descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw CannotWrite(number: errno) }
  }

  deinit { close(descriptor) }

  func write(_ line: String) throws {
    let bytes = Array((line + "\n").utf8)
    let count = unsafe bytes.withUnsafeBytes { unsafe Foundation.write(descriptor, $0.baseAddress, $0.count) }
    guard count == bytes.count, fsync(descriptor) == 0 else { throw CannotWrite(number: errno) }
  }

  /// What a ledger says.
  struct Contents {
    /// Acknowledged, or found to be there after a kill.
    var done: Set<Int> = []
    /// Begun, and the process did not come to say how it ended.
    var open: Int?
    /// Were under way when the process was killed.
    var found = 0
    var lost = 0
    var last = 0
    var wrong: [String] = []

    init(_ path: String) {
      let text = FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) } ?? ""
      for line in text.split(separator: "\n") {
        let parts = line.split(separator: " ", maxSplits: 1).map(String.init)
        guard parts.count == 2 else { continue }
        let number = Int(parts[1]) ?? 0
        switch parts[0] {
        case "begin": (open, last) = (number, number)
        case "done": (_, open) = (done.insert(number), nil)
        case "found": (_, open, found) = (done.insert(number), nil, found + 1)
        case "lost": (open, lost) = (nil, lost + 1)
        default: wrong.append(String(line))
        }
      }
    }
  }
}
