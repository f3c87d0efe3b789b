// The real files, until a given step: then the process kills itself, in the middle of what it does, or the disk fails.

import Foundation
import KVLog
import Synchronization

final class DyingFileSystem: LogFileSystem {
  private let files = PosixFileSystem()
  private let remaining = Mutex<Int?>(nil)
  /// Synchronisations fail.
  let isBroken = Atomic(false)

  /// The process dies before its `steps`-th call from now on.
  func die(after steps: Int) { remaining.withLock { $0 = steps } }

  fileprivate func step() {
    let dies = remaining.withLock { remaining in
      guard let left = remaining else { return false }
      remaining = left - 1
      return left == 0
    }
    if dies { kill(getpid(), SIGKILL) }
  }

  func open(_ path: String, _ mode: LogFileMode) throws(SystemError) -> any LogFile {
    step()
    return File(try files.open(path, mode), self)
  }
  func list(_ directory: String) throws(SystemError) -> [String] { try files.list(directory) }
  func rename(_ path: String, to target: String) throws(SystemError) {
    step()
    try files.rename(path, to: target)
  }
  func unlink(_ path: String) throws(SystemError) {
    step()
    try files.unlink(path)
  }
  func synchronizeDirectory(_ path: String) throws(SystemError) {
    step()
    try files.synchronizeDirectory(path)
  }
  func makeDirectory(_ path: String) throws(SystemError) { try files.makeDirectory(path) }

  private final class File: LogFile {
    let file: any LogFile
    let system: DyingFileSystem

    init(_ file: any LogFile, _ system: DyingFileSystem) {
      self.file = file
      self.system = system
    }

    func read(into buffer: inout [UInt8], _ range: Range<Int>, at offset: UInt64) throws(SystemError) -> Int {
      try file.read(into: &buffer, range, at: offset)
    }
    func write(_ bytes: RawSpan, at offset: UInt64) throws(SystemError) {
      system.step()
      // A process can die between any two bytes.
      let half = bytes.byteCount / 2
      try file.write(bytes.extracting(0..<half), at: offset)
      system.step()
      try file.write(bytes.extracting(half..<bytes.byteCount), at: offset + UInt64(half))
    }
    func size() throws(SystemError) -> UInt64 { try file.size() }
    func truncate(to size: UInt64) throws(SystemError) {
      system.step()
      try file.truncate(to: size)
    }
    func synchronizeData() throws(SystemError) {
      system.step()
      if system.isBroken.load(ordering: .relaxed) { throw SystemError(code: EIO) }
      try file.synchronizeData()
    }
    func synchronizeAll() throws(SystemError) {
      system.step()
      try file.synchronizeAll()
    }
  }
}
