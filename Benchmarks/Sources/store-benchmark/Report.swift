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

  /// "The whole table, any row": what the store's memory must stay within.
  static let anonymousBytesGoal = 64_000_000

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
      "\(machine.summary); 16-byte keys, 100-byte values that do not compress; medians of \(runs) runs (\(largeRuns) where the row takes "
        + "minutes), each beside the peers in the same run.",
      "",
    ]
    if scale != 1 { lines += ["**Sizes are scaled by \(scale): this is not the table.**", ""] }
    lines += [
      "| work | " + Contender.columns.map(\.name).joined(separator: " | ") + " | goal | measured |",
      "| --- |" + String(repeating: " ---: |", count: Contender.columns.count) + " --- | --- |",
    ]
    lines += rows.flatMap { Report.table($0) }
    lines += ["", "Peak anonymous memory, highest of the runs (goal for kvsync: ≤ 64 MB in every row, flat):", ""]
    lines += [
      "| work | " + Contender.columns.dropLast().map(\.name).joined(separator: " | ") + " | goal |",
      "| --- |" + String(repeating: " ---: |", count: Contender.columns.count - 1) + " --- |",
    ]
    lines += rows.flatMap { Report.memory($0) }
    lines += ["", "The physical limit is what the machine does without an engine:", ""]
    lines += rows.map { "- \($0.row.parts[0].name): \($0.row.measure.limitMeaning)" }
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
      return name + figure(results, contender, part)
    }
    .joined(separator: "<br>")
  }

  static func figure(_ results: RowResults, _ contender: Contender, _ part: Int) -> String {
    let isDuration = results.row.parts[part].isDuration
    let value = results.median(contender) { isDuration ? $0[part].seconds : $0[part].perSecond }
    guard let value else { return "failed: \(results.failures[contender] ?? "no run")" }
    var text = isDuration ? value.duration : "\(value.grouped)/s"
    if let latency = results.latency(contender, part: part) {
      text += " (p99 \(latency.p99Microseconds.microseconds))"
    }
    if let bytes = results.median(contender, { Double($0[part].writtenBytes ?? 0) }), bytes > 0 {
      text += " (\(bytes.amount) written)"
    }
    if let note = results.note(contender, part: part) { text += " (\(note))" }
    if let failure = results.failures[contender] { text += " (a run failed: \(failure))" }
    return text
  }

  private static func written(_ verdict: Goal.Verdict) -> String {
    guard let value = verdict.value, let isMet = verdict.isMet else { return "not measured" }
    return isMet ? "\(value), met" : "**\(value), missed**"
  }

  private static func memory(_ results: RowResults) -> [String] {
    results.row.parts.indices.compactMap { part in
      guard results.row.contenders.contains(where: { results.peak($0, part: part) != nil }) else { return nil }
      let cells = Contender.columns.dropLast().map { column in
        results.row.contenders.filter { $0.column == column }.compactMap { results.peak($0, part: part) }.max()
          .map { Double($0).amount } ?? ""
      }
      let own = results.row.contenders.filter { $0.column == .kvsync }.compactMap { results.peak($0, part: part) }.max()
      let verdict = own.map { $0 <= anonymousBytesGoal ? "met" : "**missed**" } ?? "not measured"
      return "| " + ([results.row.parts[part].name] + cells + [verdict]).joined(separator: " | ") + " |"
    }
  }

  /// The newest row, for the terminal.
  static func lines(_ results: RowResults) -> String {
    var lines: [String] = []
    for part in results.row.parts.indices {
      lines.append("\(results.row.id): \(results.row.parts[part].name)")
      for contender in results.row.contenders {
        let name = contender.name.padding(toLength: 24, withPad: " ", startingAt: 0)
        let memory = results.peak(contender, part: part).map { ", \(Double($0).amount)" } ?? ""
        lines.append("  \(name) \(figure(results, contender, part))\(memory)")
      }
      for goal in results.row.parts[part].goals {
        let verdict = goal.verdict(results, part: part)
        lines.append("  goal \(verdict.goal): \(written(verdict).replacingOccurrences(of: "**", with: ""))")
      }
    }
    return lines.joined(separator: "\n")
  }
}

extension Double {
  /// Microseconds, in the unit that suits them.
  fileprivate var microseconds: String { (self / 1e6).duration }
}
