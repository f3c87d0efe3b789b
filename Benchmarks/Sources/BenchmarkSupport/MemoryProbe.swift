// Peak anonymous resident memory of a process: what it holds itself, without the pages of files that it maps.

import Foundation
import Synchronization

public final class MemoryProbe: Sendable {
  private struct State {
    var peak = 0
    var isStopped = false
  }

  private let state = Mutex(State())
  private let process: Int32

  /// Samples this process.
  public convenience init() { self.init(process: getpid()) }

  /// Samples `process` every 5 ms until `stop`.
  public init(process: Int32) {
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

  /// The peak so far, in bytes.
  public func peak() -> Int {
    sample()
    return state.withLock { $0.peak }
  }

  /// The peak in bytes; ends the sampling.
  public func stop() -> Int {
    defer { state.withLock { $0.isStopped = true } }
    return peak()
  }

  /// `RssAnon`: what /proc counts as resident, less the pages of files and of shared memory; nil where there is no /proc.
  ///
  /// One short read of `statm`, because this runs beside what is being measured.
  public static func anonymousBytes(of process: Int32) -> Int? {
    let file = unsafe open("/proc/\(process)/statm", O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    let text = unsafe String(unsafeUninitializedCapacity: 128) { unsafe max(0, read(file, $0.baseAddress, $0.count)) }
    let pages = text.split(separator: " ").prefix(3).compactMap { Int($0) }
    guard pages.count == 3 else { return nil }
    return (pages[1] - pages[2]) * Int(getpagesize())
  }
}
