// Records: what a block is made of, and what travels on the wire.
//
//     records = *record
//     record  = length u32      bytes after this 8-byte header
//               kind   u8       as `RecordKind` has them
//               zero   3 bytes
//               payload         `length` bytes; a commit's is in Commit.swift, the others are opaque to the log
//
// All integers little-endian, unaligned.

package enum RecordKind: UInt8, Sendable {
  case commit = 1
  case acknowledgement = 2
  case cursor = 3
  case conflict = 4
  case progress = 5
  case incarnation = 6
  case rollback = 7
  case restored = 8
  case subscription = 9
  case parked = 10
  case unparked = 11
  case decision = 12
  case pruning = 13
  case adoption = 14
  case succession = 15
  case adopted = 16
  case contact = 17
}

/// Where one record lies in the bytes it was read from.
package struct RecordView: Sendable {
  package let kind: RecordKind
  /// The whole record, its 8-byte header included.
  package let record: Range<Int>
  package let payload: Range<Int>

  @usableFromInline
  init(kind: RecordKind, record: Range<Int>, payload: Range<Int>) {
    self.kind = kind
    self.record = record
    self.payload = payload
  }

  @inlinable package static var headerByteCount: Int { 8 }
}

/// Steps over records, checking each header. It trusts nothing: any bytes give records or a `LogFormatError`.
package struct RecordCursor {
  @usableFromInline var offset: Int
  @usableFromInline let end: Int

  /// Over `range` of the span that each call of `next` is given.
  @inlinable
  package init(_ range: Range<Int>) {
    offset = range.lowerBound
    end = range.upperBound
  }

  /// Bytes of the records that are left.
  package var remainingBytes: Int { max(0, end - offset) }

  /// Over all of `bytes`.
  @inlinable
  package init(over bytes: RawSpan) {
    self.init(0..<bytes.byteCount)
  }

  /// The next record, or `nil` at the end.
  @inlinable
  package mutating func next(in bytes: RawSpan) throws(LogFormatError) -> RecordView? {
    let start = offset
    guard start < end else { return nil }
    guard start >= 0, end <= bytes.byteCount, end - start >= 8 else { throw LogFormatError(.cutShort, at: start) }
    let header = bytes.load(UInt64.self, at: start)
    let length = Int(truncatingIfNeeded: header & 0xFFFF_FFFF)
    guard length <= end - start - 8 else { throw LogFormatError(.cutShort, at: start) }
    guard let kind = RecordKind(rawValue: UInt8(truncatingIfNeeded: header >> 32)) else {
      throw LogFormatError(.unknownKind, at: start)
    }
    guard header >> 40 == 0 else { throw LogFormatError(.notZero, at: start) }
    let payload = start + 8
    offset = payload + length
    return RecordView(
      kind: kind, record: start..<offset, payload: payload..<offset)
  }
}
