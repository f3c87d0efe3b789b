// What `sync` tells while it runs: what was mended by itself; with --continuous also when it loses the hub, and when it has
// caught up again.
//
// Invariant: a trouble is told when it begins, not each time that trying again has failed. Another trouble is news.

import KVLog
import KVReplicator
import KVStore
import Synchronization

final class SyncNews: Sendable {
  private let hub: HubAddress
  private let json: Bool
  private let trouble = Mutex<ReplicatorError.Code?>(nil)

  init(hub: HubAddress, json: Bool) {
    self.hub = hub
    self.json = json
  }

  func retrying(after error: ReplicatorError, in wait: Duration) {
    let isNews = trouble.withLock { trouble in
      defer { trouble = error.code }
      // A hub that said goodbye, and then is not there, is lost once.
      return trouble != error.code && !(trouble == .unavailable && error.code == .unreachable)
    }
    guard isNews else { return }
    let seconds = Amount.seconds(wait)
    guard json else {
      let what =
        switch error.code {
        case .unreachable: "hub unreachable (\(error.message))"
        case .unavailable: "hub unavailable (\(error.message))"
        default: error.message
        }
      return Messages.write("\(what); retrying in \(Amount.decimal(seconds, places: 1)) s, and until it succeeds\n")
    }
    var line = Output()
    line.beginObject()
    line.member("event", "retrying")
    line.member("reason", error.code.rawValue)
    line.member("error", error.message)
    line.member("retrySeconds", seconds)
    line.endObject()
    Messages.write(line.bytes)
  }

  func repaired(_ repair: Repair) {
    guard json else { return Messages.write("\(repair.sentence)\n") }
    var line = Output()
    line.beginObject()
    repair.members("event", to: &line)
    line.endObject()
    Messages.write(line.bytes)
  }

  /// The hub will not keep for much longer what this store lacks.
  func lapseWarning(within time: Duration?) {
    guard json else {
      let when =
        switch time {
        case nil: "soon (this machine's clock was set back, so nobody knows how soon)"
        case .some(.zero): "now, perhaps already"
        case .some(let left): "in \(Amount.span(left))"
        }
      return Messages.write(
        "the hub stops keeping what this store lacks \(when): unless it syncs before, it comes back through a snapshot\n"
      )
    }
    var line = Output()
    line.beginObject()
    line.member("event", "lapseWarning")
    line.member("withinSeconds", time.map(Amount.seconds))
    line.endObject()
    Messages.write(line.bytes)
  }

  /// After a pass that failed.
  func tellIfRunningOut(_ store: Store) {
    let now = HybridTime(milliseconds: Store.clockMilliseconds)
    guard let retention = HubRetention(store.replicaState().contact), retention.isRunningOut(at: now) else { return }
    if case .time(let left) = retention.remaining(at: now) {
      lapseWarning(within: left)
    } else {
      lapseWarning(within: nil)
    }
  }

  func caughtUp(_ report: SyncReport) {
    trouble.withLock { $0 = nil }
    guard json else {
      return Messages.write(
        "caught up with \(hub): pushed \(Amount.count(report.pushedChanges, "change")), "
          + "pulled \(Amount.count(report.pulledChanges)); going on\n")
    }
    var line = Output()
    line.beginObject()
    line.member("event", "caughtUp")
    line.member("pushed", report.pushedChanges)
    line.member("pulled", report.pulledChanges)
    line.member("pending", report.pendingChanges)
    line.endObject()
    Messages.write(line.bytes)
  }
}
