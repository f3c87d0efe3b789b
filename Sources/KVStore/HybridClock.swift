// The hybrid logical clock: wall time where it moves on, a counter where it stands still or goes back.
//
// S. Kulkarni et al., "Logical Physical Clocks and Consistent Snapshots in Globally Distributed Databases" (2014).

import Foundation
import KVLog

enum HybridClock {
  /// A time after `last` and not before the wall clock; a `last` that is further ahead of the wall clock than the
  /// tolerance is not followed, so that one replica with a wrong clock does not take the others along.
  ///
  /// `salt` tells the commits of a store and of its copy apart: both give the next version, and would give the next time
  /// too, where the clock is behind what they had seen.
  static func next(
    after last: HybridTime, wall milliseconds: UInt64 = wallMilliseconds(),
    salt: UInt64 = .random(in: 0..<saltBound)
  ) -> HybridTime {
    let wall = milliseconds << 16
    let tolerance = UInt64(StoreLimits.clockTolerance / .milliseconds(1)) << 16
    return HybridTime(rawValue: max(wall, min(last.rawValue, wall + tolerance) + 1) + salt)
  }

  /// A sixty-fourth of a millisecond: the times of a thousand commits in a row are 8 ms ahead at most.
  static let saltBound: UInt64 = 1 << 10

  static func wallMilliseconds() -> UInt64 {
    UInt64(max(0, Date().timeIntervalSince1970 * 1000))
  }
}
