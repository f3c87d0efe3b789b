// Thirty-two lowercase hexadecimal digits for 128 bits, most significant first.

enum Hexadecimal {
  static func string(_ high: UInt64, _ low: UInt64) -> String {
    digits(of: high) + digits(of: low)
  }

  static func parse128(_ text: String) -> (high: UInt64, low: UInt64)? {
    let digits = text.utf8
    guard digits.count == 32 else { return nil }
    var high: UInt64 = 0
    var low: UInt64 = 0
    for digit in digits {
      let nibble: UInt64
      switch digit {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): nibble = UInt64(digit - UInt8(ascii: "0"))
      case UInt8(ascii: "a")...UInt8(ascii: "f"): nibble = UInt64(digit - UInt8(ascii: "a") + 10)
      default: return nil
      }
      high = high << 4 | low >> 60
      low = low << 4 | nibble
    }
    return (high, low)
  }

  private static func digits(of word: UInt64) -> String {
    let text = String(word, radix: 16)
    return String(repeating: "0", count: 16 - text.count) + text
  }
}
