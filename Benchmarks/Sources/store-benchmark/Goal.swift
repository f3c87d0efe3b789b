// What a row is to reach, and whether it did.

import BenchmarkSupport

enum Goal: Sendable {
  /// `subject` does so many times what `peer` does, in the same part or in another. The median of the runs' ratios.
  case times(Double, Contender, subject: Contender = .kvsync, peerPart: Int? = nil)
  case ratePerSecond(Double)
  case seconds(Double)
  /// The rate between an earlier part and this one, as a share of the rate up to the earlier one, is no worse than the
  /// peer's share.
  case slope(Contender, from: Int)

  func verdict(_ results: RowResults, part: Int) -> Verdict {
    let value = value(results, part)
    return Verdict(goal: text(results.row), value: value.map(written), isMet: value.map(isMet))
  }

  private func isMet(_ value: Double) -> Bool {
    switch self {
    case .times(let least, _, _, _): value >= least
    case .ratePerSecond(let least): value >= least
    case .seconds(let most): value <= most
    case .slope: value >= 1
    }
  }

  private func value(_ results: RowResults, _ part: Int) -> Double? {
    switch self {
    case .times(_, let peer, let subject, let peerPart):
      results.median(subject, peer) { own, other in
        own[part].perSecond / other[peerPart ?? part].perSecond
      }
    case .ratePerSecond: results.median(.kvsync) { $0[part].perSecond }
    case .seconds: results.median(.kvsync) { $0[part].seconds }
    case .slope(let peer, let from):
      results.median(.kvsync, peer) { own, other in
        Goal.share(own, from, part) / Goal.share(other, from, part)
      }
    }
  }

  private static func share(_ parts: [Measurement], _ from: Int, _ to: Int) -> Double {
    let later = Double(parts[to].operations - parts[from].operations) / (parts[to].seconds - parts[from].seconds)
    return later / parts[from].perSecond
  }

  private func text(_ row: Row) -> String {
    switch self {
    case .times(let least, let peer, let subject, let peerPart):
      (subject == .kvsync ? "" : "\(subject.name): ") + "≥ \(least.formatted(digits: least < 10 ? 2 : 0))x "
        + (peerPart.map { row.parts[$0].name } ?? peer.name)
    case .ratePerSecond(let least): "≥ \(least.grouped)/s"
    case .seconds(let most): "< \(most.duration)"
    case .slope(let peer, _): "slope no worse than \(peer.name)'s (ratio ≥ 1)"
    }
  }

  private func written(_ value: Double) -> String {
    switch self {
    case .times, .slope: "\(value.formatted(digits: 2))x"
    case .ratePerSecond: "\(value.grouped)/s"
    case .seconds: value.duration
    }
  }
}
