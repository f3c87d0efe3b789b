// A process that says lines on its standard output, and is told lines.

import Foundation
import Synchronization
import TestSupport

final class Talker: Sendable {
  struct Silent: Error, CustomStringConvertible {
    var description: String
  }

  private struct State {
    var lines: [String] = []
    var isAtEnd = false
  }

  let name: String
  private let process: ChildProcess
  private let state = Mutex(State())

  init(_ name: String, _ path: String, _ arguments: [String], errorFile: String) throws {
    self.name = name
    process = try ChildProcess(path, arguments, errorFile: errorFile)
    Thread.detachNewThread { [self, process] in
      var rest: [UInt8] = []
      while case let some = process.readSome(), !some.isEmpty {
        rest += some
        while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
          let line = String(decoding: rest[..<end], as: UTF8.self)
          rest.removeSubrange(...end)
          state.withLock { $0.lines.append(line) }
        }
      }
      state.withLock { $0.isAtEnd = true }
    }
  }

  /// Whether it has ended: by itself, unless it was killed or told to.
  var hasEnded: Bool { state.withLock { $0.isAtEnd } }

  var messages: String { String(process.messages.suffix(2_000)) }

  func tell(_ line: String) { process.write(Array((line + "\n").utf8)) }

  /// The next line that begins with a word; the words after that.
  func next(_ word: String, within seconds: Double) throws -> [String] {
    let deadline = ContinuousClock.now + .seconds(seconds)
    while true {
      let (line, isAtEnd) = state.withLock { state in
        (state.lines.isEmpty ? nil : state.lines.removeFirst(), state.isAtEnd)
      }
      if let line {
        let words = line.split(separator: " ").map(String.init)
        if words.first == word { return Array(words.dropFirst()) }
        continue
      }
      guard !isAtEnd else { throw Silent(description: "\(name) ended before it said \"\(word)\": \(messages)") }
      guard ContinuousClock.now < deadline else {
        throw Silent(description: "\(name) did not say \"\(word)\" within \(seconds) s: \(messages)")
      }
      usleep(1_000)
    }
  }

  func signal(_ number: Int32) { process.kill(number) }

  /// Ends it with a signal; its exit status.
  @discardableResult
  func end(_ signal: Int32) -> Int32 {
    process.kill(signal)
    return process.waitBlocking().status
  }

  func wait() -> Int32 { process.waitBlocking().status }
}
