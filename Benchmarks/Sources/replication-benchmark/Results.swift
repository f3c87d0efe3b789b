// All runs of a row.

import BenchmarkSupport

struct RowResults {
  let row: Row
  /// Run by run, a measurement for each part; nil where it failed.
  var runs: [Contender: [[Measurement]?]] = [:]
  /// Why the last failure came about, or why a contender was not measured.
  var failures: [Contender: String] = [:]

  /// Of those runs that worked.
  func median(_ contender: Contender, _ value: ([Measurement]) -> Double?) -> Double? {
    BenchmarkSupport.median((runs[contender] ?? []).compactMap { $0.flatMap(value) })
  }

  func median(_ contender: Contender, _ quantity: Quantity, part: Int) -> Double? {
    median(contender) { $0[part][quantity] }
  }

  /// Of those runs that worked for both, each beside its peer in the same run.
  func median(_ own: Contender, _ peer: Contender, _ value: ([Measurement], [Measurement]) -> Double?) -> Double? {
    BenchmarkSupport.median(
      zip(runs[own] ?? [], runs[peer] ?? []).compactMap { own, peer in
        guard let own, let peer else { return nil }
        return value(own, peer)
      })
  }

  func highest(_ contender: Contender, _ quantity: Quantity, part: Int) -> Double? {
    (runs[contender] ?? []).compactMap { $0?[part][quantity] }.max()
  }

  /// The figure of a part: peaks and what must never happen are the highest of the runs, everything else the median.
  func figure(_ contender: Contender, _ quantity: Quantity, part: Int) -> Double? {
    switch quantity {
    case .replicaMemory, .hubMemory, .longestStall, .reachWorst: highest(contender, quantity, part: part)
    default: median(contender, quantity, part: part)
    }
  }

  func note(_ contender: Contender, part: Int) -> String? {
    runs[contender]?.compactMap { $0?[part].note }.last
  }
}
