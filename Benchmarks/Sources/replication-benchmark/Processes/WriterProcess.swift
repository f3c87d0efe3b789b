// The replica that writes while others follow: one put at a time, on an idle system.

import ArgumentParser
import BenchmarkSupport
import Foundation
import KVReplicator
import KVStore

/// Live on the hub, writes `puts` values that say when they were written, with `pause` milliseconds after each. Before
/// each it writes and synchronises a block of a file, without an engine, for comparison. Prints a `WriterRun`.
struct WriterProcess: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "writer", shouldDisplay: false)

  @Argument var directory: String
  @Argument var hub: String
  @Argument var puts: Int
  @Argument var pause: Int

  /// As large as the log's block of one such put.
  private static let blockBytes = 259

  func run() throws {
    try blocking { try await work() }
  }

  private func work() async throws {
    let store = try await Store.open(at: directory)
    let path = directory + ".blocks"
    let (puts, pause) = (puts, pause)
    try await withLiveReplicators(of: [store], hub: hub) {
      let file = try RawFile(path, bytes: 4 << 20)
      var run = WriterRun(syncSeconds: [])
      for index in 0..<puts {
        try await Task.sleep(for: .milliseconds(pause))
        let sync = Stopwatch()
        try file.write(Self.blockBytes, at: index * Self.blockBytes)
        try file.synchronize()
        run.syncSeconds.append(sync.seconds)
        try await Task.sleep(for: .milliseconds(pause))
        try await store.put(Stamp(index: index).bytes, for: "stamp/\(index)")
      }
      announce(String(decoding: try JSONEncoder().encode(run), as: UTF8.self))
      await standardInputEnd()
    }
    try await store.close()
  }
}

struct WriterRun: Codable {
  /// Of the block before each put.
  var syncSeconds: [Double]
}

/// A value that says when it was written; as long as the values of other rows.
struct Stamp {
  var index: Int
  var nanoseconds: UInt64

  init(index: Int) {
    self.index = index
    nanoseconds = sharedNanoseconds()
  }

  init?(_ value: [UInt8]) {
    guard value.count == Workload.valueBytes else { return nil }
    index = Int(truncatingIfNeeded: Stamp.word(value[0..<8]))
    nanoseconds = Stamp.word(value[8..<16])
  }

  var bytes: [UInt8] {
    let words = [UInt64(index), nanoseconds].flatMap { word in
      (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) }
    }
    return words + [UInt8](repeating: 0, count: Workload.valueBytes - words.count)
  }

  /// Until now.
  var seconds: Double { Double(sharedNanoseconds() - nanoseconds) / 1e9 }

  private static func word(_ bytes: ArraySlice<UInt8>) -> UInt64 {
    bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }
}
