// Random gets of keys that exist: of a store that rests, and while another thread writes as fast as it can.

import BenchmarkSupport
import Foundation
import Synchronization

struct Gets: Measure {
  var dataset: Dataset
  var count: Int
  /// Adds the part in which another thread overwrites random keys, a thousand to a durable commit.
  var whileWriting = false

  var datasets: [Dataset] { [dataset] }
  var diskBytes: Int { whileWriting ? dataset.diskBytes : dataset.count * Workload.changeBytes }

  func run(_ contender: Contender, _ place: Place) throws -> [Measurement] {
    var path = dataset.path(contender, in: place.datasets)
    if whileWriting {
      // Other rows read the data set too.
      for suffix in ["", "-wal", "-shm"] where FileManager.default.fileExists(atPath: path + suffix) {
        try FileManager.default.copyItem(atPath: path + suffix, toPath: place.scratch + "/store" + suffix)
      }
      path = place.scratch + "/store"
      sync()
    }
    let engine = try contender.open(path, .durable)
    let memory = MemoryProbe()
    // The first gets fill caches and page tables.
    _ = try gets(engine, place.seed + 1, count)
    var measurements = [try gets(engine, place.seed, count)]
    measurements[0].peakAnonymousBytes = memory.peak()
    if whileWriting {
      measurements.append(try writing(engine, place) { try gets(engine, place.seed, count) })
      measurements[1].peakAnonymousBytes = memory.peak()
    }
    _ = memory.stop()
    try engine.close()
    return measurements
  }

  private func gets(_ engine: any Engine, _ seed: Int, _ count: Int) throws -> Measurement {
    let picks = Workload(seed: seed)
    var change = Change()
    var histogram = Histogram()
    var sum: UInt64 = 0
    let stopwatch = Stopwatch()
    for step in 0..<count {
      Dataset.workload.fillKey(&change, picks.pick(step, below: dataset.count))
      // Looking at the clock each time would be a tenth of the time.
      let single = step % 16 == 0 ? Stopwatch() : nil
      guard let found = try engine.get(change.key) else { throw BenchmarkError("a key that was written is missing") }
      if let single { histogram.add(nanoseconds: single.nanoseconds) }
      sum &+= found
    }
    return Measurement(operations: count, seconds: stopwatch.seconds, latency: histogram.latency, sum: sum)
  }

  /// Runs `body` while a thread commits a thousand changes after the other.
  private func writing(_ engine: any Engine, _ place: Place, _ body: () throws -> Measurement) throws -> Measurement {
    let picks = Workload(seed: place.seed + 2)
    let writer = Mutex((changes: 0, isDone: false, failure: (any Error)?.none))
    let ended = DispatchGroup()
    ended.enter()
    Thread { [dataset] in
      var change = Change()
      var step = 0
      do {
        while !writer.withLock({ $0.isDone }) {
          // Changes next to each other have random keys.
          let first = picks.pick(step, below: max(1, dataset.count - Loads.perCommit))
          let indices = first..<min(first + Loads.perCommit, dataset.count)
          try engine.commit(indices, of: Dataset.workload, with: &change)
          writer.withLock { $0.changes += indices.count }
          step += 1
        }
      } catch { writer.withLock { $0.failure = error } }
      ended.leave()
    }
    .start()
    // At full speed: what the first commits set off is under way.
    usleep(500_000)
    let before = writer.withLock { $0.changes }
    var measurement = try body()
    let after = writer.withLock { writer in
      writer.isDone = true
      return writer.changes
    }
    ended.wait()
    if let failure = writer.withLock({ $0.failure }) { throw failure }
    measurement.note = "beside \((Double(after - before) / measurement.seconds).grouped) changes/s written"
    return measurement
  }

  var limitMeaning: String {
    "as many \(Workload.changeBytes)-byte entries in mapped memory, one after the other at random, no search"
  }

  func limit(_ place: Place) throws -> [Measurement] {
    let reads = try PhysicalLimit.randomReads(place, of: dataset.count, times: count)
    return whileWriting ? [reads, reads] : [reads]
  }
}
