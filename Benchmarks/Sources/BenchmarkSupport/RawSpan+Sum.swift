// What makes each byte be read.

extension RawSpan {
  /// The sum of its words, and of the bytes after them: what makes each byte of it be read.
  @inline(__always)
  public var sum: UInt64 {
    var sum: UInt64 = 0
    var offset = 0
    while offset + 8 <= byteCount {
      unsafe sum &+= unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: UInt64.self)
      offset += 8
    }
    while offset < byteCount {
      unsafe sum &+= UInt64(unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: UInt8.self))
      offset += 1
    }
    return sum
  }
}
