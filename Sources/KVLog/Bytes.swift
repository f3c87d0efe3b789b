// Bytes: borrowing an array's, copying a span's, and their order.

#if canImport(Glibc)
  public import Glibc
#else
  public import Darwin
#endif

extension [UInt8] {
  /// The bytes, borrowed.
  @inlinable
  package var bytes: RawSpan {
    @_lifetime(borrow self)
    get {
      let elements = span
      // Sound: bytes have no padding.
      return unsafe elements.bytes
    }
  }
}

extension [UInt8] {
  @inlinable
  package init(copying bytes: RawSpan) {
    self = unsafe bytes.withUnsafeBytes { unsafe [UInt8]($0) }
  }
}

extension RawSpan {
  /// An owned copy of the bytes.
  @inlinable
  package func copied() -> [UInt8] { [UInt8](copying: self) }

  /// Bytewise equality.
  @inlinable
  package func isEqual(to other: borrowing RawSpan) -> Bool {
    guard byteCount == other.byteCount else { return false }
    return compare(other) == 0
  }

  /// memcmp order, a shorter span first: LMDB's order of keys. Negative, zero or positive.
  @inlinable
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
