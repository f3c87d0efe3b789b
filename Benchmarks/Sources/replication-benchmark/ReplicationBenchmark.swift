// The command line: replication beside its peers, in one run, with the same rows.

import ArgumentParser
import BenchmarkSupport
import Foundation

@main
struct ReplicationBenchmark: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "replication", abstract: "Measures replication beside Redis and PostgreSQL, row by row.",
    subcommands: [
      Table.self, FillProcess.self, HubProcess.self, ReplicaProcess.self, WriterProcess.self, FollowerProcess.self,
      CompareProcess.self,
    ],
    defaultSubcommand: Table.self)
}

struct Table: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "table", abstract: "Measures the table, or the rows that were asked for.", shouldDisplay: false)

  @OptionGroup var options: TableOptions

  func run() throws {
    try options.run(
      .init(name: "replication", runs: 3, largeRuns: 1, quickScale: 0.01), of: { Row.all(scale: $0) },
      peers: Contender.peers,
      conditions: { plan in
        "16-byte keys, 100-byte values that do not compress; replica and hub are processes of their own on one machine, the hub "
          + "durable before it acknowledges; medians of \(plan.runs) runs (\(plan.largeRuns) where the row takes minutes), "
          + "each beside the peers in the same run; memory and stalls are the highest of the runs."
      }
    ) { row, _, plan in
      Runner(directory: plan.place, runs: plan.runs, largeRuns: plan.largeRuns).run(row)
    }
  }
}
