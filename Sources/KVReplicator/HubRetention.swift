// For how long a replica may stay away, as far as its hub has said.
//
// Invariants
// - It is worked out from what the store remembers, with nobody asked: it is needed where there is no hub.
// - A clock that was set back since says nothing of the time that has passed; that is a warning, not a reprieve.

public import KVLog
package import KVStore

/// For how long the hub keeps what a replica needs to go on from where it is, and since when that counts. Afterwards it may
/// have to load everything anew, which keeps what is pending (``ReplicatorEvent/lapsed``).
public struct HubRetention: Sendable, Hashable {
  /// So long the hub surely keeps what is new, as it last said; nil: for ever.
  public var keeps: Duration?
  /// When store and hub were last known to have the same, by this machine's clock.
  public var lastCaughtUp: HybridTime

  package init(keeps: Duration?, lastCaughtUp: HybridTime) {
    self.keeps = keeps
    self.lastCaughtUp = lastCaughtUp
  }

  /// How much of the time is left.
  public enum Remaining: Sendable, Hashable {
    /// The hub keeps everything.
    case forever
    /// So much; 0: the hub may no longer have what the store lacks.
    case time(Duration)
    /// Not known: this machine's clock is behind what it was, so it was set back meanwhile.
    case unknown
  }

  /// After this time, by this machine's clock, a snapshot may be needed; nil: never.
  public var keptUntil: HybridTime? {
    keeps.map { HybridTime(milliseconds: lastCaughtUp.milliseconds + UInt64(clamping: $0.milliseconds)) }
  }

  /// What is left at a time of this machine's clock.
  public func remaining(at now: HybridTime) -> Remaining {
    guard let keptUntil else { return .forever }
    guard now.milliseconds >= lastCaughtUp.milliseconds else { return .unknown }
    return .time(
      .milliseconds(Int64(clamping: keptUntil.milliseconds) - Int64(clamping: min(now, keptUntil).milliseconds)))
  }

  /// Whether it is time to synchronise: less than a quarter is left, or nobody knows how much.
  public func isRunningOut(at now: HybridTime) -> Bool {
    switch remaining(at: now) {
    case .forever: false
    case .time(let left): keeps.map { left < $0 / 4 } ?? false
    case .unknown: true
    }
  }
}

extension HubRetention {
  /// nil: store and hub never had the same.
  package init?(_ contact: HubContact) {
    guard contact.levelTime > 0 else { return nil }
    // Whatever the bytes say: later times than a clock can show are none.
    let seconds = min(contact.retentionSeconds, 1 << 40)
    self.init(
      keeps: seconds > 0 ? .seconds(Int64(seconds)) : nil,
      lastCaughtUp: HybridTime(milliseconds: min(contact.levelTime, 1 << 46)))
  }
}
