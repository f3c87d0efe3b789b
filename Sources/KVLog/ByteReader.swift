// Reads bytes that nobody has vouched for yet, front to back.
//
// Invariants:
// - Never reads outside the span and never traps: what does not fit is a `LogFormatError` at its offset.
// - Holds an offset only, so that it can be kept while the span it reads is passed in anew.

/// A bounds-checked reader; every call is given the same span.
package struct ByteReader {
  package private(set) var offset: Int

  package init(at offset: Int = 0) {
    self.offset = offset
  }

  /// A little-endian integer.
  package mutating func read<T: FixedWidthInteger & BitwiseCopyable>(
    _ type: T.Type, from bytes: RawSpan
  ) throws(LogFormatError) -> T {
    let range = try take(T.bitWidth / 8, from: bytes)
    return bytes.load(T.self, at: range.lowerBound)
  }

  package mutating func identity(from bytes: RawSpan) throws(LogFormatError) -> Identity {
    bytes.loadIdentity(at: try take(16, from: bytes).lowerBound)
  }

  /// Identity, version and digest.
  package mutating func position(from bytes: RawSpan) throws(LogFormatError) -> Position {
    let identity = try identity(from: bytes)
    let version = try read(UInt64.self, from: bytes)
    return Position(identity: identity, version: version, digest: try digest(from: bytes))
  }

  package mutating func digest(from bytes: RawSpan) throws(LogFormatError) -> Digest {
    bytes.loadDigest(at: try take(16, from: bytes).lowerBound)
  }

  /// The next `count` bytes, as a range of the span.
  package mutating func take(_ count: Int, from bytes: RawSpan) throws(LogFormatError) -> Range<Int> {
    guard offset >= 0, count >= 0, offset <= bytes.byteCount, count <= bytes.byteCount - offset else {
      throw LogFormatError(.cutShort, at: offset)
    }
    defer { offset += count }
    return offset..<offset + count
  }

  /// A length of type `Length`, then that many bytes; a length above `limit` is refused before anything else.
  package mutating func counted<Length: FixedWidthInteger & BitwiseCopyable>(
    _ type: Length.Type, atMost limit: Int = .max, from bytes: RawSpan
  ) throws(LogFormatError) -> Range<Int> {
    let start = offset
    let count = try read(Length.self, from: bytes)
    guard count >= 0, let count = Int(exactly: count), count <= limit else {
      throw LogFormatError(.overLimit, at: start)
    }
    return try take(count, from: bytes)
  }

  /// As `counted`, and the bytes must be UTF-8.
  package mutating func text<Length: FixedWidthInteger & BitwiseCopyable>(
    _ type: Length.Type, atMost limit: Int, from bytes: RawSpan
  ) throws(LogFormatError) -> String {
    let range = try counted(Length.self, atMost: limit, from: bytes)
    let text = unsafe bytes.extracting(range).withUnsafeBytes { unsafe String(validating: $0, as: UTF8.self) }
    guard let text else { throw LogFormatError(.notText, at: range.lowerBound) }
    return text
  }

  package func remaining(in bytes: RawSpan) -> Int { max(0, bytes.byteCount - offset) }

  /// Nothing may be left over.
  package func end(of bytes: RawSpan) throws(LogFormatError) {
    guard offset == bytes.byteCount else { throw LogFormatError(.leftOver, at: offset) }
  }
}
