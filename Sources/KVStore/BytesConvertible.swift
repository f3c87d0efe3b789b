// What can be a key or a value: anything that shows its bytes for the length of a call.

public import Foundation

/// A key or a value as the caller has it. `String` stands for its UTF-8 bytes.
public protocol BytesConvertible {
  /// Calls `body` with the bytes. The span is valid only until `body` returns.
  func withBytes<Result>(_ body: (RawSpan) throws -> Result) rethrows -> Result
}

extension [UInt8] {
  /// The bytes, borrowed.
  package var bytes: RawSpan {
    @_lifetime(borrow self)
    get {
      let elements = span
      // Sound: bytes have no padding.
      return unsafe elements.bytes
    }
  }
}

extension Array: BytesConvertible where Element == UInt8 {
  /// Calls `body` with the elements, where they lie.
  @inlinable
  public func withBytes<Result>(_ body: (RawSpan) throws -> Result) rethrows -> Result {
    let elements = span
    return try unsafe body(elements.bytes)
  }
}

extension ArraySlice: BytesConvertible where Element == UInt8 {
  /// Calls `body` with the elements, where they lie.
  @inlinable
  public func withBytes<Result>(_ body: (RawSpan) throws -> Result) rethrows -> Result {
    let elements = span
    return try unsafe body(elements.bytes)
  }
}

extension String: BytesConvertible {
  /// Calls `body` with the UTF-8 bytes.
  @inlinable
  public func withBytes<Result>(_ body: (RawSpan) throws -> Result) rethrows -> Result {
    var copy = self
    return try copy.withUTF8 { utf8 in
      let bytes = unsafe RawSpan(_unsafeElements: utf8)
      return try body(bytes)
    }
  }
}

extension Substring: BytesConvertible {
  /// Calls `body` with the UTF-8 bytes.
  @inlinable
  public func withBytes<Result>(_ body: (RawSpan) throws -> Result) rethrows -> Result {
    var copy = self
    return try copy.withUTF8 { utf8 in
      let bytes = unsafe RawSpan(_unsafeElements: utf8)
      return try body(bytes)
    }
  }
}

extension Data: BytesConvertible {
  /// Calls `body` with the bytes, where they lie.
  @inlinable
  public func withBytes<Result>(_ body: (RawSpan) throws -> Result) rethrows -> Result {
    try body(bytes)
  }
}

extension [UInt8] {
  @inlinable
  init(copying bytes: RawSpan) {
    self = unsafe bytes.withUnsafeBytes { unsafe [UInt8]($0) }
  }
}

extension RawSpan {
  /// An owned copy of the bytes.
  package func copied() -> [UInt8] { [UInt8](copying: self) }

  /// Bytewise equality.
  package func isEqual(to other: borrowing RawSpan) -> Bool {
    guard byteCount == other.byteCount else { return false }
    return compare(other) == 0
  }

  /// memcmp order, a shorter span first: LMDB's order of keys. Negative, zero or positive.
  @inline(__always)
  package func compare(_ other: borrowing RawSpan) -> Int {
    let common = min(byteCount, other.byteCount)
    let order = unsafe withUnsafeBytes { left in
      unsafe other.withUnsafeBytes { right in
        guard common > 0, let leftBase = left.baseAddress, let rightBase = right.baseAddress else { return Int32(0) }
        return unsafe memcmp(leftBase, rightBase, common)
      }
    }
    return order != 0 ? Int(order) : byteCount - other.byteCount
  }
}
