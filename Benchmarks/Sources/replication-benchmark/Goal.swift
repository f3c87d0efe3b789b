// What a row is to reach, and whether it did.

import BenchmarkSupport

struct Goal: Sendable {
  var text: String
  private var written: @Sendable (Double) -> String
  private var isMet: @Sendable (Double) -> Bool
  /// The median of the runs; of ratios, each of two figures of one run.
  private var value: @Sendable (RowResults, Int) -> Double?

  func verdict(_ results: RowResults, part: Int) -> Verdict {
    let value = value(results, part)
    return Verdict(goal: text, value: value.map(written), isMet: value.map(isMet))
  }
}

extension Goal {
  static func atLeast(_ least: Double, _ quantity: Quantity = .rate) -> Goal {
    Goal(
      text: "≥ \(quantity.text(least))", written: { quantity.unit.text($0) }, isMet: { $0 >= least },
      value: { $0.median(.kvsync, quantity, part: $1) })
  }

  static func atMost(_ most: Double, _ quantity: Quantity) -> Goal {
    Goal(
      text: "\(quantity.label) ≤ \(quantity.unit.text(most))", written: { quantity.unit.text($0) },
      isMet: { $0 <= most }, value: { $0.median(.kvsync, quantity, part: $1) })
  }

  /// The highest of the runs: what is not to happen even once.
  static func neverAbove(_ most: Double, _ quantity: Quantity) -> Goal {
    Goal(
      text: "\(quantity.label) ≤ \(quantity.unit.text(most))", written: { quantity.unit.text($0) },
      isMet: { $0 <= most }, value: { $0.highest(.kvsync, quantity, part: $1) })
  }

  /// So many times what `peer` does in the same run.
  static func times(_ least: Double, _ peer: Contender) -> Goal {
    Goal(
      text: "≥ \(least.formatted(digits: 2))x \(peer.name)", written: factor, isMet: { $0 >= least },
      value: { results, part in
        results.median(.kvsync, peer) { own, other in Goal.ratio(own[part][.rate], other[part][.rate]) }
      })
  }

  /// The share of what the window allows, as the same processes find it when nothing is in the way.
  static func windowShare(_ least: Double, _ unhindered: Contender) -> Goal {
    Goal(
      text: "≥ \(least.formatted(digits: 2))x what the window allows", written: factor, isMet: { $0 >= least },
      value: { results, part in
        results.median(.kvsync, unhindered) { own, other in
          guard let allowed = other[part][.allowedRate], let rate = other[part][.rate] else { return nil }
          return Goal.ratio(own[part][.rate], min(allowed, rate))
        }
      })
  }

  /// One quantity as a share of another of the same run.
  static func share(_ quantity: Quantity, of whole: Quantity, atLeast least: Double, _ text: String) -> Goal {
    Goal(
      text: text, written: factor, isMet: { $0 >= least },
      value: { results, part in results.median(.kvsync) { Goal.ratio($0[part][quantity], $0[part][whole]) } })
  }

  static func share(_ quantity: Quantity, of whole: Quantity, atMost most: Double, _ text: String) -> Goal {
    Goal(
      text: text, written: factor, isMet: { $0 <= most },
      value: { results, part in results.median(.kvsync) { Goal.ratio($0[part][quantity], $0[part][whole]) } })
  }

  /// The highest over all parts is at most so many times the lowest.
  static func flat(_ quantity: Quantity, within most: Double) -> Goal {
    Goal(
      text: "\(quantity.label) flat: highest ≤ \(most.formatted(digits: 2))x lowest", written: factor,
      isMet: { $0 <= most },
      value: { results, _ in
        let peaks = results.row.parts.indices.compactMap { results.highest(.kvsync, quantity, part: $0) }
        return Goal.ratio(peaks.max(), peaks.min())
      })
  }

  private static func ratio(_ value: Double?, _ other: Double?) -> Double? {
    guard let value, let other, other > 0 else { return nil }
    return value / other
  }

  private static let factor: @Sendable (Double) -> String = { "\($0.formatted(digits: 2))x" }
}
