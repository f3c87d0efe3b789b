// Base64 (RFC 4648, with padding) between byte buffers: `dump` writes it for bytes that are not UTF-8, `load` reads it.
// Own code because Foundation's makes two objects a value.

enum Base64 {
  private static let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

  static func append(_ data: Span<UInt8>, to text: inout [UInt8]) {
    var index = 0
    while index < data.count {
      let count = min(3, data.count - index)
      var group = UInt32(data[index]) << 16
      if count > 1 { group |= UInt32(data[index + 1]) << 8 }
      if count > 2 { group |= UInt32(data[index + 2]) }
      text.append(digits[Int(group >> 18)])
      text.append(digits[Int(group >> 12 & 63)])
      text.append(count > 1 ? digits[Int(group >> 6 & 63)] : UInt8(ascii: "="))
      text.append(count > 2 ? digits[Int(group & 63)] : UInt8(ascii: "="))
      index += 3
    }
  }

  /// Appends what `text` stands for; false (with a part appended) when it is not canonical base64: a wrong length, a
  /// foreign character, or unused bits that are not zero.
  static func decode(_ text: Span<UInt8>, to data: inout [UInt8]) -> Bool {
    guard text.count % 4 == 0 else { return false }
    var index = 0
    while index < text.count {
      let isLast = index + 4 == text.count
      let padding = isLast ? (text[index + 3] != equals ? 0 : text[index + 2] != equals ? 1 : 2) : 0
      var group: UInt32 = 0
      for place in 0..<4 {
        let digit: UInt8? = place >= 4 - padding ? 0 : value(of: text[index + place])
        guard let digit else { return false }
        group = group << 6 | UInt32(digit)
      }
      switch padding {
      case 1 where group & 0xFF != 0, 2 where group & 0xFFFF != 0: return false
      default: break
      }
      data.append(UInt8(truncatingIfNeeded: group >> 16))
      if padding < 2 { data.append(UInt8(truncatingIfNeeded: group >> 8)) }
      if padding < 1 { data.append(UInt8(truncatingIfNeeded: group)) }
      index += 4
    }
    return true
  }

  private static let equals = UInt8(ascii: "=")

  private static func value(of digit: UInt8) -> UInt8? {
    switch digit {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): digit - UInt8(ascii: "A")
    case UInt8(ascii: "a")...UInt8(ascii: "z"): digit - UInt8(ascii: "a") + 26
    case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0") + 52
    case UInt8(ascii: "+"): 62
    case UInt8(ascii: "/"): 63
    default: nil
    }
  }
}
