// What one run of one contender gave.

struct Measurement: Codable, Sendable {
  var operations: Int
  var seconds: Double
  /// Of single operations, where those were timed.
  var latency: Latency?
  /// Of all that was read: contenders that read the same have the same.
  var sum: UInt64?
  /// Peak anonymous resident memory of the process up to the end of this part, in bytes.
  var peakAnonymousBytes: Int?
  /// Given to write calls by the process up to the end of this part, in bytes.
  var writtenBytes: Int?
  /// What a reader of the figure has to know.
  var note: String?

  var perSecond: Double { Double(operations) / seconds }
}

struct Latency: Codable, Sendable {
  var p50Microseconds: Double
  var p99Microseconds: Double
  var p999Microseconds: Double
}

/// Counts of durations in steps of about 3 %, in fixed memory.
struct Histogram: Sendable {
  private var counts = [UInt32](repeating: 0, count: 64 << Histogram.stepBits)
  private var total = 0
  private static let stepBits = 5

  mutating func add(nanoseconds: Int) {
    let value = UInt64(max(nanoseconds, 1 << Histogram.stepBits))
    let exponent = 63 - value.leadingZeroBitCount
    let step = Int(truncatingIfNeeded: value >> UInt64(exponent - Histogram.stepBits)) & (1 << Histogram.stepBits - 1)
    counts[exponent << Histogram.stepBits | step] += 1
    total += 1
  }

  mutating func add(_ other: Histogram) {
    for index in counts.indices { counts[index] += other.counts[index] }
    total += other.total
  }

  /// nil when nothing was added.
  var latency: Latency? {
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

/// What a child process tells the one that started it.
enum Answer: Codable {
  case measurements([Measurement])
  case failure(String)
}
