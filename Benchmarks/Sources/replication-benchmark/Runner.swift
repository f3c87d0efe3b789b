// Runs rows: the contenders in turn, run after run, so that a machine that gets slower gets slower for all.

import BenchmarkSupport
import Foundation

struct Runner {
  /// Where everything happens; its own, and empty.
  let directory: String
  let runs: Int
  let largeRuns: Int

  func run(_ row: Row) -> RowResults {
    var results = RowResults(row: row)
    do {
      try Disk.require(row.scenario.diskBytes, in: directory)
    } catch {
      for contender in row.contenders { results.failures[contender] = "\(error)" }
      return results
    }
    for run in 0..<(row.isLarge ? largeRuns : runs) {
      for offset in row.contenders.indices {
        // Nobody comes always first or always after the same one.
        let contender = row.contenders[(offset + run) % row.contenders.count]
        results.runs[contender, default: []].append(measure(row, contender, run: run, &results))
      }
    }
    return results
  }

  private func measure(_ row: Row, _ contender: Contender, run: Int, _ results: inout RowResults) -> [Measurement]? {
    if Interruption.isRaised { return nil }
    if isatty(2) != 0 { note("\r\u{1B}[K\(row.id): run \(run + 1), \(contender.name) …", end: "") }
    let scratch = directory + "/scratch"
    try? FileManager.default.removeItem(atPath: scratch)
    defer { try? FileManager.default.removeItem(atPath: scratch) }
    do {
      try FileManager.default.createDirectory(atPath: scratch, withIntermediateDirectories: true)
      let measurements = try row.scenario.run(contender, Place(scratch: scratch, seed: run + 1))
      guard measurements.count == row.parts.count else { throw BenchmarkError("a part is missing") }
      return measurements
    } catch {
      results.failures[contender] = "\(error)"
      return nil
    }
  }
}
