// A place in a line of JSON, and the steps a parser takes from there. Every byte of the line is checked: what is not
// JSON (RFC 8259) is an error that names the byte.

struct JSONCursor {
  enum Name {
    case key, keyBase64, value, valueBase64, deleted
  }

  private var index = 0

  private mutating func skipSpace(in line: Span<UInt8>) {
    while index < line.count {
      switch line[index] {
      case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\r"): index += 1
      default: return
      }
    }
  }

  /// Steps over `byte` if it comes next.
  mutating func take(_ byte: UInt8, in line: Span<UInt8>) -> Bool {
    skipSpace(in: line)
    guard index < line.count, line[index] == byte else { return false }
    index += 1
    return true
  }

  mutating func expect(_ byte: UInt8, in line: Span<UInt8>) throws(LineError) {
    guard take(byte, in: line) else { throw unexpected("'\(Unicode.Scalar(byte))'", in: line) }
  }

  mutating func expectEnd(in line: Span<UInt8>) throws(LineError) {
    skipSpace(in: line)
    guard index == line.count else { throw unexpected("the end of the line", in: line) }
  }

  mutating func name(in line: Span<UInt8>) throws(LineError) -> Name {
    guard take(JSON.quote, in: line) else { throw unexpected("a member's name", in: line) }
    let start = index
    while index < line.count, line[index] != JSON.quote { index += 1 }
    guard index < line.count else { throw unexpected("the end of a name", in: line) }
    let name = line.extracting(start..<index)
    index += 1
    if equal(name, "key") { return .key }
    if equal(name, "value") { return .value }
    if equal(name, "keyBase64") { return .keyBase64 }
    if equal(name, "valueBase64") { return .valueBase64 }
    if equal(name, "deleted") { return .deleted }
    var text: [UInt8] = []
    text.append(name.extracting(0..<min(name.count, 40)))
    throw LineError(
      "an unknown member \"\(String(decoding: text, as: UTF8.self))\"; known are key, keyBase64, value, valueBase64, deleted"
    )
  }

  private func equal(_ name: Span<UInt8>, _ expected: StaticString) -> Bool {
    expected.withUTF8Buffer { expected in
      guard name.count == expected.count else { return false }
      for index in name.indices where unsafe name[index] != expected[index] { return false }
      return true
    }
  }

  mutating func boolean(in line: Span<UInt8>) throws(LineError) -> Bool {
    skipSpace(in: line)
    for (text, value) in [("true" as StaticString, true), ("false", false)]
    where index + text.utf8CodeUnitCount <= line.count
      && equal(line.extracting(index..<index + text.utf8CodeUnitCount), text)
    {
      index += text.utf8CodeUnitCount
      return value
    }
    throw unexpected("true or false", in: line)
  }

  /// Appends the bytes that the string stands for and returns where they are in `buffer`.
  mutating func bytes(in line: Span<UInt8>, isBase64: Bool, to buffer: inout [UInt8]) throws(LineError) -> Range<Int> {
    guard take(JSON.quote, in: line) else { throw unexpected("a string", in: line) }
    let start = buffer.count
    let textStart = index
    try string(in: line, to: &buffer)
    if isBase64 {
      // The text passes through the buffer first, because a writer may escape its slashes.
      let text = Array(buffer[start...])
      buffer.removeLast(text.count)
      guard Base64.decode(text.span, to: &buffer) else {
        throw LineError("the base64 at byte \(textStart + 1) is not valid")
      }
    }
    return start..<buffer.count
  }

  private mutating func string(in line: Span<UInt8>, to buffer: inout [UInt8]) throws(LineError) {
    var runStart = index
    while index < line.count {
      let byte = line[index]
      if byte >= 0x80 {
        guard let length = UTF8Sequence.length(in: line, at: index) else {
          throw LineError("byte \(index + 1) is not UTF-8; write such keys and values as keyBase64 and valueBase64")
        }
        index += length
      } else if byte == JSON.quote {
        buffer.append(line.extracting(runStart..<index))
        index += 1
        return
      } else if byte == JSON.backslash {
        buffer.append(line.extracting(runStart..<index))
        index += 1
        try escape(in: line, to: &buffer)
        runStart = index
      } else if byte < 0x20 {
        throw LineError("a control character at byte \(index + 1); inside a string it is written \\u00XX")
      } else {
        index += 1
      }
    }
    throw unexpected("the end of a string", in: line)
  }

  private mutating func escape(in line: Span<UInt8>, to buffer: inout [UInt8]) throws(LineError) {
    let byte = index < line.count ? line[index] : 0
    index += 1
    switch byte {
    case JSON.quote, JSON.backslash, UInt8(ascii: "/"): buffer.append(byte)
    case UInt8(ascii: "b"): buffer.append(0x08)
    case UInt8(ascii: "t"): buffer.append(0x09)
    case UInt8(ascii: "n"): buffer.append(0x0A)
    case UInt8(ascii: "f"): buffer.append(0x0C)
    case UInt8(ascii: "r"): buffer.append(0x0D)
    case UInt8(ascii: "u"): try unicodeEscape(in: line, to: &buffer)
    default: throw LineError("an unknown escape at byte \(index - 1)")
    }
  }

  private mutating func unicodeEscape(in line: Span<UInt8>, to buffer: inout [UInt8]) throws(LineError) {
    var value = try fourDigits(in: line)
    if value & 0xFC00 == 0xD800, index + 1 < line.count, line[index] == JSON.backslash,
      line[index + 1] == UInt8(ascii: "u")
    {
      index += 2
      let low = try fourDigits(in: line)
      guard low & 0xFC00 == 0xDC00 else { throw loneSurrogate() }
      value = 0x10000 + (value & 0x3FF) << 10 + low & 0x3FF
    }
    guard let scalar = Unicode.Scalar(value) else { throw loneSurrogate() }
    buffer.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
  }

  private func loneSurrogate() -> LineError {
    LineError("half of a surrogate pair before byte \(index + 1); it stands for no character")
  }

  private mutating func fourDigits(in line: Span<UInt8>) throws(LineError) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 {
      let digit: UInt32? =
        switch index < line.count ? line[index] : 0 {
        case let byte where byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9"): UInt32(byte - UInt8(ascii: "0"))
        case let byte where byte >= UInt8(ascii: "a") && byte <= UInt8(ascii: "f"):
          UInt32(byte - UInt8(ascii: "a") + 10)
        case let byte where byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "F"):
          UInt32(byte - UInt8(ascii: "A") + 10)
        default: nil
        }
      guard let digit else { throw unexpected("four hexadecimal digits", in: line) }
      value = value << 4 | digit
      index += 1
    }
    return value
  }

  private func unexpected(_ expected: String, in line: Span<UInt8>) -> LineError {
    index < line.count
      ? LineError("not JSON at byte \(index + 1): expected \(expected)")
      : LineError("not JSON: the line ends where \(expected) should be")
  }
}
