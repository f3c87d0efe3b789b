// Numbers as people read them.

import Foundation

extension Double {
  /// Rounded, in groups of three digits.
  public var grouped: String {
    guard isFinite, magnitude < 1e15 else { return "–" }
    var digits = String(Int(magnitude.rounded()))
    var index = digits.count - 3
    while index > 0 {
      digits.insert(",", at: digits.index(digits.startIndex, offsetBy: index))
      index -= 3
    }
    return (self < 0 ? "-" : "") + digits
  }

  /// With so many digits after the point.
  public func formatted(digits: Int) -> String { String(format: "%.\(digits)f", self) }
}
