// How long many short things took.

/// What half, and all but a hundredth and a thousandth, of some durations stayed within.
public struct Latency: Codable, Sendable {
  public var p50Microseconds: Double
  public var p99Microseconds: Double
  public var p999Microseconds: Double

  public init(p50Microseconds: Double, p99Microseconds: Double, p999Microseconds: Double) {
    self.p50Microseconds = p50Microseconds
    self.p99Microseconds = p99Microseconds
    self.p999Microseconds = p999Microseconds
  }
}

/// Counts of durations in steps of about 3 %, in fixed memory.
public struct Histogram: Sendable {
  private var counts = [UInt32](repeating: 0, count: 64 << Histogram.stepBits)
  private var total = 0
  private static let stepBits = 5

  public init() {}

  public mutating func add(nanoseconds: Int) {
    let value = UInt64(max(nanoseconds, 1 << Histogram.stepBits))
    let exponent = 63 - value.leadingZeroBitCount
    let step = Int(truncatingIfNeeded: value >> UInt64(exponent - Histogram.stepBits)) & (1 << Histogram.stepBits - 1)
    counts[exponent << Histogram.stepBits | step] += 1
    total += 1
  }

  public mutating func add(_ other: Histogram) {
    for index in counts.indices { counts[index] += other.counts[index] }
    total += other.total
  }

  /// nil when nothing was added.
  public var latency: Latency? {
    guard total > 0 else { return nil }
    return Latency(
      p50Microseconds: quantile(0.5), p99Microseconds: quantile(0.99), p999Microseconds: quantile(0.999))
  }

  private func quantile(_ share: Double) -> Double {
    var left = Int((Double(total) * share).rounded(.up))
    for (index, count) in counts.enumerated() {
      left -= Int(count)
      if left <= 0 {
        let exponent = index >> Histogram.stepBits
        let step = index & (1 << Histogram.stepBits - 1)
        return Double((1 << Histogram.stepBits + step) << (exponent - Histogram.stepBits)) / 1_000
      }
    }
    return 0
  }
}
