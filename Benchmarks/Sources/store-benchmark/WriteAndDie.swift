// The process that is killed while it writes.

import ArgumentParser
import BenchmarkSupport
import Foundation
import Synchronization

struct WriteAndDie: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "write-and-die", shouldDisplay: false)

  @Argument var contender: String
  @Argument var path: String
  @Argument var seed: Int
  @Argument var atLeast: Int
  @Argument var atMost: Int

  /// A commit that takes longer waits for the folder: no Tail is fuller.
  private static let stallSeconds = 0.15

  func run() throws {
    guard let contender = Contender(rawValue: contender) else { throw BenchmarkError("nobody is called \(contender)") }
    let engine = try contender.open(path, .durable)
    let progress = Mutex((changes: 0, stopwatch: Stopwatch()))
    let (atLeast, atMost) = (atLeast, atMost)
    Thread {
      while true {
        usleep(1_000)
        let (changes, seconds) = progress.withLock { ($0.changes, $0.stopwatch.seconds) }
        if changes >= atMost || changes >= atLeast && seconds > WriteAndDie.stallSeconds {
          announce("\(changes)")
          kill(getpid(), SIGKILL)
        }
      }
    }
    .start()
    let workload = Workload(seed: seed)
    var change = Change()
    for start in stride(from: 0, to: Int.max, by: Loads.perCommit) {
      try engine.commit(start..<start + Loads.perCommit, of: workload, with: &change)
      progress.withLock { $0 = (start + Loads.perCommit, Stopwatch()) }
    }
  }
}
