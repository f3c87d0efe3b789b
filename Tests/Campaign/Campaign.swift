// Runs in which four replicas and a hub, each a process, are cut off from each other, killed and started again at random;
// afterwards everything must have come to where it belongs (`Verdict`). Prints the seed of each run that fails.
//
//   campaign [--runs N] [--seed S] [--parallel P] [--seconds S] [--disk DIR]
//
// Run number i has the seed S + i: one that failed is repeated by `--runs 1 --seed` and its seed. What is drawn from the seed
// is what is written and what is done when; what that meets is up to the machine.

import Foundation
import Synchronization
import TestSupport

@main
enum Campaign {
  static func main() async throws {
    // A child that dies while it is written to is an error of `write`, not the end.
    signal(SIGPIPE, SIG_IGN)
    let arguments = Array(CommandLine.arguments.dropFirst())
    if arguments.first == ReplicaProcess.command { return try await ReplicaProcess.run(Array(arguments.dropFirst())) }
    let options = Options(arguments)
    let campaign = Conductor(options)
    let failed = await withCheckedContinuation { continuation in
      Thread.detachNewThread { continuation.resume(returning: campaign.conduct()) }
    }
    exit(failed == 0 ? 0 : 1)
  }

  struct Options: Sendable {
    var runs = 10
    var seed = UInt64.random(in: 1...999_999_999)
    var parallel = ProcessInfo.processInfo.activeProcessorCount
    /// How long each run has faults.
    var seconds = 2.0
    /// Where the directories of the runs are made; in memory unless it is given.
    var folder: String?

    init(_ arguments: [String]) {
      var rest = arguments[...]
      while let name = rest.popFirst() {
        guard let value = rest.popFirst() else { Self.fail("\(name) takes a value") }
        switch (name, Int(value), Double(value)) {
        case ("--runs", let number?, _) where number > 0: runs = number
        case ("--seed", let number?, _) where number >= 0: seed = UInt64(number)
        case ("--parallel", let number?, _) where number > 0: parallel = number
        case ("--seconds", _, let number?) where number > 0 && number < 3_600: seconds = number
        case ("--disk", _, _): folder = value
        default: Self.fail("\(name) \(value) is not understood")
        }
      }
    }

    private static func fail(_ words: String) -> Never {
      FileHandle.standardError.write(
        Data(
          "campaign: \(words). Options: --runs N, --seed S, --parallel P, --seconds S, --disk DIR\n".utf8))
      exit(64)
    }
  }
}

/// Has several runs under way, and counts.
final class Conductor: Sendable {
  private struct State {
    var next = 0
    var failed: [UInt64] = []
    var total = Tally()
  }

  private let options: Campaign.Options
  private let state = Mutex(State())

  init(_ options: Campaign.Options) { self.options = options }

  /// Blocks until all runs are over; how many failed.
  func conduct() -> Int {
    let start = ContinuousClock.now
    print("\(options.runs) runs, seeds \(options.seed) to \(options.seed + UInt64(options.runs) - 1)")
    let group = DispatchGroup()
    for _ in 0..<min(options.parallel, options.runs) {
      group.enter()
      Thread.detachNewThread { [self] in
        work()
        group.leave()
      }
    }
    group.wait()
    let (failed, total) = state.withLock { ($0.failed, $0.total) }
    let seconds = Int((ContinuousClock.now - start) / .seconds(1))
    print("\(options.runs - failed.count) of \(options.runs) runs came to where they belong, in \(seconds) s: \(total)")
    if !failed.isEmpty { print("failed, by their seeds: \(failed.map(String.init).joined(separator: " "))") }
    return failed.count
  }

  private func work() {
    while true {
      let number = state.withLock { state in
        state.next += 1
        return state.next - 1
      }
      guard number < options.runs else { return }
      let seed = options.seed + UInt64(number)
      let run = Run(seed: seed, options)
      let result = Result { try run.perform() }
      state.withLock { state in
        switch result {
        case .success(let tally):
          state.total.add(tally)
          let done = number + 1
          if options.runs <= 20 || done % 50 == 0 { print("seed \(seed): \(tally)") }
        case .failure(let error):
          state.failed.append(seed)
          print("seed \(seed) FAILED: \(error)\n  what is left is in \(run.path)\n  \(run.story)")
        }
        fflush(nil)
      }
    }
  }
}

/// What happened, so that a run that tests nothing is seen.
struct Tally: Sendable, CustomStringConvertible {
  var writes = 0
  var replicaKills = 0
  var replicaRestarts = 0
  var hubKills = 0
  var hubRestarts = 0
  var partitions = 0
  var cuts = 0
  var freezes = 0
  var conflicts = 0
  var inFlight = 0

  mutating func add(_ other: Tally) {
    for count in [
      \Tally.writes, \.replicaKills, \.replicaRestarts, \.hubKills, \.hubRestarts, \.partitions, \.cuts, \.conflicts,
      \.freezes, \.inFlight,
    ] { self[keyPath: count] += other[keyPath: count] }
  }

  var description: String {
    "\(writes) writes (\(inFlight) killed on the way), \(conflicts) conflicts, \(partitions) partitions, \(cuts) cuts, \(freezes) freezes, "
      + "replicas killed \(replicaKills) and restarted \(replicaRestarts), hub killed \(hubKills) and restarted \(hubRestarts)"
  }
}
