// How far a session is, for those who watch it.

import KVLog
import KVProtocol
import KVStore

extension ReplicaSession {
  /// What is told when it moves.
  struct Marks: Equatable {
    var shipped: Version
    var pushedChanges: Int
    var conflicts: Int
    var fence: UInt64
  }

  var marks: Marks {
    Marks(
      shipped: push.confirmed, pushedChanges: report.pushedChanges, conflicts: report.conflicts, fence: fence.reached)
  }

  /// Versions of the hub that are not here, as far as is known: all of them while a snapshot is not here whole; 0 without
  /// pulling.
  var remainingServerVersions: UInt64 {
    guard configuration.mode.contains(.pull) else { return 0 }
    guard state.missing.isEmpty else { return head }
    let cursor = state.cursor?.version ?? 0
    return head > cursor ? head - cursor : 0
  }

  /// Whether all that the hub has is here, as far as is known.
  var hasAll: Bool { configuration.mode.contains(.pull) && isCaughtUp && remainingServerVersions == 0 }

  /// Whether it ended although something was left, as it was meant to.
  var isCutShort: Bool {
    guard case .ended = phase else { return false }
    return budget.isLimited && !isCaughtUp
  }

  /// A hub may claim any version: far from overflowing when other counts are added.
  private static func steps(_ versions: Version) -> Int { Int(min(versions, 1 << 48)) }

  func standing(since firstCursor: Version) -> StatusBoard.Session {
    let cursor = state.cursor?.version ?? 0
    let isOpen = if case .open = phase { true } else { isCaughtUp }
    let pulls = configuration.mode.contains(.pull)
    return StatusBoard.Session(
      isOpen: isOpen, isCaughtUp: isCaughtUp,
      done: report.pushedChanges + Self.steps(cursor > firstCursor ? cursor - firstCursor : 0),
      remaining: (configuration.mode.contains(.push) ? state.pendingChanges : 0)
        + (pulls && fedHead > cursor ? Self.steps(fedHead - cursor) : 0),
      hubVersion: head)
  }
}
