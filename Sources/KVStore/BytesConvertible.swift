// What can be a key or a value: anything that shows its bytes for the length of a call.

public import Foundation

/// A key or a value as the caller has it. `String` stands for its UTF-8 bytes.
public protocol BytesConvertible {
  /// Calls `body` with the bytes. The span is valid only until `body` returns.
  func withBytes<Result>(_ body: (RawSpan) throws -> Result) rethrows -> Result
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
