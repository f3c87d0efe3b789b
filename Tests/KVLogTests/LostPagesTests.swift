// A synchronisation that failed: the kernel has told of the lost pages, once, and the next one would succeed without them.

import Foundation
import KVLog
import Synchronization
import TestSupport
import Testing

@Suite struct LostPagesTests {
  enum Call: CaseIterable { case synchronize, synchronizeAside }

  private func run(_ call: Call, _ log: ReplicationLog) throws {
    switch call {
    case .synchronize: try log.synchronize()
    case .synchronizeAside: _ = try log.synchronizeAside()
    }
  }

  @Test(
    "After a synchronisation has failed none succeeds any more, whoever asks",
    arguments: Call.allCases, Call.allCases)
  func oneAfterTheOther(first: Call, second: Call) throws {
    let files = SimulatedFileSystem()
    let log = try ReplicationLog.create(smallLog(files))
    try log.write { $0.put("key", [1]) }
    var builder = BlockBuilder(after: log.end)
    builder.put("key", [2])
    try log.append(&builder)
    files.failSynchronizations(1)
    #expect(throws: LogError.self) { try run(first, log) }
    let durable = log.synchronizedThrough
    #expect(throws: LogError.self) { try run(second, log) }
    #expect(log.synchronizedThrough == durable)
  }

  @Test(
    "Of two synchronisations at the same time none succeeds when one fails",
    arguments: Call.allCases, Call.allCases)
  func atTheSameTime(first: Call, second: Call) throws {
    let files = SlowFileSystem()
    let log = try ReplicationLog.create(smallLog(files))
    var builder = BlockBuilder(after: log.end)
    builder.put("key", [1])
    try log.append(&builder)
    files.holdAndFail()
    let failures = Mutex<[Bool]>([])
    let group = DispatchGroup()
    func start(_ call: Call, appending: Bool) {
      group.enter()
      Thread.detachNewThread {
        defer { group.leave() }
        let result = Result {
          if appending {
            var builder = BlockBuilder(after: log.end)
            builder.put("key", [2])
            try log.append(&builder)
          }
          try run(call, log)
        }
        failures.withLock { $0.append((try? result.get()) == nil) }
      }
    }
    start(first, appending: false)
    while !files.isHeld { usleep(1_000) }
    // Blocks can be appended while the log is synchronised aside.
    start(second, appending: first == .synchronizeAside)
    usleep(50_000)
    files.release()
    group.wait()
    #expect(failures.withLock { $0 } == [true, true])
  }
}

/// Synchronisations succeed, but for one that takes as long as it is held and then fails.
private final class SlowFileSystem: LogFileSystem {
  private struct State {
    var holdsNext = false
    var isHeld = false
  }

  private let files = SimulatedFileSystem()
  private let state = Mutex(State())

  var isHeld: Bool { state.withLock { $0.isHeld } }
  func holdAndFail() { state.withLock { $0.holdsNext = true } }
  func release() { state.withLock { $0.isHeld = false } }

  fileprivate func pass() throws(SystemError) {
    let isTheOne = state.withLock { state in
      defer { state.holdsNext = false }
      if state.holdsNext { state.isHeld = true }
      return state.holdsNext
    }
    guard isTheOne else { return }
    while isHeld { usleep(1_000) }
    throw SystemError(code: EIO)
  }

  func open(_ path: String, _ mode: LogFileMode) throws(SystemError) -> any LogFile {
    SlowFile(file: try files.open(path, mode), files: self)
  }
  func list(_ directory: String) throws(SystemError) -> [String] { try files.list(directory) }
  func rename(_ path: String, to target: String) throws(SystemError) { try files.rename(path, to: target) }
  func unlink(_ path: String) throws(SystemError) { try files.unlink(path) }
  func synchronizeDirectory(_ path: String) throws(SystemError) { try files.synchronizeDirectory(path) }
  func makeDirectory(_ path: String) throws(SystemError) { try files.makeDirectory(path) }
}

private final class SlowFile: LogFile {
  let file: any LogFile
  let files: SlowFileSystem

  init(file: any LogFile, files: SlowFileSystem) {
    self.file = file
    self.files = files
  }

  func read(into buffer: inout [UInt8], _ range: Range<Int>, at offset: UInt64) throws(SystemError) -> Int {
    try file.read(into: &buffer, range, at: offset)
  }
  func write(_ bytes: RawSpan, at offset: UInt64) throws(SystemError) { try file.write(bytes, at: offset) }
  func size() throws(SystemError) -> UInt64 { try file.size() }
  func truncate(to size: UInt64) throws(SystemError) { try file.truncate(to: size) }
  func synchronizeData() throws(SystemError) {
    try files.pass()
    try file.synchronizeData()
  }
  func synchronizeAll() throws(SystemError) { try file.synchronizeAll() }
}
