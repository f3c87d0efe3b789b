// Rows of figures, as an aligned table for people, Markdown for the README, JSON for programs.

import BenchmarkSupport
import Foundation

struct Figure: Codable {
  var work: String
  var contender: String
  /// Operations per second; the median of the runs.
  var perSecond: Double?
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
    return zip(columns, [52, 24, 14, 10]).map {
      $0.padding(toLength: max($1, $0.count), withPad: " ", startingAt: 0)
    }
    .joined(separator: " ")
  }

  private static func columns(_ figure: Figure) -> [String] {
    [
      figure.work, figure.contender, figure.perSecond.map { $0.grouped + "/s" } ?? "",
      figure.peakAnonymousBytes.map { String(format: "%.1f MB", Double($0) / 1e6) } ?? "", figure.note ?? "",
    ]
  }

  var markdown: String {
    var lines = ["| work | contender | rate | peak anonymous | |", "| --- | --- | ---: | ---: | --- |"]
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
