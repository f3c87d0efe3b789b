// All runs of a row.

import BenchmarkSupport

struct RowResults {
  let row: Row
  /// Run by run; nil where it failed.
  var runs: [Contender: [[Measurement]?]] = [:]
  /// Why the last failure came about.
  var failures: [Contender: String] = [:]

  /// Of those runs that worked.
  func median(_ contender: Contender, _ value: ([Measurement]) -> Double) -> Double? {
    BenchmarkSupport.median((runs[contender] ?? []).compactMap { $0.map(value) })
  }

  /// Of those runs that worked for both, each beside its peer in the same run.
  func median(_ own: Contender, _ peer: Contender, _ value: ([Measurement], [Measurement]) -> Double) -> Double? {
    BenchmarkSupport.median(
      zip(runs[own] ?? [], runs[peer] ?? []).compactMap { own, peer in
        guard let own, let peer else { return nil }
        return value(own, peer)
      })
  }

  /// The highest of the runs.
  func peak(_ contender: Contender, part: Int) -> Int? {
    (runs[contender] ?? []).compactMap { $0?[part].peakAnonymousBytes }.max()
  }

  /// The run in the middle, for what has no median of its own.
  func latency(_ contender: Contender, part: Int) -> Latency? {
    let latencies = (runs[contender] ?? []).compactMap { $0?[part].latency }
    guard let p50 = BenchmarkSupport.median(latencies.map(\.p50Microseconds)),
      let p99 = BenchmarkSupport.median(latencies.map(\.p99Microseconds)),
      let p999 = BenchmarkSupport.median(latencies.map(\.p999Microseconds))
    else { return nil }
    return Latency(p50Microseconds: p50, p99Microseconds: p99, p999Microseconds: p999)
  }

  func note(_ contender: Contender, part: Int) -> String? {
    runs[contender]?.compactMap { $0?[part].note }.last
  }

  /// Contenders that read the same have seen the same; otherwise one of them is wrong and the row says nothing.
  func disagreement(inRun run: Int) -> String? {
    for part in row.parts.indices {
      let sums = runs.compactMap { contender, runs in
        runs.indices.contains(run) ? runs[run]?[part].sum.map { (contender, $0) } : nil
      }
      if let first = sums.first, let other = sums.first(where: { $0.1 != first.1 }) {
        return "\(first.0.name) and \(other.0.name) read different bytes"
      }
    }
    return nil
  }
}
