// The command line of the benchmarks.

import ArgumentParser
import Foundation

@main
struct Benchmarks: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kvsync-bench",
    abstract: "Measures kvsync beside its peers, in one run, on this machine.",
    subcommands: [StoreBenchmark.self, ReplicationBenchmark.self, HubProcess.self, ReplicaProcess.self])
}

struct OutputOptions: ParsableArguments {
  @Option(help: "Where the data goes while measuring; a directory on the disk in question.")
  var directory = NSTemporaryDirectory()
  @Option(help: "Write the table as Markdown to this file.")
  var markdown: String?
  @Option(help: "Write the figures as JSON to this file.")
  var json: String?
}
