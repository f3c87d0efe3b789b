// A budget as it is written on the command line: 500kB, 10MiB, 30s, 5m.

import ArgumentParser
import KVReplicator

/// An amount of bytes, or of time.
enum BudgetPart: ExpressibleByArgument, Equatable {
  case bytes(Int)
  case duration(Duration)

  private static let byteUnits: [(String, Double)] = [
    ("KiB", 1_024), ("MiB", 1_048_576), ("GiB", 1_073_741_824), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("B", 1),
  ]
  private static let timeUnits: [(String, Double)] = [("ms", 0.001), ("s", 1), ("m", 60), ("h", 3_600)]

  static let rule = "bytes as B, kB, MB, GB, KiB, MiB or GiB, or a time as ms, s, m or h, such as 10MB or 30s"

  init?(argument: String) {
    for (unit, factor) in Self.byteUnits where argument.hasSuffix(unit) {
      guard let number = Self.number(argument.dropLast(unit.count)), number * factor < 1e18 else { return nil }
      self = .bytes(Int(number * factor))
      return
    }
    for (unit, factor) in Self.timeUnits where argument.hasSuffix(unit) {
      guard let number = Self.number(argument.dropLast(unit.count)), number * factor < 1e9 else { return nil }
      self = .duration(.milliseconds(Int(number * factor * 1_000)))
      return
    }
    return nil
  }

  /// Digits, with a decimal point at most.
  private static func number(_ text: Substring) -> Double? {
    guard !text.isEmpty, text.allSatisfy({ $0.isASCII && ($0.isNumber || $0 == ".") }) else { return nil }
    return Double(text)
  }
}

extension [BudgetPart] {
  /// The parts together. Throws when there are two of a kind.
  func budget() throws -> Replicator.Budget {
    var budget = Replicator.Budget()
    for part in self {
      switch part {
      case .bytes(let bytes):
        guard budget.bytes == nil else { throw ValidationError("--budget was given two numbers of bytes.") }
        budget.bytes = bytes
      case .duration(let duration):
        guard budget.duration == nil else { throw ValidationError("--budget was given two times.") }
        budget.duration = duration
      }
    }
    return budget
  }
}
