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

  @Option(help: "Runs of each row; the median counts.")
  var runs = 3
  @Option(help: "Runs of each row that takes minutes (10 M changes and more).")
  var largeRuns = 1
  @Option(help: "Only these rows, separated by commas: see --list.")
  var rows: String?
  @Flag(help: "Lists the rows and ends.")
  var list = false
  @Flag(help: "For trying things: a hundredth of the sizes, one run. Not the table.")
  var quick = false
  @Option(help: "Multiplies the sizes. Not the table unless it is 1.")
  var scale: Double?
  @Option(help: "Where the data goes while measuring; a directory on the disk in question, with some 30 GB free.")
  var directory = NSTemporaryDirectory()
  @Option(help: "The file that gets the table as Markdown.")
  var markdown = "replication.md"
  @Option(help: "The file that gets every figure as JSON.")
  var json = "replication.json"

  func validate() throws {
    guard runs > 0, largeRuns > 0, scale ?? 1 > 0 else { throw ValidationError("runs and scale must be positive") }
  }

  func run() throws {
    let scale = scale ?? (quick ? 0.01 : 1)
    let rows = try selected(Row.all(scale: scale))
    if list {
      for row in rows { print(row.id.padding(toLength: 14, withPad: " ", startingAt: 0), row.parts[0].name) }
      return
    }
    try Disk.requireDisk(directory)
    let place = "\(directory)/kvsync-bench-\(getpid())"
    try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
    Interruption.watch()
    defer { try? FileManager.default.removeItem(atPath: place) }
    let (runs, largeRuns) = quick ? (1, 1) : (runs, largeRuns)
    let runner = Runner(directory: place, runs: runs, largeRuns: largeRuns)
    let machine = Machine(directory: place, peers: Contender.peers)
    var report = Report(machine: machine, scale: scale, runs: runs, largeRuns: largeRuns)
    for row in rows {
      let stopwatch = Stopwatch()
      let results = runner.run(row)
      if Interruption.isRaised { throw ExitCode(128 + SIGINT) }
      report.add(results)
      try report.write(markdown: markdown, json: json)
      note("\(isatty(2) != 0 ? "\r\u{1B}[K" : "")\(Report.lines(results))\n  took \(stopwatch.seconds.duration)")
    }
    print("\(markdown)\n\(json)")
  }

  private func selected(_ all: [Row]) throws -> [Row] {
    guard let names = rows?.split(separator: ",").map(String.init) else { return all }
    for name in names where !all.contains(where: { $0.id == name }) {
      throw ValidationError("there is no row \"\(name)\"; --list shows them")
    }
    return all.filter { names.contains($0.id) }
  }
}
