// How fast a backlog would be drained if an engine cost nothing: its bytes through a socket into a file.

import BenchmarkSupport
import Foundation
import Synchronization

enum LoopbackLimit {
  /// What the log adds to a change and to a commit.
  private static let changeBytes = 7 + Workload.changeBytes
  private static let commitBytes = 120
  private static let segmentBytes = 128 << 10
  private static let syncedBytes = 1 << 20

  static let meaning =
    "the log's bytes sent over loopback by one thread, and written over a file that is there by another, with a sync each "
    + "MiB"

  static func drain(_ backlog: Backlog, _ place: Place) throws -> Measurement {
    // More than a gigabyte tells nothing new.
    let changes = min(backlog.changes, 8_000_000)
    let bytes = changes * changeBytes + changes / backlog.perCommit * commitBytes
    let file = try RawFile(place.scratch + "/limit", bytes: 64 << 20)
    sync()
    let (sender, receiver) = try Socket.pair()
    let sending = Thread {
      let segment = [UInt8](repeating: 0x5A, count: segmentBytes)
      for _ in 0..<(bytes + segmentBytes - 1) / segmentBytes {
        do { try sender.send(segment) } catch { return }
      }
    }
    let stopwatch = Stopwatch()
    sending.start()
    var buffer = [UInt8](repeating: 0, count: segmentBytes)
    var (received, unsynced) = (0, 0)
    while received < bytes {
      let count = try receiver.receive(into: &buffer)
      guard count > 0 else { throw BenchmarkError("the sender ended early") }
      try file.write(count, at: received)
      received += count
      unsynced += count
      if unsynced >= syncedBytes || received >= bytes {
        try file.synchronize()
        unsynced = 0
      }
    }
    return Measurement(values: [.rate: Double(changes) / stopwatch.seconds])
  }
}
