// The figures as Markdown for people and as JSON for programs. Written again after each row, so that a run that is
// interrupted leaves what it has.

import BenchmarkSupport
import Foundation

struct Report {
  let machine: Machine
  let scale: Double
  let runs: Int
  let largeRuns: Int
  private(set) var rows: [RowResults] = []

  init(machine: Machine, scale: Double, runs: Int, largeRuns: Int) {
    self.machine = machine
    self.scale = scale
    self.runs = runs
    self.largeRuns = largeRuns
  }

  mutating func add(_ row: RowResults) { rows.append(row) }

  func write(markdown: String, json: String) throws {
    for path in [markdown, json] {
      let folder = URL(fileURLWithPath: path).deletingLastPathComponent()
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }
    try self.markdown.write(toFile: markdown, atomically: true, encoding: .utf8)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    try encoder.encode(JSONReport(self)).write(to: URL(fileURLWithPath: json), options: .atomic)
  }

  // MARK: Markdown

  private var markdown: String {
    var lines = [
      "\(machine.summary); 16-byte keys, 100-byte values that do not compress; replica and hub are processes of their own "
        + "on one machine, the hub durable before it acknowledges; medians of \(runs) runs (\(largeRuns) where the row "
        + "takes minutes), each beside the peers in the same run; memory and stalls are the highest of the runs.",
      "",
    ]
    if scale != 1 { lines += ["**Sizes are scaled by \(scale): this is not the table.**", ""] }
    lines += [
      "| work | " + Contender.columns.map(\.name).joined(separator: " | ") + " | goal | measured |",
      "| --- |" + String(repeating: " ---: |", count: Contender.columns.count) + " --- | --- |",
    ]
    lines += rows.flatMap { Report.table($0) }
    lines += ["", "The physical limit is what the machine does without an engine:", ""]
    lines += rows.compactMap { row in row.row.scenario.limitMeaning.map { "- \(row.row.parts[0].name): \($0)" } }
    lines += ["", "Peers:", ""]
    lines += machine.peers.sorted { $0.key < $1.key }.map { "- \($0.key) \($0.value)" }
    return lines.joined(separator: "\n") + "\n"
  }

  /// A line for each part.
  private static func table(_ results: RowResults) -> [String] {
    results.row.parts.indices.map { part in
      let verdicts = results.row.parts[part].goals.map { $0.verdict(results, part: part) }
      let cells =
        [results.row.parts[part].name] + Contender.columns.map { cell(results, $0, part) } + [
          verdicts.map(\.goal).joined(separator: "<br>"),
          verdicts.map(written).joined(separator: "<br>"),
        ]
      return "| " + cells.joined(separator: " | ") + " |"
    }
  }

  /// All contenders that stand in a column.
  private static func cell(_ results: RowResults, _ column: Contender, _ part: Int) -> String {
    results.row.contenders.filter { $0.column == column }.map { contender in
      let name = contender == column ? "" : "\(contender.name): "
      return name + figures(results, contender, part)
    }
    .joined(separator: "<br>")
  }

  /// What the row is about, and in parentheses what else was seen.
  private static func figures(_ results: RowResults, _ contender: Contender, _ part: Int) -> String {
    var texts = results.row.parts[part].shows.compactMap { quantity in
      results.figure(contender, quantity, part: part).map(quantity.text)
    }
    if let note = results.note(contender, part: part) { texts.append(note) }
    if let failure = results.failures[contender] {
      texts.append(texts.isEmpty ? "not measured: \(failure)" : "a run failed: \(failure)")
    }
    guard let first = texts.first else { return "" }
    return texts.count == 1 ? first : "\(first) (\(texts.dropFirst().joined(separator: "; ")))"
  }

  private static func written(_ verdict: Goal.Verdict) -> String {
    guard let value = verdict.value, let isMet = verdict.isMet else { return "not measured" }
    return isMet ? "\(value), met" : "**\(value), missed**"
  }

  /// The newest row, for the terminal.
  static func lines(_ results: RowResults) -> String {
    var lines: [String] = []
    for part in results.row.parts.indices {
      lines.append("\(results.row.id): \(results.row.parts[part].name)")
      for contender in results.row.contenders {
        let name = contender.name.padding(toLength: 24, withPad: " ", startingAt: 0)
        lines.append("  \(name) \(figures(results, contender, part))")
      }
      for goal in results.row.parts[part].goals {
        let verdict = goal.verdict(results, part: part)
        lines.append("  goal \(verdict.goal): \(written(verdict).replacingOccurrences(of: "**", with: ""))")
      }
    }
    return lines.joined(separator: "\n")
  }
}

/// The figures for programs: every run of every contender.
struct JSONReport: Encodable {
  struct Figure: Encodable {
    var contender: String
    /// By the name of the quantity; rates a second, times in seconds, memory in bytes.
    var runs: [[String: Double]?]
    var figures: [String: Double]
    var failure: String?
  }

  struct Part: Encodable {
    var id: String
    var work: String
    var physicalLimit: String?
    var figures: [Figure]
    var goals: [Goal.Verdict]
  }

  var machine: Machine
  var scale: Double
  var rows: [Part]

  init(_ report: Report) {
    machine = report.machine
    scale = report.scale
    rows = report.rows.flatMap { results in
      results.row.parts.indices.map { part in
        Part(
          id: results.row.id, work: results.row.parts[part].name, physicalLimit: results.row.scenario.limitMeaning,
          figures: results.row.contenders.map { JSONReport.figure(results, $0, part) },
          goals: results.row.parts[part].goals.map { $0.verdict(results, part: part) })
      }
    }
  }

  private static func figure(_ results: RowResults, _ contender: Contender, _ part: Int) -> Figure {
    let runs = (results.runs[contender] ?? []).map { run in
      run.map { Dictionary(uniqueKeysWithValues: $0[part].values.map { ($0.key.rawValue, $0.value) }) }
    }
    let figures = Quantity.allCases.compactMap { quantity in
      results.figure(contender, quantity, part: part).map { (quantity.rawValue, $0) }
    }
    return Figure(
      contender: contender.name, runs: runs, figures: Dictionary(uniqueKeysWithValues: figures),
      failure: results.failures[contender])
  }
}
