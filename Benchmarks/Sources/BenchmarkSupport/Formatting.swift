// What people read: numbers, and lines for who watches.

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

  /// Seconds, in the unit that suits them.
  public var duration: String {
    if self < 0.001 { return "\((self * 1e6).formatted(digits: self < 1e-5 ? 1 : 0)) µs" }
    if self < 1 { return "\((self * 1e3).formatted(digits: self < 0.01 ? 2 : 0)) ms" }
    return "\(formatted(digits: self < 10 ? 2 : 0)) s"
  }

  /// Bytes, in the unit that suits them.
  public var amount: String {
    self < 1e9 ? "\((self / 1e6).formatted(digits: 1)) MB" : "\((self / 1e9).formatted(digits: 1)) GB"
  }
}

/// A line for the person who watches.
public func note(_ text: String, end: String = "\n") {
  FileHandle.standardError.write(Data((text + end).utf8))
}
