// What one run of one contender gave.

import BenchmarkSupport

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

/// What a child process tells the one that started it.
enum Answer: Codable {
  case measurements([Measurement])
  case failure(String)
}
