// Adds up what sessions did, as they tell it, so that a summary can be given also when one of them fails.
//
// Invariant: the total is the sum of the finished sessions' last reports and the latest report of the current one.

import KVReplicator
import Synchronization

final class SyncTally: Sendable {
  private struct State {
    var finished = SyncReport()
    var current = SyncReport()
    var bar: ProgressBar
    var repairs: [Repair] = []
  }

  private let state = Mutex(State(bar: ProgressBar()))
  private let pendingAtStart: Int

  init(pendingAtStart: Int) { self.pendingAtStart = pendingAtStart }

  var total: SyncReport { state.withLock { Self.sum($0.finished, $0.current) } }
  var elapsed: Duration { state.withLock { $0.bar.elapsed } }

  var repairs: [Repair] { state.withLock { $0.repairs } }

  /// The last hundred stay.
  func note(_ repair: Repair) { state.withLock { $0.repairs = ($0.repairs + [repair]).suffix(100) } }

  /// The current session has come so far.
  func update(_ report: SyncReport) {
    state.withLock { state in
      state.current = report
      let total = Self.sum(state.finished, report)
      // How much will be pulled is not known; how much is to be pushed is.
      state.bar.update(
        done: pendingAtStart - report.pendingChanges, total: pendingAtStart > 0 ? pendingAtStart : nil,
        items: total.pushedChanges + total.pulledChanges, noun: "changes")
    }
  }

  /// The current session has ended; another one may follow.
  func endSession() {
    state.withLock { state in
      state.finished = Self.sum(state.finished, state.current)
      state.current = SyncReport()
    }
  }

  func clearProgress() { state.withLock { $0.bar.finish() } }

  private static func sum(_ first: SyncReport, _ second: SyncReport) -> SyncReport {
    var sum = first
    sum.pushedChanges += second.pushedChanges
    sum.pushedBytes += second.pushedBytes
    sum.supersededChanges += second.supersededChanges
    sum.pulledCommits += second.pulledCommits
    sum.pulledChanges += second.pulledChanges
    sum.pulledBytes += second.pulledBytes
    sum.conflicts += second.conflicts
    sum.reoffered += second.reoffered
    sum.parked += second.parked
    sum.adoptedRows += second.adoptedRows
    sum.pendingChanges = second.pendingChanges
    sum.pendingBytes = second.pendingBytes
    sum.remainingServerVersions = second.remainingServerVersions
    sum.isCutShort = second.isCutShort
    sum.awaitsPull = second.awaitsPull
    return sum
  }
}
