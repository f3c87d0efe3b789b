// The time of a commit: a hybrid logical clock in 64 bits.
//
// Invariants:
// - 48 bits of Unix milliseconds above a 16-bit counter: comparing raw values compares times, and a time drawn after
//   another one is greater even when the clock stands still or goes back.

#if canImport(FoundationEssentials)
  public import FoundationEssentials
#else
  public import Foundation
#endif

/// When a commit was made: a hybrid logical clock, after S. Kulkarni et al., "Logical Physical Clocks and Consistent
/// Snapshots in Globally Distributed Databases" (2014).
///
/// It orders concurrent edits; it is never used to order commits of one log.
public struct HybridTime: Comparable, Hashable, Sendable {
  /// Unix milliseconds in the upper 48 bits, a counter in the lower 16.
  public let rawValue: UInt64

  /// The time with these 64 bits.
  @inlinable
  public init(rawValue: UInt64) {
    self.rawValue = rawValue
  }

  /// Milliseconds since 1970 (clamped to 48 bits, which last until the year 10889) and a counter within them.
  public init(milliseconds: UInt64, counter: UInt16 = 0) {
    rawValue = min(milliseconds, 1 << 48 - 1) << 16 | UInt64(counter)
  }

  /// Milliseconds since 1970, UTC.
  public var milliseconds: UInt64 { rawValue >> 16 }
  /// Tells times of one millisecond apart, in order.
  public var counter: UInt16 { UInt16(truncatingIfNeeded: rawValue) }

  /// The time to give the next commit: the clock's, or just after `last` when the clock is not beyond it.
  package static func next(after last: HybridTime, clockMilliseconds: UInt64) -> HybridTime {
    let clock = HybridTime(milliseconds: clockMilliseconds)
    return clock > last ? clock : HybridTime(rawValue: last.rawValue == .max ? .max : last.rawValue + 1)
  }

  /// Earlier milliseconds first; of the same millisecond, the lower counter.
  @inlinable
  public static func < (left: HybridTime, right: HybridTime) -> Bool {
    left.rawValue < right.rawValue
  }
}

extension HybridTime {
  /// The wall-clock part; the counter is left out.
  public var date: Date { Date(timeIntervalSince1970: Double(milliseconds) / 1000) }

  /// The time of `date`, with counter 0. Dates before 1970 become 1970.
  public init(date: Date) {
    let milliseconds = (date.timeIntervalSince1970 * 1000).rounded(.down)
    self.init(milliseconds: UInt64(max(0, min(milliseconds, Double(UInt64(1) << 48 - 1)))))
  }
}
