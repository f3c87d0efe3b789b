// The figures for programs: every run of every contender.

import BenchmarkSupport

struct JSONReport: Encodable {
  struct Figure: Encodable {
    var contender: String
    var runs: [Measurement?]
    var medianPerSecond: Double?
    var medianSeconds: Double?
    var peakAnonymousBytes: Int?
    var failure: String?
  }

  struct Part: Encodable {
    var id: String
    var work: String
    var physicalLimit: String
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
          id: results.row.id, work: results.row.parts[part].name, physicalLimit: results.row.measure.limitMeaning,
          figures: results.row.contenders.map { contender in
            Figure(
              contender: contender.name, runs: (results.runs[contender] ?? []).map { $0?[part] },
              medianPerSecond: results.median(contender) { $0[part].perSecond },
              medianSeconds: results.median(contender) { $0[part].seconds },
              peakAnonymousBytes: results.peak(contender, part: part), failure: results.failures[contender])
          },
          goals: results.row.parts[part].goals.map { $0.verdict(results, part: part) })
      }
    }
  }
}
