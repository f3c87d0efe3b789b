// A process of this same program: its memory is its own, and it may be killed.
//
// Invariant: it is told that nobody needs it any more by the end of its standard input, however this process ends.

import Foundation
import Synchronization

public final class Child {
  /// By process, the signal that ends it with everything that it started.
  private static let running = Mutex<[Int32: Int32]>([:])

  private let child = Process()
  private let input = Pipe()
  private let output = Pipe()
  private var buffer = Data()

  /// Starts this program again. `environment` is added to this process's own.
  public convenience init(_ arguments: [String], environment: [String: String] = [:]) throws {
    let own = CommandLine.arguments[0]
    let program = FileManager.default.isExecutableFile(atPath: own) ? own : "/proc/self/exe"
    try self.init(program: program, arguments, environment: environment)
  }

  /// Starts another program, which `signal` (SIGKILL if nil) ends when this process is interrupted.
  public init(
    program: String, _ arguments: [String], environment: [String: String] = [:], endedBy signal: Int32? = nil
  ) throws {
    child.executableURL = URL(fileURLWithPath: program)
    child.arguments = arguments
    child.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    child.standardInput = input
    child.standardOutput = output
    try child.run()
    Child.running.withLock { $0[process] = signal ?? SIGKILL }
  }

  /// Ends those that still run: they must not outlive this process.
  public static func killAll() {
    running.withLock { running in
      for (process, signal) in running { Foundation.kill(process, signal) }
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

  /// Whether it ended as a program does that did what it was to do.
  public var succeeded: Bool { !child.isRunning && child.terminationReason == .exit && child.terminationStatus == 0 }

  /// Waits for its end and says how it ended.
  public func outcome() -> String {
    waitForEnd()
    return child.terminationReason == .uncaughtSignal
      ? "was ended by signal \(child.terminationStatus)" : "ended with status \(child.terminationStatus)"
  }

  /// Gives it `bytes` to read.
  public func write(_ bytes: [UInt8]) throws {
    try input.fileHandleForWriting.write(contentsOf: bytes)
  }

  /// Lets it end by itself: its standard input ends.
  @discardableResult
  public func release() -> String {
    try? input.fileHandleForWriting.close()
    return outcome()
  }

  /// Ends it at once, as a crash would.
  public func kill() {
    if child.isRunning { Foundation.kill(process, SIGKILL) }
    waitForEnd()
  }

  /// Ends it if it still runs.
  public func end() {
    if child.isRunning { child.terminate() }
    waitForEnd()
  }

  private func waitForEnd() {
    child.waitUntilExit()
    Child.running.withLock { $0[process] = nil }
  }
}

/// Waits in a child until its parent has no more use for it.
public func standardInputEnd() async {
  await withCheckedContinuation { continuation in
    Thread {
      while readLine() != nil {}
      continuation.resume()
    }
    .start()
  }
}

/// Prints a line for the parent, at once.
public func announce(_ line: String) {
  FileHandle.standardOutput.write(Data((line + "\n").utf8))
}
