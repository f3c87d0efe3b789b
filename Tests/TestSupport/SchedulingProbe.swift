// How late threads run on this machine at present, and how long its disk makes them wait, measured beside a test whose
// bounds are times: what a busy machine adds is told from what the program under test does.

import Foundation
import Synchronization

/// Microseconds of the clock that all processes of a machine share and that nobody sets.
package func monotonicMicroseconds() -> Int {
  var time = timespec()
  unsafe clock_gettime(CLOCK_MONOTONIC, &time)
  return Int(time.tv_sec) * 1_000_000 + Int(time.tv_nsec) / 1_000
}

/// A thread that sleeps a millisecond, again and again, and remembers when it woke up late; and one that now and then makes
/// a byte durable, and remembers how long that took.
package final class SchedulingProbe: Sendable {
  private final class Record: Sendable {
    let isOver = Atomic(false)
    let delays = Mutex<[(from: Int, through: Int)]>([])
  }
  private let record = Record()

  /// The disk is watched where there is a `directory`.
  package init(disk directory: String? = nil) {
    watch(every: 1_000, ignoring: 500) { usleep(1_000) }
    guard let directory else { return }
    let file = unsafe open("\(directory)/probe", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
    precondition(file >= 0, "no file can be made in \(directory)")
    watch(every: 0, ignoring: 1_000) {
      unsafe pwrite(file, "x", 1, 0)
      fsync(file)
    } meanwhile: {
      usleep(20_000)
    } ended: {
      close(file)
    }
  }

  /// Notes what `body` takes longer than `usual` microseconds, unless that is no more than a little.
  private func watch(
    every usual: Int, ignoring little: Int, _ body: @escaping @Sendable () -> Void,
    meanwhile rest: @escaping @Sendable () -> Void = {}, ended: @escaping @Sendable () -> Void = {}
  ) {
    let thread = Thread { [record] in
      while !record.isOver.load(ordering: .relaxed) {
        let due = monotonicMicroseconds() + usual
        body()
        let now = monotonicMicroseconds()
        if now > due + little { record.delays.withLock { $0.append((due, now)) } }
        rest()
      }
      ended()
    }
    thread.start()
  }

  deinit { record.isOver.store(true, ordering: .relaxed) }

  /// The longest delay, in microseconds, that began or ended between then and now.
  package func worst(since moment: Int, through end: Int = .max) -> Int {
    record.delays.withLock { delays in
      delays.filter { $0.through >= moment && $0.from <= end }.map { $0.through - $0.from }.max() ?? 0
    }
  }
}
