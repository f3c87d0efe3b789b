// The figures as Markdown for people and as JSON for programs. Written again after each row, so that a run that is
// interrupted leaves what it has.

import Foundation

/// Whether a goal was reached.
public struct Verdict: Codable, Sendable {
  var goal: String
  /// As measured; nil when that failed.
  var value: String?
  var isMet: Bool?

  public init(goal: String, value: String?, isMet: Bool?) {
    self.goal = goal
    self.value = value
    self.isMet = isMet
  }

  fileprivate var written: String {
    guard let value, let isMet else { return "not measured" }
    return isMet ? "\(value), met" : "**\(value), missed**"
  }
}

/// Who is measured: an engine, or a variant of one, which stands in its column.
public protocol ReportedContender: Equatable {
  static var columns: [Self] { get }
  var column: Self { get }
  var name: String { get }
}

/// All runs of a row.
public protocol ReportedRow {
  associatedtype Contender: ReportedContender
  /// What the JSON says of a contender.
  associatedtype Figure: Encodable

  var id: String { get }
  var partNames: [String] { get }
  var contenders: [Contender] { get }
  var limitMeaning: String? { get }
  func verdicts(part: Int) -> [Verdict]
  /// In words; empty when there is nothing to be said.
  func text(_ contender: Contender, part: Int) -> String
  func figure(_ contender: Contender, part: Int) -> Figure
}

public struct Report<Row: ReportedRow> {
  private let machine: Machine
  private let scale: Double
  /// What holds for all rows: sizes, runs.
  private let conditions: String
  private var rows: [Row] = []

  public init(machine: Machine, scale: Double, conditions: String) {
    self.machine = machine
    self.scale = scale
    self.conditions = conditions
  }

  public mutating func add(_ row: Row) { rows.append(row) }

  /// `further` goes between the table and the notes.
  public func write(markdown: String, json: String, further: ([Row]) -> [String] = { _ in [] }) throws {
    for path in [markdown, json] {
      let folder = URL(fileURLWithPath: path).deletingLastPathComponent()
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }
    try text(further(rows)).write(toFile: markdown, atomically: true, encoding: .utf8)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    let parts = rows.flatMap { row in row.partNames.indices.map(row.json) }
    let file = JSONReport(machine: machine, scale: scale, rows: parts)
    try encoder.encode(file).write(to: URL(fileURLWithPath: json), options: .atomic)
  }

  // MARK: Markdown

  private func text(_ further: [String]) -> String {
    var lines = ["\(machine.summary); \(conditions)", ""]
    if scale != 1 { lines += ["**Sizes are scaled by \(scale): this is not the table.**", ""] }
    let columns = Row.Contender.columns
    lines += [
      "| work | " + columns.map(\.name).joined(separator: " | ") + " | goal | measured |",
      "| --- |" + String(repeating: " ---: |", count: columns.count) + " --- | --- |",
    ]
    lines += rows.flatMap { row in row.partNames.indices.map(row.line) }
    lines += further
    lines += ["", "The physical limit is what the machine does without an engine:", ""]
    lines += rows.compactMap { row in row.limitMeaning.map { "- \(row.partNames[0]): \($0)" } }
    lines += ["", "Peers:", ""]
    lines += machine.peers.sorted { $0.key < $1.key }.map { "- \($0.key) \($0.value)" }
    return lines.joined(separator: "\n") + "\n"
  }
}

extension ReportedRow {
  /// One part's line of the table.
  fileprivate func line(_ part: Int) -> String {
    let verdicts = verdicts(part: part)
    let cells =
      [partNames[part]] + Contender.columns.map { cell($0, part) } + [
        verdicts.map(\.goal).joined(separator: "<br>"), verdicts.map(\.written).joined(separator: "<br>"),
      ]
    return "| " + cells.joined(separator: " | ") + " |"
  }

  /// All contenders that stand in a column.
  private func cell(_ column: Contender, _ part: Int) -> String {
    contenders.filter { $0.column == column }.map { contender in
      (contender == column ? "" : "\(contender.name): ") + text(contender, part: part)
    }
    .joined(separator: "<br>")
  }

  /// For the terminal.
  public var lines: String {
    partNames.indices.flatMap { part in
      ["\(id): \(partNames[part])"]
        + contenders.map { contender in
          "  \(contender.name.padding(toLength: 24, withPad: " ", startingAt: 0)) \(text(contender, part: part))"
        }
        + verdicts(part: part).map { "  goal \($0.goal): \($0.written.replacingOccurrences(of: "**", with: ""))" }
    }
    .joined(separator: "\n")
  }

  fileprivate func json(_ part: Int) -> JSONPart<Figure> {
    JSONPart(
      id: id, work: partNames[part], physicalLimit: limitMeaning,
      figures: contenders.map { figure($0, part: part) }, goals: verdicts(part: part))
  }
}

private struct JSONPart<Figure: Encodable>: Encodable {
  var id: String
  var work: String
  var physicalLimit: String?
  var figures: [Figure]
  var goals: [Verdict]
}

private struct JSONReport<Figure: Encodable>: Encodable {
  var machine: Machine
  var scale: Double
  var rows: [JSONPart<Figure>]
}
