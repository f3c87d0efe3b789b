// The replica of the benchmark: synchronises, and tells how that went on.

import ArgumentParser
import BenchmarkSupport
import Foundation
import KVReplicator
import KVStore
import Synchronization

/// Synchronises `directory` with `hub` until nothing is left, prints a `ReplicaRun`, and stays until its standard input
/// ends, so that its memory can be looked at.
struct ReplicaProcess: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "replica", shouldDisplay: false)

  /// What travels as one message, in bytes.
  static let segmentBytes = Replicator.Configuration().segmentBytes

  @Argument var directory: String
  @Argument var hub: String
  /// Only sends.
  @Flag var push = false
  /// Goes on after the link broke.
  @Flag var persistent = false
  /// Ships commits that were overwritten later too.
  @Flag var every = false

  func run() throws {
    try blocking { try await work() }
  }

  private func work() async throws {
    let store = try await Store.open(at: directory)
    let timeline = Timeline(pendingAtStart: store.counters().pendingChanges)
    var configuration = try History.configuration(everything: every)
    configuration.progress = { timeline.add($0) }
    let (caughtUp, end) = AsyncStream<Void>.makeStream()
    configuration.caughtUp = { _ in end.yield() }
    let replicator = Replicator(store, hub: try HubAddress(hub), configuration: configuration)
    let direction: Replicator.Direction = push ? .push : .both
    timeline.start()
    if persistent {
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await replicator.run(direction) }
        group.addTask {
          for await _ in caughtUp where store.counters().pendingChanges == 0 { break }
          timeline.end()
        }
        // The replicator ends first only when it fails.
        try await group.next()
        group.cancelAll()
      }
    } else {
      _ = try await replicator.syncOnce(direction)
      timeline.end()
    }
    let run = timeline.run(pending: store.counters().pendingChanges)
    announce(String(decoding: try JSONEncoder().encode(run), as: UTF8.self))
    await standardInputEnd()
    try await store.close()
  }
}

/// How the replicator is to treat commits that were overwritten later.
enum History {
  static func configuration(everything: Bool) throws -> Replicator.Configuration {
    var configuration = Replicator.Configuration()
    configuration.history = everything ? .every : .latest
    return configuration
  }

  /// Whether the replicator can leave out what was overwritten.
  static let isAvailable = true
}

/// What a replica did.
struct ReplicaRun: Codable {
  struct Sample: Codable {
    var seconds: Double
    /// Changes acknowledged or applied by then.
    var changes: Int
  }

  /// From the call until nothing was left, opening not counted.
  var seconds: Double
  var changes: Int
  var pending: Int
  var samples: [Sample]

  /// The longest time in which nothing more was done.
  var longestStall: Double {
    var last = Sample(seconds: 0, changes: 0)
    var longest = 0.0
    for sample in samples + [Sample(seconds: seconds, changes: changes)] where sample.changes > last.changes {
      longest = max(longest, sample.seconds - last.seconds)
      last = sample
    }
    return longest
  }

  /// Seconds until this share of the changes was done.
  func seconds(until share: Double) -> Double {
    let goal = Double(changes) * share
    var last = Sample(seconds: 0, changes: 0)
    for sample in samples {
      if Double(sample.changes) >= goal, sample.changes > last.changes {
        let part = (goal - Double(last.changes)) / Double(sample.changes - last.changes)
        return last.seconds + part * (sample.seconds - last.seconds)
      }
      last = sample
    }
    return seconds
  }
}

/// How far a replica was, and when.
private final class Timeline: Sendable {
  private struct State {
    var stopwatch = Stopwatch()
    var seconds: Double?
    var changes = 0
    var samples: [ReplicaRun.Sample] = []
  }

  private let state = Mutex(State())
  private let pendingAtStart: Int

  init(pendingAtStart: Int) { self.pendingAtStart = pendingAtStart }

  func start() { state.withLock { $0.stopwatch = Stopwatch() } }

  func add(_ report: SyncReport) {
    state.withLock { state in
      // Of several sessions what was acknowledged counts once; nobody pulls in several.
      state.changes = max(state.changes, pendingAtStart - report.pendingChanges + report.pulledChanges)
      state.samples.append(ReplicaRun.Sample(seconds: state.stopwatch.seconds, changes: state.changes))
    }
  }

  func end() { state.withLock { $0.seconds = $0.stopwatch.seconds } }

  func run(pending: Int) -> ReplicaRun {
    state.withLock { state in
      ReplicaRun(
        seconds: state.seconds ?? state.stopwatch.seconds, changes: state.changes, pending: pending,
        samples: state.samples)
    }
  }
}
