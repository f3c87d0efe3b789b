// Many simulations, on as many threads as there are cores.

import Foundation
import Synchronization
import TestSupport

/// What a run of many seeds comes to.
final class Campaign: Sendable {
  struct Result {
    var counts = RarePathCounts()
    var seeds = 0
    var events = 0
    var failures: [(seed: UInt64, reason: String)] = []
  }

  /// Long campaigns say how far they are.
  private static let seedsBetweenReports = 50_000

  private let seeds: [UInt64]
  private let bug: DeliberateBug?
  private let loadsSnapshots: Bool
  private let stopsAtFailure: Bool
  private let result = Mutex(Result())
  private let next = Atomic(0)
  private let running = Atomic(0)

  private init(_ seeds: [UInt64], _ bug: DeliberateBug?, _ loadsSnapshots: Bool, _ stopsAtFailure: Bool) {
    self.seeds = seeds
    self.bug = bug
    self.loadsSnapshots = loadsSnapshots
    self.stopsAtFailure = stopsAtFailure
  }

  /// Runs the seeds, all of them or, one after the other, to the first that fails.
  static func run(
    _ seeds: [UInt64], bug: DeliberateBug? = nil, loadsSnapshots: Bool = false, stopsAtFailure: Bool = false
  ) async -> Result {
    let campaign = Campaign(seeds, bug, loadsSnapshots, stopsAtFailure)
    let threads = stopsAtFailure ? 1 : max(1, min(seeds.count, ProcessInfo.processInfo.activeProcessorCount))
    campaign.running.store(threads, ordering: .relaxed)
    await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
      for _ in 0..<threads {
        Thread.detachNewThread {
          // Other tests watch clocks: they go first.
          #if os(Linux)
            _ = setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, 10)
          #endif
          campaign.work()
          let left = campaign.running.subtract(1, ordering: .acquiringAndReleasing).newValue
          if left == 0 { continuation.resume() }
        }
      }
    }
    return campaign.result.withLock { $0 }
  }

  private func work() {
    while true {
      let index = next.add(1, ordering: .relaxed).oldValue
      guard index < seeds.count else { return }
      var simulation = Simulation(seed: seeds[index], bug: bug, loadsSnapshots: loadsSnapshots)
      var reason: String?
      do { try simulation.run() } catch { reason = "\(error)" }
      result.withLock { result in
        result.seeds += 1
        result.events += simulation.events
        result.counts.add(simulation.counts)
        if let reason { result.failures.append((seeds[index], reason)) }
        if result.seeds.isMultiple(of: Self.seedsBetweenReports), result.seeds < seeds.count {
          Self.say("\(result.seeds) of \(seeds.count) seeds, \(result.failures.count) failures")
        }
      }
      if let reason, bug == nil { Self.say("KVSYNC_SEED=\(seeds[index]): \(reason)") }
      if reason != nil, stopsAtFailure { return }
    }
  }

  /// At once, even into a file.
  private static func say(_ line: String) {
    FileHandle.standardOutput.write(Data("\(line)\n".utf8))
  }
}
