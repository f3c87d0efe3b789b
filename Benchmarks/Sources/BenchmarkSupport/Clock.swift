// Seconds, and what is made of several runs.

import Foundation

/// Seconds that `body` takes.
public func time(_ body: () throws -> Void) rethrows -> Double {
  let stopwatch = Stopwatch()
  try body()
  return stopwatch.seconds
}

public func time(_ body: () async throws -> Void) async rethrows -> Double {
  let stopwatch = Stopwatch()
  try await body()
  return stopwatch.seconds
}

/// Runs from its creation.
public struct Stopwatch: Sendable {
  private let start = ContinuousClock.now

  public init() {}

  public var seconds: Double { (ContinuousClock.now - start) / .seconds(1) }
  public var nanoseconds: Int { Int((ContinuousClock.now - start) / .nanoseconds(1)) }
}

/// nil of no values.
public func median(_ values: [Double]) -> Double? {
  let sorted = values.sorted()
  guard !sorted.isEmpty else { return nil }
  let middle = sorted.count / 2
  return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/// What the share `share` of the values stays within; nil of no values.
public func quantile(_ share: Double, of values: [Double]) -> Double? {
  let sorted = values.sorted()
  guard !sorted.isEmpty else { return nil }
  return sorted[min(sorted.count - 1, max(0, Int((Double(sorted.count) * share).rounded(.up)) - 1))]
}

/// Nanoseconds of a clock that all processes of this machine share.
public func sharedNanoseconds() -> UInt64 {
  var time = timespec()
  unsafe clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}
