// How long it takes until a store that was closed, or whose process was killed, gives its first value.

import BenchmarkSupport
import Foundation

/// Of a store that was closed.
struct CleanOpening: Measure {
  var dataset: Dataset

  var datasets: [Dataset] { [dataset] }
  var diskBytes: Int { 0 }

  func run(_ contender: Contender, _ place: Place) throws -> [Measurement] {
    [try opening(contender, dataset.path(contender, in: place.datasets), Dataset.workload)]
  }

  var limitMeaning: String { "a file made, mapped and looked at" }

  func limit(_ place: Place) throws -> [Measurement] {
    let file = try RawFile(place.scratch + "/limit", bytes: 1 << 20)
    let seconds = try time { unsafe try file.withMapping { unsafe precondition($0[4_096] == 0x5A) } }
    return [Measurement(operations: 1, seconds: seconds)]
  }
}

/// Of a store whose process was killed while it wrote as fast as it could, with a Tail that was full.
struct OpeningAfterKill: Measure {
  /// Written before, at least and at most, in changes: between them the kill waits for a moment at which commits do.
  var atLeast: Int
  var atMost: Int

  var diskBytes: Int { atMost * diskBytesPerChange + 1 << 30 }

  func run(_ contender: Contender, _ place: Place) throws -> [Measurement] {
    let path = place.scratch + "/store"
    let victim = try Child(["write-and-die", contender.rawValue, path, "\(place.seed)", "\(atLeast)", "\(atMost)"])
    var last = ""
    while let line = victim.nextLine() { last = line }
    let outcome = victim.outcome()
    guard let written = Int(last), outcome.contains("signal \(SIGKILL)") else {
      throw BenchmarkError("the process that was to be killed \(outcome): \(last)")
    }
    let generations = (try? FileManager.default.contentsOfDirectory(atPath: path + "/tail"))?
      .filter { $0.hasSuffix(".mdb") }.count
    var measurement = try opening(contender, path, Workload(seed: place.seed))
    measurement.note =
      "killed after \(Double(written).grouped) changes" + (generations.map { ", \($0) generations in the Tail" } ?? "")
    return [measurement]
  }

  var limitMeaning: String { "\(Double(atLeast).grouped) changes of log read through a buffer of 256 KiB" }

  /// As much log as a full Tail stands for.
  func limit(_ place: Place) throws -> [Measurement] {
    let reading = try PhysicalLimit.bufferedReads(place, of: atLeast, perCommit: Loads.perCommit)
    return [Measurement(operations: 1, seconds: reading.seconds)]
  }
}

private func opening(_ contender: Contender, _ path: String, _ workload: Workload) throws -> Measurement {
  var change = Change()
  workload.fill(&change, 0)
  let memory = MemoryProbe()
  let stopwatch = Stopwatch()
  let engine = try contender.open(path, .durable)
  let found = try engine.get(change.key)
  let seconds = stopwatch.seconds
  guard unsafe found == change.value.span.bytes.sum else {
    throw BenchmarkError("a key that was written has not its value")
  }
  let peak = memory.stop()
  try engine.close()
  return Measurement(operations: 1, seconds: seconds, peakAnonymousBytes: peak)
}
