// Everything from one end to the other: rows in key order, or the log from its start.

import BenchmarkSupport
import Foundation

struct Walks: Measure {
  enum Path { case rows, log }

  var dataset: Dataset
  var path: Path

  var datasets: [Dataset] { [dataset] }
  var diskBytes: Int { dataset.count * 300 }

  /// A walk that is shorter is repeated.
  private static let leastSeconds = 1.0

  func run(_ contender: Contender, _ place: Place) throws -> [Measurement] {
    let engine = try contender.open(dataset.path(contender, in: place.datasets), .durable)
    let memory = MemoryProbe()
    // The first walk fills caches and page tables.
    let tally = try walk(engine, contender)
    guard tally.count == dataset.count else {
      throw BenchmarkError("\(tally.count) of \(dataset.count) were found")
    }
    var times = 0
    let stopwatch = Stopwatch()
    repeat {
      guard try walk(engine, contender).sum == tally.sum else { throw BenchmarkError("two walks saw different bytes") }
      times += 1
    } while stopwatch.seconds < Walks.leastSeconds
    let seconds = stopwatch.seconds
    let peak = memory.stop()
    try engine.close()
    return [
      Measurement(operations: times * dataset.count, seconds: seconds, sum: tally.sum, peakAnonymousBytes: peak)
    ]
  }

  private func walk(_ engine: any Engine, _ contender: Contender) throws -> Tally {
    if path == .rows { return try engine.scan() }
    if contender == .kvsyncChanges, let store = engine as? Kvsync { return try store.readChanges(dataset.count) }
    return try engine.readLog()
  }

  var limitMeaning: String {
    path == .rows
      ? "the same bytes in mapped memory, from one end to the other"
      : "as large a file in the page cache, read through a buffer of 256 KiB"
  }

  func limit(_ place: Place) throws -> [Measurement] {
    [
      path == .rows
        ? try PhysicalLimit.sequentialReads(place, of: dataset.count)
        : try PhysicalLimit.bufferedReads(place, of: dataset.count, perCommit: dataset.perCommit)
    ]
  }
}
