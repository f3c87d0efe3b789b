// Keys and values as programs and people write them, and as nobody would.

import TestSupport

extension SeededGenerator {
  /// Bytes from one of several alphabets: text, text with everything that needs an escape, UTF-8, anything.
  mutating func anyBytes(_ count: Int) -> [UInt8] {
    let kind = Int.random(in: 0..<4, using: &self)
    var bytes: [UInt8] = []
    while bytes.count < count {
      switch kind {
      case 0: bytes.append(UInt8.random(in: 0x61...0x7A, using: &self))
      case 1: bytes.append(Array("\t\n\r\\\"/\u{8}\u{C}\u{0}\u{1F}\u{7F} a{}:,".utf8).randomElement(using: &self) ?? 0)
      case 2:
        let character = ["é", "ß", "漢", "\u{2028}", "😀", "\u{10FFFF}", "a"].randomElement(using: &self) ?? "a"
        bytes.append(contentsOf: character.utf8)
      default: bytes.append(UInt8.random(in: .min ... .max, using: &self))
      }
    }
    return Array(bytes.prefix(count))
  }
}
