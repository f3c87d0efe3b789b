// Draining an offline backlog to a hub over loopback: the hub and the replica are processes of their own, so that the
// memory of each is its own.

import ArgumentParser
import BenchmarkSupport
import Foundation
import KVHub
import KVHubEmbedded
import KVReplicator
import KVStore

@main
struct ReplicationBenchmark: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "replication",
    abstract: "Drains backlogs of several sizes to a hub that acknowledges after fdatasync.",
    subcommands: [Drain.self, HubProcess.self, ReplicaProcess.self], defaultSubcommand: Drain.self)
}

struct Drain: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "drain", shouldDisplay: false)

  @Option(help: "Changes in the backlog; given several times, each is a row.")
  var changes: [Int] = [300_000, 1_000_000, 3_000_000]
  @Option(help: "Runs of each row, more of a small one; the median of the rates counts, and the highest peak.")
  var runs = 3
  @Option(help: "Where the data goes while measuring; a directory on the disk in question.")
  var directory = NSTemporaryDirectory()
  @Option(help: "Write the table as Markdown to this file.")
  var markdown: String?
  @Option(help: "Write the figures as JSON to this file.")
  var json: String?

  func run() async throws {
    var report = Report()
    for changes in changes {
      var rates: [Double] = []
      var peaks = (replica: 0, hub: 0)
      // A peak is the rarer the higher it is: each row is watched while as many changes go over the link.
      for run in 0..<max(runs, (self.changes.max() ?? 0) / max(changes, 1)) {
        try await withScratch(directory) { scratch in
          let store = try await Store.open(at: scratch + "/replica")
          try fill(store, count: changes, perCommit: 1_000, seed: run + 1)
          try await store.close()
          let hub = try Child.start("hub", scratch + "/hub")
          defer { hub.end() }
          let address = try hub.line()
          let hubMemory = MemoryProbe(process: hub.process)
          let replica = try Child.start("replica", scratch + "/replica", "kvsync://\(address)/bench")
          let replicaMemory = MemoryProbe(process: replica.process)
          guard let seconds = Double(try replica.line()), seconds > 0 else {
            throw BenchmarkError("the replica did not drain its backlog")
          }
          peaks = (max(peaks.replica, replicaMemory.stop()), max(peaks.hub, hubMemory.stop()))
          rates.append(Double(changes) / seconds)
          replica.end()
        }
      }
      let work = "drain of \(changes) changes, until acknowledged"
      report.add(
        Figure(work: work, contender: "kvsync replica", perSecond: median(rates), peakAnonymousBytes: peaks.replica))
      report.add(Figure(work: work, contender: "kvsync hub", peakAnonymousBytes: peaks.hub))
    }
    try report.write(markdown: markdown, json: json)
  }
}

/// The hub of the benchmark: prints its address and serves until it is terminated.
struct HubProcess: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "hub", shouldDisplay: false)

  @Argument var directory: String

  func run() async throws {
    let hub = Hub(storage: try EmbeddedHubStorage(directory: directory))
    let address = try await hub.start()
    announce("\(address)")
    while true { try await Task.sleep(for: .seconds(3600)) }
  }
}

/// The replica of the benchmark: pushes its backlog and prints the seconds that it took, opening not counted.
struct ReplicaProcess: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "replica", shouldDisplay: false)

  @Argument var directory: String
  @Argument var hub: String

  func run() async throws {
    let store = try await Store.open(at: directory)
    let replicator = Replicator(store, hub: try HubAddress(hub))
    let seconds = try await time {
      let report = try await replicator.syncOnce(.push)
      guard report.pendingChanges == 0 else {
        throw BenchmarkError("\(report.pendingChanges) changes are pending")
      }
    }
    announce("\(seconds)")
    // Stays until it is looked at.
    try await Task.sleep(for: .milliseconds(50))
    try await store.close()
  }
}

/// Writes `count` changes, `perCommit` to a transaction, one transaction after the other.
private func fill(_ store: Store, count: Int, perCommit: Int, seed: Int) throws {
  let workload = Workload(seed: seed)
  for start in stride(from: 0, to: count, by: perCommit) {
    try store.writeBlocking { transaction in
      var change = Change()
      for index in start..<min(start + perCommit, count) {
        workload.fill(&change, index)
        try transaction.put(change.value, for: change.key)
      }
    }
  }
}

extension Child {
  /// A replica or a hub, with what the tool sets for itself (Sources/kvsync/Allocator.swift).
  fileprivate static func start(_ arguments: String...) throws -> Child {
    let settings =
      arguments.first == "hub"
      ? ["MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "65536"]
      : ["MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TOP_PAD_": "4194304"]
    return try Child(arguments, environment: settings)
  }
}
