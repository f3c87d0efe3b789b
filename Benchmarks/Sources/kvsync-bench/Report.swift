// Rows of figures, as an aligned table for people, Markdown for the README, JSON for programs.

import Foundation

struct Figure: Codable {
  var work: String
  var contender: String
  /// Operations per second; the median of the runs.
  var perSecond: Double?
  /// Relative to the peer in the same run.
  var ratio: Double?
  /// Peak anonymous resident memory in bytes.
  var peakAnonymousBytes: Int?
  var note: String?
}

struct Report {
  var figures: [Figure] = []

  mutating func add(_ figure: Figure) {
    figures.append(figure)
    FileHandle.standardError.write(Data((Report.line(figure) + "\n").utf8))
  }

  static func line(_ figure: Figure) -> String {
    let columns = Report.columns(figure)
    return zip(columns, [52, 24, 14, 8, 10]).map {
      $0.padding(toLength: max($1, $0.count), withPad: " ", startingAt: 0)
    }
    .joined(separator: " ")
  }

  private static func columns(_ figure: Figure) -> [String] {
    [
      figure.work, figure.contender, figure.perSecond.map(grouped) ?? "",
      figure.ratio.map { String(format: "%.2fx", $0) } ?? "",
      figure.peakAnonymousBytes.map { String(format: "%.1f MB", Double($0) / 1e6) } ?? "", figure.note ?? "",
    ]
  }

  private static func grouped(_ value: Double) -> String {
    var digits = String(Int(value.rounded()))
    var index = digits.count - 3
    while index > 0 {
      digits.insert(",", at: digits.index(digits.startIndex, offsetBy: index))
      index -= 3
    }
    return digits + "/s"
  }

  var markdown: String {
    var lines = ["| work | contender | rate | ratio | peak anonymous | |", "| --- | --- | ---: | ---: | ---: | --- |"]
    for figure in figures { lines.append("| " + Report.columns(figure).joined(separator: " | ") + " |") }
    return lines.joined(separator: "\n") + "\n"
  }

  func write(markdown: String?, json: String?) throws {
    if let markdown { try self.markdown.write(toFile: markdown, atomically: true, encoding: .utf8) }
    if let json {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
      try encoder.encode(figures).write(to: URL(fileURLWithPath: json))
    }
    if markdown == nil, json == nil { print(self.markdown, terminator: "") }
  }
}
