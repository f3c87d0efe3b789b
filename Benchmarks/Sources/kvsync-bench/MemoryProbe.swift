// Peak anonymous resident memory of a process: what it holds itself, without the pages of files that it maps.

import Foundation
import Synchronization

final class MemoryProbe: Sendable {
  private struct State {
    var peak = 0
    var isStopped = false
  }

  private let state = Mutex(State())
  private let process: Int32

  /// Samples `process` every 5 ms until `stop`.
  init(process: Int32) {
    self.process = process
    let thread = Thread { [self] in
      while !state.withLock({ $0.isStopped }) {
        sample()
        usleep(5_000)
      }
    }
    thread.start()
  }

  private func sample() {
    guard let bytes = MemoryProbe.anonymousBytes(of: process) else { return }
    state.withLock { $0.peak = max($0.peak, bytes) }
  }

  /// The peak in bytes.
  func stop() -> Int {
    sample()
    return state.withLock { state in
      state.isStopped = true
      return state.peak
    }
  }

  /// `RssAnon` of /proc; nil where there is none.
  static func anonymousBytes(of process: Int32) -> Int? {
    guard let status = try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8) else { return nil }
    for line in status.split(separator: "\n") where line.hasPrefix("RssAnon:") {
      return line.split(separator: " ").dropFirst().first.flatMap { Int($0) }.map { $0 * 1024 }
    }
    return nil
  }
}
