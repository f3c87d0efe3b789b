// How late threads run on this machine at present, measured beside a test whose bounds are times: what a busy machine adds
// is told from what the program under test does.

import Foundation
import Synchronization

/// Microseconds of the clock that all processes of a machine share and that nobody sets.
package func monotonicMicroseconds() -> Int {
  var time = timespec()
  unsafe clock_gettime(CLOCK_MONOTONIC, &time)
  return Int(time.tv_sec) * 1_000_000 + Int(time.tv_nsec) / 1_000
}

/// A thread that sleeps a millisecond, again and again, and remembers when it woke up late.
package final class SchedulingProbe: Sendable {
  private final class Record: Sendable {
    let isOver = Atomic(false)
    let delays = Mutex<[(from: Int, through: Int)]>([])
  }
  private let record = Record()

  package init() {
    let thread = Thread { [record] in
      while !record.isOver.load(ordering: .relaxed) {
        let due = monotonicMicroseconds() + 1_000
        usleep(1_000)
        let now = monotonicMicroseconds()
        if now > due + 500 { record.delays.withLock { $0.append((due, now)) } }
      }
    }
    thread.start()
  }

  deinit { record.isOver.store(true, ordering: .relaxed) }

  /// The longest delay, in microseconds, of a wake-up that was due or late between then and now.
  package func worst(since moment: Int, through end: Int = .max) -> Int {
    record.delays.withLock { delays in
      delays.filter { $0.through >= moment && $0.from <= end }.map { $0.through - $0.from }.max() ?? 0
    }
  }
}
