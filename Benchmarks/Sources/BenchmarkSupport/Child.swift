// A process of this same program: its memory is its own, and it may be killed.

import Foundation
import Synchronization

public final class Child {
  private static let running = Mutex<Set<Int32>>([])

  private let child = Process()
  private let output = Pipe()
  private var buffer = Data()

  /// Starts it. `environment` is added to this process's own.
  public init(_ arguments: [String], environment: [String: String] = [:]) throws {
    child.executableURL = URL(fileURLWithPath: CommandLine.arguments[0])
    if !FileManager.default.isExecutableFile(atPath: CommandLine.arguments[0]) {
      child.executableURL = URL(fileURLWithPath: "/proc/self/exe")
    }
    child.arguments = arguments
    child.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    child.standardOutput = output
    try child.run()
    Child.running.withLock { _ = $0.insert(process) }
  }

  /// Kills those that still run: they must not outlive this process.
  public static func killAll() {
    running.withLock { running in
      for process in running { kill(process, SIGKILL) }
    }
  }

  public var process: Int32 { child.processIdentifier }

  /// The next line that it prints; nil at the end of what it prints.
  public func nextLine() -> String? {
    while true {
      if let end = buffer.firstIndex(of: UInt8(ascii: "\n")) {
        let line = String(decoding: buffer[buffer.startIndex..<end], as: UTF8.self)
        buffer = Data(buffer[buffer.index(after: end)...])
        return line
      }
      let more = output.fileHandleForReading.availableData
      if more.isEmpty { return nil }
      buffer.append(more)
    }
  }

  /// The next line that it prints; an end instead is an error.
  public func line() throws -> String {
    guard let line = nextLine() else { throw BenchmarkError("a child process \(outcome())") }
    return line
  }

  /// Waits for its end and says how it ended.
  public func outcome() -> String {
    waitForEnd()
    return child.terminationReason == .uncaughtSignal
      ? "was ended by signal \(child.terminationStatus)" : "ended with status \(child.terminationStatus)"
  }

  /// Ends it if it still runs.
  public func end() {
    if child.isRunning { child.terminate() }
    waitForEnd()
  }

  private func waitForEnd() {
    child.waitUntilExit()
    Child.running.withLock { _ = $0.remove(process) }
  }
}

/// Prints a line for the parent, at once.
public func announce(_ line: String) {
  FileHandle.standardOutput.write(Data((line + "\n").utf8))
}
