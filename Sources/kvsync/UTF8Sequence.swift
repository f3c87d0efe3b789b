// Which bytes are UTF-8: decides between a JSON string and base64, and refuses JSON that is none.

enum UTF8Sequence {
  /// The length (2...4) of the well-formed sequence of a non-ASCII character at `index`; nil when it is none.
  /// Overlong forms, surrogates and characters beyond U+10FFFF are not well-formed (Unicode, table 3-7).
  static func length(in bytes: Span<UInt8>, at index: Int) -> Int? {
    let first = bytes[index]
    switch first {
    case 0xC2...0xDF:
      return continues(bytes, index + 1) ? 2 : nil
    case 0xE0...0xEF:
      guard index + 2 < bytes.count else { return nil }
      let second = bytes[index + 1]
      let isWellFormed =
        switch first {
        case 0xE0: second >= 0xA0 && second <= 0xBF
        case 0xED: second >= 0x80 && second <= 0x9F
        default: second >= 0x80 && second <= 0xBF
        }
      return isWellFormed && continues(bytes, index + 2) ? 3 : nil
    case 0xF0...0xF4:
      guard index + 3 < bytes.count else { return nil }
      let second = bytes[index + 1]
      let isWellFormed =
        switch first {
        case 0xF0: second >= 0x90 && second <= 0xBF
        case 0xF4: second >= 0x80 && second <= 0x8F
        default: second >= 0x80 && second <= 0xBF
        }
      return isWellFormed && continues(bytes, index + 2) && continues(bytes, index + 3) ? 4 : nil
    default:
      return nil
    }
  }

  private static func continues(_ bytes: Span<UInt8>, _ index: Int) -> Bool {
    index < bytes.count && bytes[index] & 0xC0 == 0x80
  }
}
