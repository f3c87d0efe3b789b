// How fast the machine would do a row's work if an engine cost nothing.
//
// Invariants
// - Blocks are as large as the store's own: a commit's frame and, for each change, its bytes and their lengths.
// - Files that are written were written before and are durable, so that a sync has no metadata to write.
// - Files that are read are in the page cache, as those of the contenders are.

import BenchmarkSupport
import Foundation

enum PhysicalLimit {
  /// What the log adds to a commit and to a change.
  static let commitBytes = 136
  static let changeBytes = 7 + Workload.changeBytes

  static func blockBytes(_ changes: Int) -> Int { commitBytes + changes * changeBytes }

  /// One sequential write and one fdatasync for each `perCommit` changes.
  static func durableCommits(_ place: Place, perCommit: Int, atMost limit: WorkLimit) throws -> Measurement {
    let file = try RawFile(place.scratch + "/limit", bytes: 128 << 20)
    var histogram = Histogram()
    var offset = 0
    var done = 0
    let stopwatch = Stopwatch()
    while done < limit.changes, stopwatch.seconds < limit.seconds {
      let single = Stopwatch()
      try file.write(blockBytes(perCommit), at: offset)
      try file.synchronize()
      histogram.add(nanoseconds: single.nanoseconds)
      offset += blockBytes(perCommit)
      done += perCommit
    }
    return Measurement(operations: done, seconds: stopwatch.seconds, latency: histogram.latency)
  }

  /// One sequential write for each change, and a sync each 100 ms.
  static func relaxedCommits(_ place: Place, atMost limit: WorkLimit) throws -> Measurement {
    let file = try RawFile(place.scratch + "/limit", bytes: 128 << 20)
    var offset = 0
    var done = 0
    var synced = 0.0
    let stopwatch = Stopwatch()
    while done < limit.changes, stopwatch.seconds < limit.seconds {
      try file.write(blockBytes(1), at: offset)
      offset += blockBytes(1)
      done += 1
      if done % 256 == 0, stopwatch.seconds - synced > 0.1 {
        try file.synchronize()
        synced = stopwatch.seconds
      }
    }
    return Measurement(operations: done, seconds: stopwatch.seconds)
  }

  /// A log of durable commits, and everything once more where it is to stay, synchronised at the end: at least that
  /// an engine with a log and an index has to write. Measured on up to a million changes.
  static func loggedAndSettled(_ place: Place, perCommit: Int, changes: Int) throws -> (log: Double, whole: Double) {
    let sample = min(changes, 1_000_000)
    let log = try durableCommits(place, perCommit: perCommit, atMost: WorkLimit(changes: sample, seconds: 30))
    let file = try RawFile(place.scratch + "/index", bytes: sample * Workload.changeBytes)
    let copying = try time {
      for offset in stride(from: 0, to: sample * Workload.changeBytes, by: RawFile.stepBytes) {
        try file.write(min(RawFile.stepBytes, sample * Workload.changeBytes - offset), at: offset)
      }
      try file.synchronize()
    }
    let logSeconds = log.seconds / Double(log.operations)
    return (logSeconds, logSeconds + copying / Double(sample))
  }

  /// One value of `count` read at a random place of memory.
  static func randomReads(_ place: Place, of count: Int, times: Int) throws -> Measurement {
    let file = try RawFile(place.scratch + "/limit", bytes: count * Workload.changeBytes)
    let workload = Workload(seed: place.seed)
    var sum: UInt64 = 0
    return unsafe try file.withMapping { bytes in
      unsafe sum &+= bytes.bytes.sum
      let seconds = time {
        for step in 0..<times {
          let start = workload.pick(step, below: count) * Workload.changeBytes
          unsafe sum &+= bytes.bytes.extracting(start..<start + Workload.changeBytes).sum
        }
      }
      return Measurement(operations: times, seconds: seconds, note: sum == 0 ? "nothing was read" : nil)
    }
  }

  /// All of `count` keys and values in memory, one after the other.
  static func sequentialReads(_ place: Place, of count: Int) throws -> Measurement {
    let file = try RawFile(place.scratch + "/limit", bytes: count * Workload.changeBytes)
    var sum: UInt64 = 0
    return unsafe try file.withMapping { bytes in
      unsafe sum &+= bytes.bytes.sum
      let seconds = time { unsafe sum &+= bytes.bytes.sum }
      return Measurement(operations: count, seconds: seconds, note: sum == 0 ? "nothing was read" : nil)
    }
  }

  /// A log of `count` changes read through a buffer.
  static func bufferedReads(_ place: Place, of count: Int, perCommit: Int) throws -> Measurement {
    let file = try RawFile(place.scratch + "/limit", bytes: count / perCommit * blockBytes(perCommit))
    var sum = try file.readAll()
    let seconds = try time { sum &+= try file.readAll() }
    return Measurement(operations: count, seconds: seconds, note: sum == 0 ? "nothing was read" : nil)
  }
}

/// Where a row of writes ends: whichever comes first.
struct WorkLimit: Sendable {
  var changes: Int
  var seconds: Double
}
