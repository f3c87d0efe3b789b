// A change: one put or one deletion of one key.
//
//     change = flags       u8         1 = deletion, 0 = put
//              keyLength   u16        1...511
//              valueLength u32        0 for a deletion
//              key
//              value
//
// All integers little-endian, unaligned.

/// Where one change lies in the bytes it was read from.
package struct ChangeView: Sendable {
  package let isDeletion: Bool
  package let key: Range<Int>
  package let value: Range<Int>

  @usableFromInline
  init(isDeletion: Bool, key: Range<Int>, value: Range<Int>) {
    self.isDeletion = isDeletion
    self.key = key
    self.value = value
  }
}

package enum ChangeEncoding {
  /// flags, keyLength and valueLength.
  @inlinable package static var headerByteCount: Int { 7 }
  /// The smallest change: a one-byte key deleted, or put with an empty value.
  @inlinable package static var minimumByteCount: Int { 8 }

  /// What a change takes in the log and on the wire.
  @inlinable
  package static func byteCount(keyBytes: Int, valueBytes: Int) -> Int {
    7 + keyBytes + valueBytes
  }
}

/// Steps over the changes of a commit, checking counts and lengths. It trusts nothing.
package struct ChangeCursor {
  @usableFromInline var offset: Int
  @usableFromInline let end: Int
  @usableFromInline var left: Int

  @inlinable
  package init(_ commit: CommitView) {
    offset = commit.changes.lowerBound
    end = commit.changes.upperBound
    left = commit.header.changeCount
  }

  /// The next change, or `nil` after the last one; bytes left over after it are an error.
  @inlinable
  package mutating func next(in bytes: RawSpan) throws(LogFormatError) -> ChangeView? {
    let start = offset
    guard left > 0 else {
      guard start == end else { throw LogFormatError(.leftOver, at: start) }
      return nil
    }
    guard end <= bytes.byteCount, end - start >= 7 else { throw LogFormatError(.cutShort, at: start) }
    let flags = bytes.load(UInt8.self, at: start)
    let keyBytes = Int(bytes.load(UInt16.self, at: start + 1))
    let valueBytes = Int(bytes.load(UInt32.self, at: start + 3))
    guard flags <= 1 else { throw LogFormatError(.badFlags, at: start) }
    guard keyBytes >= 1, keyBytes <= LogLimits.maximumKeyBytes else { throw LogFormatError(.badKey, at: start) }
    guard valueBytes <= LogLimits.maximumValueBytes else { throw LogFormatError(.overLimit, at: start) }
    guard flags == 0 || valueBytes == 0 else { throw LogFormatError(.badDeletion, at: start) }
    guard keyBytes + valueBytes <= end - start - 7 else { throw LogFormatError(.cutShort, at: start) }
    let key = start + 7
    let value = key + keyBytes
    offset = value + valueBytes
    left -= 1
    return ChangeView(
      isDeletion: flags == 1, key: key..<value,
      value: value..<offset)
  }
}
