// Moments on the clock that nobody sets: a wait neither ends early nor stalls when the time of day is changed.

import Foundation

/// A moment of the monotonic clock, which all processes of a machine share.
struct Deadline: Sendable {
  private let nanoseconds: UInt64

  init(secondsFromNow seconds: Double) { nanoseconds = Deadline.now + UInt64(seconds * 1e9) }

  var isOver: Bool { Deadline.now >= nanoseconds }

  #if canImport(Darwin)
    var remaining: timespec { timespec(nanoseconds: nanoseconds - min(nanoseconds, Deadline.now)) }
  #else
    /// For conditions that count on the monotonic clock.
    var time: timespec { timespec(nanoseconds: nanoseconds) }
  #endif

  private static var now: UInt64 {
    var time = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }
}

extension timespec {
  fileprivate init(nanoseconds: UInt64) {
    self.init(tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
  }
}
