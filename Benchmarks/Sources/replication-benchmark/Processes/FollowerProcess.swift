// Replicas that follow: when does each of them show what another one wrote?

import ArgumentParser
import BenchmarkSupport
import Foundation
import KVStore

/// Opens `count` stores below `directory`, live on the hub; prints a line when all have caught up, and after `puts`
/// stamped values have come to all a `FollowerRun`.
struct FollowerProcess: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "follower", shouldDisplay: false)

  @Argument var directory: String
  @Argument var hub: String
  @Argument var count: Int
  @Argument var puts: Int

  func run() throws {
    try blocking { try await work() }
  }

  private func work() async throws {
    var stores: [Store] = []
    for index in 0..<count { stores.append(try await Store.open(at: "\(directory)-\(index)")) }
    let all = stores
    let puts = puts
    try await withLiveReplicators(of: all, hub: hub) {
      announce("ready")
      let latencies = try await withThrowingTaskGroup(of: [Double].self) { group in
        for store in all { group.addTask { try await FollowerProcess.follow(store, puts) } }
        return try await group.reduce(into: []) { $0.append($1) }
      }
      announce(String(decoding: try JSONEncoder().encode(FollowerRun(seconds: latencies)), as: UTF8.self))
      await standardInputEnd()
    }
    for store in all { try await store.close() }
  }

  /// Seconds from each put until a read of `store` gives it.
  private static func follow(_ store: Store, _ puts: Int) async throws -> [Double] {
    var seconds = [Double](repeating: 0, count: puts)
    var seen = 0
    for try await change in store.changes(after: 0) {
      guard let stamp = change.value.flatMap({ Stamp($0) }), stamp.index < puts else { continue }
      seconds[stamp.index] = stamp.seconds
      seen += 1
      if seen == puts { break }
    }
    return seconds
  }
}

struct FollowerRun: Codable {
  /// For each store, by put.
  var seconds: [[Double]]
}
