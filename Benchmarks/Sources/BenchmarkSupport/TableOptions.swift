// What both programs are told about the table, and the way from there to the report.

public import ArgumentParser
import Foundation

/// A row that can be asked for by its name.
public protocol NamedRow {
  var id: String { get }
  var name: String { get }
}

public struct TableOptions: ParsableArguments {
  @Option(help: "Runs of each row; the median counts.")
  var runs: Int?
  @Option(help: "Runs of each row that takes minutes (10 M changes and more).")
  var largeRuns: Int?
  @Option(help: "Only these rows, separated by commas: see --list.")
  var rows: String?
  @Flag(help: "Lists the rows and ends.")
  var list = false
  @Flag(help: "For trying things: small sizes, one run. Not the table.")
  var quick = false
  @Option(help: "Multiplies the sizes. Not the table unless it is 1.")
  var scale: Double?
  @Option(help: "Where the data goes while measuring; a directory on the disk in question, with some 30 GB free.")
  var directory = NSTemporaryDirectory()
  @Option(help: "The file that gets the table as Markdown.")
  var markdown: String?
  @Option(help: "The file that gets every figure as JSON.")
  var json: String?

  public init() {}

  public mutating func validate() throws {
    guard runs ?? 1 > 0, largeRuns ?? 1 > 0, scale ?? 1 > 0 else {
      throw ValidationError("runs and scale must be positive")
    }
  }

  /// A program's own numbers.
  public struct Defaults {
    var name: String
    var runs: Int
    var largeRuns: Int
    var quickScale: Double

    public init(name: String, runs: Int, largeRuns: Int, quickScale: Double) {
      self.name = name
      self.runs = runs
      self.largeRuns = largeRuns
      self.quickScale = quickScale
    }
  }

  /// What is to be done.
  public struct Plan {
    public var scale: Double
    public var runs: Int
    public var largeRuns: Int
    /// An empty directory.
    public var place: String
    var markdown: String
    var json: String
  }

  /// Runs `measure` with each of the rows that were asked for and those that come after it, and reports.
  public func run<Row: NamedRow, Results: ReportedRow>(
    _ defaults: Defaults, of all: (_ scale: Double) -> [Row], peers: [String: String],
    conditions: (Plan) -> String, further: ([Results]) -> [String] = { _ in [] },
    _ measure: (Row, _ rest: ArraySlice<Row>, Plan) -> Results
  ) throws {
    let scale = scale ?? (quick ? defaults.quickScale : 1)
    let rows = try selected(all(scale))
    if list {
      for row in rows { print(row.id.padding(toLength: 14, withPad: " ", startingAt: 0), row.name) }
      return
    }
    try Disk.requireDisk(directory)
    let plan = Plan(
      scale: scale, runs: quick ? 1 : runs ?? defaults.runs, largeRuns: quick ? 1 : largeRuns ?? defaults.largeRuns,
      place: "\(directory)/kvsync-bench-\(getpid())", markdown: markdown ?? defaults.name + ".md",
      json: json ?? defaults.name + ".json")
    try FileManager.default.createDirectory(atPath: plan.place, withIntermediateDirectories: true)
    Interruption.watch()
    defer { try? FileManager.default.removeItem(atPath: plan.place) }
    var report = Report<Results>(
      machine: Machine(directory: plan.place, peers: peers), scale: scale, conditions: conditions(plan))
    for (index, row) in rows.enumerated() {
      let stopwatch = Stopwatch()
      let results = measure(row, rows[(index + 1)...], plan)
      if Interruption.isRaised { throw ExitCode(128 + SIGINT) }
      report.add(results)
      try report.write(markdown: plan.markdown, json: plan.json, further: further)
      note("\(isatty(2) != 0 ? "\r\u{1B}[K" : "")\(results.lines)\n  took \(stopwatch.seconds.duration)")
    }
    print("\(plan.markdown)\n\(plan.json)")
  }

  private func selected<Row: NamedRow>(_ all: [Row]) throws -> [Row] {
    guard let names = rows?.split(separator: ",").map(String.init) else { return all }
    for name in names where !all.contains(where: { $0.id == name }) {
      throw ValidationError("there is no row \"\(name)\"; --list shows them")
    }
    return all.filter { names.contains($0.id) }
  }
}
