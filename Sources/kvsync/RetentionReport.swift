// How the tool says for how long a replica may stay away.

import KVLog
import KVReplicator

extension HubRetention {
  /// What the hub keeps, and what becomes of this replica afterwards.
  func sentence(at now: HybridTime) -> String {
    guard let keeps, let keptUntil else { return "everything: this store may stay away for as long as it likes" }
    let what = "what is new for \(Amount.span(keeps))"
    let end = Amount.time(milliseconds: keptUntil.milliseconds)
    switch remaining(at: now) {
    case .forever: return what
    case .unknown:
      return "\(what); this machine's clock was set back since, so sync soon: once it is over, this store comes back "
        + "through a snapshot"
    case .time(.zero): return "\(what), which was over at \(end): this store may come back through a snapshot"
    case .time(let left):
      let advice = isRunningOut(at: now) ? " (in \(Amount.span(left)): sync before)" : ""
      return "\(what); after \(end)\(advice) this store comes back through a snapshot"
    }
  }
}

extension Amount {
  /// A time in its largest fitting unit.
  static func span(_ duration: Duration) -> String {
    let value = seconds(duration)
    for (unit, length) in [("day", 86_400.0), ("hour", 3_600), ("minute", 60)] where value >= length {
      let amount = decimal(value / length, places: value < 10 * length ? 1 : 0)
      let plain = amount.hasSuffix(".0") ? String(amount.dropLast(2)) : amount
      return plain == "1" ? "1 \(unit)" : "\(plain) \(unit)s"
    }
    return "\(decimal(value, places: value < 10 ? 1 : 0)) s"
  }
}
