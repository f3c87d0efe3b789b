// What the report says of a row.

import BenchmarkSupport

extension Row: NamedRow {
  var name: String { parts[0].name }
}

extension RowResults: ReportedRow {
  struct Figure: Encodable {
    var contender: String
    var runs: [Measurement?]
    var medianPerSecond: Double?
    var medianSeconds: Double?
    var peakAnonymousBytes: Int?
    var failure: String?
  }

  var id: String { row.id }
  var partNames: [String] { row.parts.map(\.name) }
  var contenders: [Contender] { row.contenders }
  var limitMeaning: String? { row.measure.limitMeaning }

  func verdicts(part: Int) -> [Verdict] { row.parts[part].goals.map { $0.verdict(self, part: part) } }

  func text(_ contender: Contender, part: Int) -> String {
    let isDuration = row.parts[part].isDuration
    let value = median(contender) { isDuration ? $0[part].seconds : $0[part].perSecond }
    guard let value else { return "failed: \(failures[contender] ?? "no run")" }
    var text = isDuration ? value.duration : "\(value.grouped)/s"
    if let latency = latency(contender, part: part) { text += " (p99 \((latency.p99Microseconds / 1e6).duration))" }
    if let bytes = median(contender, { Double($0[part].writtenBytes ?? 0) }), bytes > 0 {
      text += " (\(bytes.amount) written)"
    }
    if let note = note(contender, part: part) { text += " (\(note))" }
    if let failure = failures[contender] { text += " (a run failed: \(failure))" }
    return text
  }

  func figure(_ contender: Contender, part: Int) -> Figure {
    Figure(
      contender: contender.name, runs: (runs[contender] ?? []).map { $0?[part] },
      medianPerSecond: median(contender) { $0[part].perSecond }, medianSeconds: median(contender) { $0[part].seconds },
      peakAnonymousBytes: peak(contender, part: part), failure: failures[contender])
  }

  // MARK: Memory

  /// "The whole table, any row": what the store's memory must stay within.
  private static let anonymousBytesGoal = 64_000_000

  /// A second table, of peaks.
  static func memory(_ rows: [RowResults]) -> [String] {
    let columns = Contender.columns.dropLast()
    return [
      "", "Peak anonymous memory, highest of the runs (goal for kvsync: ≤ 64 MB in every row, flat):", "",
      "| work | " + columns.map(\.name).joined(separator: " | ") + " | goal |",
      "| --- |" + String(repeating: " ---: |", count: columns.count) + " --- |",
    ] + rows.flatMap(\.memory)
  }

  private var memory: [String] {
    row.parts.indices.compactMap { part in
      let peaks = Contender.columns.dropLast().map { column in
        row.contenders.filter { $0.column == column }.compactMap { peak($0, part: part) }.max()
      }
      guard peaks.contains(where: { $0 != nil }) else { return nil }
      let verdict = peaks[0].map { $0 <= Self.anonymousBytesGoal ? "met" : "**missed**" } ?? "not measured"
      let cells = peaks.map { $0.map { Double($0).amount } ?? "" }
      return "| " + ([row.parts[part].name] + cells + [verdict]).joined(separator: " | ") + " |"
    }
  }
}
