// JSON as kvsync writes and reads it: one object a line, members in any order, strings only.
//
//   {"key":"…","value":"…"}      a put; keyBase64 / valueBase64 instead where the bytes are not UTF-8
//   {"key":"…","deleted":true}   a deletion
//
// Writing is deterministic: the same bytes always give the same text, so equal stores dump to equal files. Reading is
// strict: a member that is not one of these is an error, because dropping it silently would lose data.

enum JSON {
  /// Appends `data` as the inside of a JSON string; false (with a part appended) when it is not UTF-8.
  static func appendEscaped(_ data: Span<UInt8>, to text: inout [UInt8]) -> Bool {
    var runStart = 0
    var index = 0
    while index < data.count {
      let byte = data[index]
      if byte >= 0x80 {
        guard let length = UTF8Sequence.length(in: data, at: index) else { return false }
        index += length
        continue
      }
      if byte < 0x20 || byte == quote || byte == backslash {
        text.append(data.extracting(runStart..<index))
        appendEscape(of: byte, to: &text)
        runStart = index + 1
      }
      index += 1
    }
    text.append(data.extracting(runStart..<data.count))
    return true
  }

  private static func appendEscape(of byte: UInt8, to text: inout [UInt8]) {
    switch byte {
    case quote: text.append("\\\"")
    case backslash: text.append("\\\\")
    case 0x08: text.append("\\b")
    case 0x09: text.append("\\t")
    case 0x0A: text.append("\\n")
    case 0x0C: text.append("\\f")
    case 0x0D: text.append("\\r")
    default:
      text.append("\\u00")
      text.append(hexadecimal(byte >> 4))
      text.append(hexadecimal(byte & 15))
    }
  }

  private static func hexadecimal(_ digit: UInt8) -> UInt8 {
    digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10
  }

  static let quote = UInt8(ascii: "\"")
  static let backslash = UInt8(ascii: "\\")

  /// Adds the object on `line` to `batch`.
  static func parse(_ line: Span<UInt8>, into batch: inout ChangeBatch) throws(LineError) {
    var cursor = JSONCursor()
    var key: Range<Int>?
    var value: Range<Int>?
    var isDeletion: Bool?
    try cursor.expect(UInt8(ascii: "{"), in: line)
    if !cursor.take(UInt8(ascii: "}"), in: line) {
      repeat {
        let name = try cursor.name(in: line)
        try cursor.expect(UInt8(ascii: ":"), in: line)
        switch name {
        case .key, .keyBase64:
          guard key == nil else { throw LineError("the key stands twice") }
          key = try cursor.bytes(in: line, isBase64: name == .keyBase64, to: &batch.bytes)
        case .value, .valueBase64:
          guard value == nil else { throw LineError("the value stands twice") }
          value = try cursor.bytes(in: line, isBase64: name == .valueBase64, to: &batch.bytes)
        case .deleted:
          guard isDeletion == nil else { throw LineError("\"deleted\" stands twice") }
          isDeletion = try cursor.boolean(in: line)
        }
      } while cursor.take(UInt8(ascii: ","), in: line)
      try cursor.expect(UInt8(ascii: "}"), in: line)
    }
    try cursor.expectEnd(in: line)
    guard let key else { throw LineError("no \"key\" or \"keyBase64\"") }
    if isDeletion == true {
      guard value == nil else { throw LineError("a value and \"deleted\": true exclude each other") }
    } else if value == nil {
      throw LineError("no \"value\", \"valueBase64\" or \"deleted\": true")
    }
    try batch.add(key: key, value: value)
  }
}
