// Starting the processes of the benchmark, with what the tool sets for itself (Sources/kvsync/Allocator.swift).

import BenchmarkSupport
import Foundation

extension Child {
  private static let ofHub = ["MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "65536"]
  private static let ofReplica = [
    "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TOP_PAD_": "4194304",
  ]

  static func fill(_ directory: String, with backlog: Backlog, seed: Int) throws {
    let child = try Child([
      "fill", directory, "\(backlog.changes)", "\(backlog.perCommit)", backlog.order.rawValue,
      "\(backlog.keys ?? backlog.changes)", "\(seed)",
    ])
    _ = try child.line()
    child.release()
  }

  static func replica(_ directory: String, hub: String, _ options: [String] = []) throws -> Child {
    try Child(["replica", directory, hub] + options, environment: ofReplica)
  }

  static func writer(_ directory: String, hub: String, puts: Int, pauseMilliseconds: Int) throws -> Child {
    try Child(["writer", directory, hub, "\(puts)", "\(pauseMilliseconds)"], environment: ofReplica)
  }

  static func followers(_ directory: String, hub: String, count: Int, puts: Int) throws -> Child {
    try Child(["follower", directory, hub, "\(count)", "\(puts)"], environment: ofReplica)
  }

  /// The number of keys that both have.
  static func compare(_ directory: String, hub: String) throws -> Int {
    let child = try Child(["compare", directory, hub], environment: ofReplica)
    let keys = try child.line()
    child.release()
    return Int(keys) ?? 0
  }

  static func hub(_ directory: String) throws -> Child { try Child(["hub", directory], environment: ofHub) }

  /// The next line, as a value.
  func answer<Answer: Decodable>(_ type: Answer.Type) throws -> Answer {
    try JSONDecoder().decode(type, from: Data(line().utf8))
  }
}

/// A hub that serves, and its address.
final class RunningHub {
  let child: Child
  let port: Int
  /// The one space of the benchmark.
  var url: String { "kvsync://127.0.0.1:\(port)/bench" }

  init(_ directory: String) throws {
    child = try Child.hub(directory)
    guard let port = Int(try child.line()) else { throw BenchmarkError("the hub did not say where it listens") }
    self.port = port
  }
}
