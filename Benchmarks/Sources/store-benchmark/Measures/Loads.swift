// Many changes in commits of a thousand: until they are durable, and until they lie where they are to stay.

import BenchmarkSupport
import Foundation

/// Measured at several sizes on the way to the largest. At each, two parts: until the last commit is durable, and until
/// all is settled; what settling takes belongs to the next size too, for every contender.
struct Loads: Measure {
  var order = Workload.Order.random
  /// In changes, ascending.
  var sizes: [Int]
  /// A contender that is slower stops at the first commit after it, which flatters it: it gets slower as it grows.
  var atMostSeconds = Double.infinity

  static let perCommit = 1_000

  var diskBytes: Int { (sizes.last ?? 0) * diskBytesPerChange + 1 << 30 }

  func run(_ contender: Contender, _ place: Place) throws -> [Measurement] {
    let workload = Workload(seed: place.seed, order: order)
    let memory = MemoryProbe()
    let engine = try contender.open(place.scratch + "/store", .durable)
    var measurements: [Measurement] = []
    var histogram = Histogram()
    var change = Change()
    var done = 0
    let stopwatch = Stopwatch()
    for size in sizes {
      while done < size, stopwatch.seconds < atMostSeconds {
        let single = Stopwatch()
        let next = min(done + Loads.perCommit, size)
        try engine.commit(done..<next, of: workload, with: &change)
        histogram.add(nanoseconds: single.nanoseconds)
        done = next
      }
      let note =
        done < size
        ? "stopped after \(atMostSeconds.formatted(digits: 0)) s, at \(Double(done).grouped) changes" : nil
      measurements.append(
        Measurement(
          operations: done, seconds: stopwatch.seconds, latency: histogram.latency,
          peakAnonymousBytes: memory.peak(), writtenBytes: Disk.writtenBytes(), note: note))
      try engine.settle()
      measurements.append(
        Measurement(
          operations: done, seconds: stopwatch.seconds, peakAnonymousBytes: memory.peak(),
          writtenBytes: Disk.writtenBytes(), note: note))
    }
    _ = memory.stop()
    try verify(engine, workload, done)
    try engine.close()
    return measurements
  }

  /// A rate says nothing if the data is not there.
  private func verify(_ engine: any Engine, _ workload: Workload, _ count: Int) throws {
    var change = Change()
    for step in 0..<1_000 {
      workload.fill(&change, workload.pick(step, below: count))
      guard unsafe try engine.get(change.key) == change.value.span.bytes.sum else {
        throw BenchmarkError("a key that was written has not its value")
      }
    }
  }

  var limitMeaning: String {
    "blocks of \(PhysicalLimit.blockBytes(Loads.perCommit)) bytes written one after the other over a file that is there, "
      + "fdatasync after each; until all is folded: every key and value once more, one fdatasync"
  }

  func limit(_ place: Place) throws -> [Measurement] {
    let seconds = try PhysicalLimit.loggedAndSettled(place, perCommit: Loads.perCommit, changes: sizes.last ?? 0)
    return sizes.flatMap { size in
      [
        Measurement(operations: size, seconds: seconds.log * Double(size)),
        Measurement(operations: size, seconds: seconds.whole * Double(size)),
      ]
    }
  }
}
