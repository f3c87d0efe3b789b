// A server of somebody else's that runs while it is measured.
//
// Invariant: it does not outlive this process, however that ends. A shell waits beside it for the end of its standard
// input, which this process holds open, and kills the server then.

import BenchmarkSupport
import Foundation

final class Daemon {
  private let guardian: Child
  private let log: String

  /// Starts `program` with what it says going to the file `log`. `signal` is the one that ends it at once.
  init(_ program: [String], log: String, signal: String) throws {
    self.log = log
    let script = """
      exec 2>/dev/null
      log=$1; shift
      "$@" </dev/null >"$log" 2>&1 &
      server=$!
      trap 'kill -\(signal) $server; exit 1' TERM INT
      while read -r line; do :; done
      kill -\(signal) $server
      wait $server
      exit 0
      """
    guardian = try Child(program: "/bin/sh", ["-c", script, "sh", log] + program, endedBy: SIGTERM)
  }

  func stop() { guardian.release() }

  /// Tries until `body` does not throw; the server's own last words when it never does.
  func waitUntilReady<Result>(_ body: () throws -> Result) throws -> Result {
    let stopwatch = Stopwatch()
    while true {
      do {
        return try body()
      } catch {
        if stopwatch.seconds > 20 || Interruption.isRaised { throw BenchmarkError("\(error): \(lastWords)") }
        usleep(50_000)
      }
    }
  }

  private var lastWords: String {
    let text = (try? String(contentsOfFile: log, encoding: .utf8)) ?? ""
    return text.split(separator: "\n").suffix(3).joined(separator: " / ")
  }

  /// The first of these that can be run.
  static func program(_ candidates: [String]) -> String? {
    let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map { "\($0)/" }
    return candidates.lazy.flatMap { name in name.hasPrefix("/") ? [name] : folders.map { $0 + name } }
      .first { FileManager.default.isExecutableFile(atPath: $0) }
  }

  /// What a program prints, to the first end of line.
  static func firstLine(of program: String, _ arguments: [String]) -> String? {
    guard let child = try? Child(program: program, arguments) else { return nil }
    defer { child.release() }
    return child.nextLine()
  }
}
