// What the report says of a row.

import BenchmarkSupport

extension Row: NamedRow {
  var name: String { parts[0].name }
}

extension RowResults: ReportedRow {
  struct Figure: Encodable {
    var contender: String
    /// By the name of the quantity; rates a second, times in seconds, memory in bytes.
    var runs: [[String: Double]?]
    var figures: [String: Double]
    var failure: String?
  }

  var id: String { row.id }
  var partNames: [String] { row.parts.map(\.name) }
  var contenders: [Contender] { row.contenders }
  var limitMeaning: String? { row.scenario.limitMeaning }

  func verdicts(part: Int) -> [Verdict] { row.parts[part].goals.map { $0.verdict(self, part: part) } }

  /// What the row is about, and in parentheses what else was seen.
  func text(_ contender: Contender, part: Int) -> String {
    var texts = row.parts[part].shows.compactMap { quantity in
      figure(contender, quantity, part: part).map(quantity.text)
    }
    if let note = note(contender, part: part) { texts.append(note) }
    if let failure = failures[contender] {
      texts.append(texts.isEmpty ? "not measured: \(failure)" : "a run failed: \(failure)")
    }
    guard let first = texts.first else { return "" }
    return texts.count == 1 ? first : "\(first) (\(texts.dropFirst().joined(separator: "; ")))"
  }

  func figure(_ contender: Contender, part: Int) -> Figure {
    let runs = (runs[contender] ?? []).map { run in
      run.map { Dictionary(uniqueKeysWithValues: $0[part].values.map { ($0.key.rawValue, $0.value) }) }
    }
    let figures = Quantity.allCases.compactMap { quantity in
      figure(contender, quantity, part: part).map { (quantity.rawValue, $0) }
    }
    return Figure(
      contender: contender.name, runs: runs, figures: Dictionary(uniqueKeysWithValues: figures),
      failure: failures[contender])
  }
}
