// Starts `StoreProcess` and talks to it.

import Foundation
import Synchronization
import Testing

/// A process that uses a store. Its lines are read as they come, so that it never waits for this one.
final class ChildProcess: Sendable {
  private let process: Process
  private let input = Pipe()
  private let lines = Mutex<[String]>([])
  private let hasEnded = Mutex(false)

  /// `environment` is added to that of this process.
  init(_ arguments: String..., environment: [String: String] = [:]) throws {
    process = Process()
    process.executableURL = try ChildProcess.executable()
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    let output = Pipe()
    process.standardOutput = output
    process.standardInput = input
    try process.run()
    let handle = output.fileHandleForReading
    Thread.detachNewThread { [self] in
      var rest = Data()
      while case let data = handle.availableData, !data.isEmpty {
        rest.append(data)
        while let end = rest.firstIndex(of: 0x0A) {
          let line = String(decoding: rest[rest.startIndex..<end], as: UTF8.self)
          lines.withLock { $0.append(line) }
          rest = Data(rest[rest.index(after: end)...])
        }
      }
      hasEnded.withLock { $0 = true }
    }
  }

  /// Products lie beside the bundle of the tests.
  static func executable() throws -> URL {
    var folder = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
    while !FileManager.default.isExecutableFile(atPath: folder.appending(path: "StoreProcess").path) {
      let above = folder.deletingLastPathComponent()
      try #require(above.path != folder.path, "StoreProcess lies beside the tests")
      folder = above
    }
    return folder.appending(path: "StoreProcess")
  }

  deinit { if process.isRunning { signal(SIGKILL) } }

  var identifier: Int32 { process.processIdentifier }

  func send(_ line: String) throws { try input.fileHandleForWriting.write(contentsOf: Data((line + "\n").utf8)) }
  func endInput() throws { try input.fileHandleForWriting.close() }

  func signal(_ number: Int32) { Foundation.kill(process.processIdentifier, number) }

  /// Kills it, without warning; everything that it had said is in `takeLines` when this returns.
  func kill() async {
    signal(SIGKILL)
    while !hasEnded.withLock({ $0 }) || process.isRunning { try? await Task.sleep(for: .milliseconds(1)) }
  }

  func takeLines() -> [String] {
    lines.withLock { lines in
      defer { lines = [] }
      return lines
    }
  }

  /// The next line; fails after `seconds`.
  func line(within seconds: Double = 20) async throws -> String {
    let deadline = Date(timeIntervalSinceNow: seconds)
    while Date() < deadline {
      if let line = lines.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) { return line }
      if hasEnded.withLock({ $0 }), lines.withLock({ $0.isEmpty }) { break }
      // No thread of the pool is held: other tests need them.
      try await Task.sleep(for: .microseconds(500))
    }
    throw Silence(process: process.arguments?.joined(separator: " ") ?? "")
  }

  struct Silence: Error { let process: String }
}
