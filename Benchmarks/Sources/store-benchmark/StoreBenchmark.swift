// The command line: the store beside its peers, in one run, with the same keys and the same durability.

import ArgumentParser
import BenchmarkSupport
import Foundation

@main
struct StoreBenchmark: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "store", abstract: "Measures the store beside LMDB, RocksDB and SQLite, row by row.",
    subcommands: [Table.self, MeasureProcess.self, PrepareProcess.self, WriteAndDie.self],
    defaultSubcommand: Table.self)
}

struct Table: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "table", abstract: "Measures the table, or the rows that were asked for.", shouldDisplay: false)

  @OptionGroup var options: TableOptions

  func run() throws {
    try options.run(
      .init(name: "store", runs: 5, largeRuns: 3, quickScale: 0.05), of: { Row.all(scale: $0) }, peers: Contender.peers,
      conditions: { plan in
        "16-byte keys, 100-byte values that do not compress; medians of \(plan.runs) runs (\(plan.largeRuns) where the row "
          + "takes minutes), each beside the peers in the same run."
      }, further: RowResults.memory
    ) { row, rest, plan in
      let runner = Runner(directory: plan.place, scale: plan.scale, runs: plan.runs, largeRuns: plan.largeRuns)
      defer { runner.forgetDatasets(notOf: rest) }
      return runner.run(row)
    }
  }
}

/// Runs one row of one contender and prints what it gave.
struct MeasureProcess: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "measure", shouldDisplay: false)

  @Argument var row: String
  @Argument var contender: String
  @Argument var scratch: String
  @Argument var datasets: String
  @Argument var seed: Int
  @Argument var scale: Double

  func run() throws {
    try answer {
      guard let row = Row.all(scale: scale).first(where: { $0.id == row }),
        let contender = Contender(rawValue: contender)
      else { throw BenchmarkError("there is no such row or contender") }
      let place = Place(scratch: scratch, datasets: datasets, seed: seed)
      return contender == .limit ? try row.measure.limit(place) : try row.measure.run(contender, place)
    }
  }
}

/// Makes a data set.
struct PrepareProcess: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "prepare", shouldDisplay: false)

  @Argument var count: Int
  @Argument var perCommit: Int
  @Argument var contender: String
  @Argument var directory: String

  func run() throws {
    try answer {
      guard let contender = Contender(rawValue: contender) else { throw BenchmarkError("there is no such contender") }
      try Dataset(count: count, perCommit: perCommit).make(contender, in: directory)
      return []
    }
  }
}

private func answer(_ body: () throws -> [Measurement]) throws {
  let answer: Answer
  do { answer = .measurements(try body()) } catch { answer = .failure("\(error)") }
  announce(String(decoding: try JSONEncoder().encode(answer), as: UTF8.self))
}
