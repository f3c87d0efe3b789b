// Runs rows: the contenders in turn, each in a process of its own, run after run, so that a machine that gets slower gets
// slower for all.

import BenchmarkSupport
import Foundation

struct Runner {
  /// Where everything happens; its own, and empty.
  let directory: String
  let scale: Double
  let runs: Int
  let largeRuns: Int

  private var datasets: String { directory + "/datasets" }

  func run(_ row: Row) -> RowResults {
    var results = RowResults(row: row)
    let contenders = prepare(row, &results)
    let runs = row.isLarge ? largeRuns : runs
    for run in 0..<runs {
      for offset in contenders.indices {
        // Nobody comes always first or always after the same one.
        let contender = contenders[(offset + run) % contenders.count]
        results.runs[contender, default: []].append(measure(row, contender, run: run, &results))
      }
      if let disagreement = results.disagreement(inRun: run) {
        for contender in contenders { results.failures[contender] = disagreement }
        results.runs = [:]
        break
      }
    }
    return results
  }

  /// Forgets the data sets that none of `rows` reads.
  func forgetDatasets(notOf rows: some Sequence<Row>) {
    let wanted = Set(
      rows.flatMap { row in
        row.measure.datasets.flatMap { set in row.contenders.map { set.path($0, in: datasets) } }
      })
    for name in (try? FileManager.default.contentsOfDirectory(atPath: datasets)) ?? [] {
      let path = "\(datasets)/\(name)"
      if !wanted.contains(where: { path.hasPrefix($0) }) { try? FileManager.default.removeItem(atPath: path) }
    }
  }

  /// The contenders whose data sets are there, those missing made first.
  private func prepare(_ row: Row, _ results: inout RowResults) -> [Contender] {
    row.contenders.filter { contender in
      do {
        try Disk.require(row.measure.diskBytes, in: directory)
        guard contender != .limit else { return true }
        for dataset in row.measure.datasets {
          guard !FileManager.default.fileExists(atPath: dataset.path(contender, in: datasets)) else { continue }
          try Disk.require(dataset.diskBytes, in: directory)
          try FileManager.default.createDirectory(atPath: datasets, withIntermediateDirectories: true)
          progress("\(row.id): preparing \(Double(dataset.count).grouped) keys for \(contender.column.name)")
          _ = try ask("prepare", "\(dataset.count)", "\(dataset.perCommit)", contender.rawValue, datasets)
        }
        return true
      } catch {
        results.failures[contender] = "\(error)"
        return false
      }
    }
  }

  private func measure(_ row: Row, _ contender: Contender, run: Int, _ results: inout RowResults) -> [Measurement]? {
    progress("\(row.id): run \(run + 1), \(contender.name)")
    let scratch = directory + "/scratch"
    try? FileManager.default.removeItem(atPath: scratch)
    defer { try? FileManager.default.removeItem(atPath: scratch) }
    do {
      try FileManager.default.createDirectory(atPath: scratch, withIntermediateDirectories: true)
      // Nobody pays for what another one left to be written.
      sync()
      let measurements = try ask(
        "measure", row.id, contender.rawValue, scratch, datasets, "\(run + 1)", "\(scale)")
      guard measurements.count == row.parts.count else { throw BenchmarkError("a part is missing") }
      return measurements
    } catch {
      results.failures[contender] = "\(error)"
      return nil
    }
  }

  private func ask(_ arguments: String...) throws -> [Measurement] {
    if Interruption.isRaised { throw BenchmarkError("interrupted") }
    let child = try Child(arguments)
    let line = child.nextLine()
    let outcome = child.outcome()
    guard let line else { throw BenchmarkError("its process \(outcome)") }
    switch try JSONDecoder().decode(Answer.self, from: Data(line.utf8)) {
    case .measurements(let measurements): return measurements
    case .failure(let reason): throw BenchmarkError(reason)
    }
  }

  private func progress(_ text: String) {
    guard isatty(2) != 0 else { return }
    note("\r\u{1B}[K\(text) …", end: "")
  }
}
