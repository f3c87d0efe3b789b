// Commits of one change: one writer, or many at once.

import BenchmarkSupport
import Foundation
import KVStore
import Synchronization

struct Puts: Measure {
  var durability = Durability.durable
  var writers = 1
  var limit: WorkLimit

  var diskBytes: Int { limit.changes * 1_024 + 512 << 20 }

  func run(_ contender: Contender, _ place: Place) throws -> [Measurement] {
    let engine = try contender.open(place.scratch + "/store", durability)
    let memory = MemoryProbe()
    var measurement =
      switch contender {
      case .kvsyncTasks: try runTasks(engine, place)
      case .kvsyncAlone: try runThreads(1, engine, place)
      default: try runThreads(writers, engine, place)
      }
    measurement.peakAnonymousBytes = memory.stop()
    try engine.close()
    return [measurement]
  }

  /// Each writer waits for its commit before it makes the next.
  private func runThreads(_ writers: Int, _ engine: any Engine, _ place: Place) throws -> Measurement {
    let workload = Workload(seed: place.seed)
    let total = Mutex((changes: 0, histogram: Histogram()))
    let stopwatch = Stopwatch()
    try onThreads(writers) { writer in
      var change = Change()
      var histogram = Histogram()
      var index = writer
      while index < limit.changes, stopwatch.seconds < limit.seconds {
        let single = Stopwatch()
        try engine.commit(index..<index + 1, of: workload, with: &change)
        histogram.add(nanoseconds: single.nanoseconds)
        index += writers
      }
      total.withLock { total in
        total.changes += (index - writer) / writers
        total.histogram.add(histogram)
      }
    }
    let seconds = stopwatch.seconds
    return total.withLock { Measurement(operations: $0.changes, seconds: seconds, latency: $0.histogram.latency) }
  }

  /// As many tasks, which is how a Swift program has concurrent writers.
  private func runTasks(_ engine: any Engine, _ place: Place) throws -> Measurement {
    guard let store = (engine as? Kvsync)?.store else { throw BenchmarkError("only the store has tasks") }
    let workload = Workload(seed: place.seed)
    return try blocking { [self] in
      let stopwatch = Stopwatch()
      return try await withThrowingTaskGroup(of: (changes: Int, histogram: Histogram).self) { group in
        for writer in 0..<writers {
          group.addTask {
            var change = Change()
            var histogram = Histogram()
            var index = writer
            while index < limit.changes, stopwatch.seconds < limit.seconds {
              let single = Stopwatch()
              workload.fill(&change, index)
              try await store.put(change.value, for: change.key)
              histogram.add(nanoseconds: single.nanoseconds)
              index += writers
            }
            return ((index - writer) / writers, histogram)
          }
        }
        var changes = 0
        var histogram = Histogram()
        for try await part in group {
          changes += part.changes
          histogram.add(part.histogram)
        }
        return Measurement(operations: changes, seconds: stopwatch.seconds, latency: histogram.latency)
      }
    }
  }

  var limitMeaning: String {
    let block = "blocks of \(PhysicalLimit.blockBytes(durability == .durable ? writers : 1)) bytes"
    return durability == .durable
      ? "\(block) written one after the other over a file that is there, fdatasync after each"
      : "\(block) written one after the other over a file that is there, fdatasync each 100 ms"
  }

  /// All who wait share one write and one sync.
  func limit(_ place: Place) throws -> [Measurement] {
    [
      durability == .durable
        ? try PhysicalLimit.durableCommits(place, perCommit: writers, atMost: limit)
        : try PhysicalLimit.relaxedCommits(place, atMost: limit)
    ]
  }
}

/// Runs `body` on `count` threads at once; throws the first error of any.
func onThreads(_ count: Int, _ body: @escaping @Sendable (Int) throws -> Void) throws {
  let group = DispatchGroup()
  let failure = Mutex<(any Error)?>(nil)
  for index in 0..<count {
    group.enter()
    Thread {
      do { try body(index) } catch { failure.withLock { if $0 == nil { $0 = error } } }
      group.leave()
    }
    .start()
  }
  group.wait()
  if let error = failure.withLock({ $0 }) { throw error }
}
