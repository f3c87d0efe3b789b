// The header of a frame.
//
//     frame  = header payload
//     header = length    u32    bytes after this field: 8 + the payload's
//              kind      u8     MessageKind
//              flags     u8     1: more fragments of the same message follow
//              zero      u16
//              checksum  u32    low word of XXH3-64 over the payload, seeded with the header's first eight bytes, so
//                               that it vouches for them too
//
// All integers little-endian.

import KVLog

package struct FrameHeader: Hashable, Sendable {
  package static let byteCount = 12
  /// What `length` counts besides the payload.
  static let countedBytes = 8

  package var kind: MessageKind
  package var payloadBytes: Int
  package var hasMore: Bool
  package var checksum: UInt32

  package init(_ kind: MessageKind, payloadBytes: Int, hasMore: Bool, checksum: UInt32) {
    self.kind = kind
    self.payloadBytes = payloadBytes
    self.hasMore = hasMore
    self.checksum = checksum
  }

  /// The header of a frame with this payload.
  package init(_ kind: MessageKind, hasMore: Bool, payload: RawSpan) {
    self.init(kind, payloadBytes: payload.byteCount, hasMore: hasMore, checksum: 0)
    checksum = expectedChecksum(of: payload)
  }

  package func matches(_ payload: RawSpan) -> Bool {
    checksum == expectedChecksum(of: payload)
  }

  private func expectedChecksum(of payload: RawSpan) -> UInt32 {
    UInt32(truncatingIfNeeded: checksum64(payload, seed: firstWord))
  }

  /// The first eight bytes of the header, as one little-endian integer.
  private var firstWord: UInt64 {
    UInt64(Self.countedBytes + payloadBytes) | UInt64(kind.rawValue) << 32 | (hasMore ? 1 << 40 : 0)
  }

  /// The twelve bytes of the header.
  package var encoded: [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(Self.byteCount)
    bytes.append(littleEndian: firstWord)
    bytes.append(littleEndian: checksum)
    return bytes
  }

  /// Reads and checks a header; `limit` is the largest payload allowed here.
  package init(decoding bytes: RawSpan, limit: Int) throws(ProtocolError) {
    guard bytes.byteCount == Self.byteCount else { throw .badHeader("it has \(bytes.byteCount) bytes") }
    let length = Int(bytes.load(UInt32.self, at: 0))
    guard length >= Self.countedBytes else { throw .badHeader("its length is \(length)") }
    // The kind first: a stranger's text announces a huge length as well, and is better named for what it is.
    let rawKind = bytes.load(UInt8.self, at: 4)
    guard let kind = MessageKind(rawValue: rawKind) else { throw .badHeader("its kind is \(rawKind)") }
    guard length - Self.countedBytes <= limit else {
      throw .frameTooLarge(bytes: length - Self.countedBytes, limit: limit)
    }
    let flags = bytes.load(UInt8.self, at: 5)
    guard flags <= 1, bytes.load(UInt16.self, at: 6) == 0 else { throw .badHeader("reserved bits are set") }
    self.init(
      kind, payloadBytes: length - Self.countedBytes, hasMore: flags == 1,
      checksum: bytes.load(UInt32.self, at: 8))
    guard !hasMore || (kind.mayBeFragmented && payloadBytes > 0) else {
      throw .badHeader("a \(kind) message is not sent in fragments")
    }
  }
}

extension EncodedMessage {
  /// The ranges of the payload that go into one frame each; one empty range for an empty payload.
  package func fragments(of frameBytes: Int) -> [Range<Int>] {
    guard byteCount > frameBytes else { return [0..<byteCount] }
    return stride(from: 0, to: byteCount, by: frameBytes).map { $0..<min($0 + frameBytes, byteCount) }
  }

  /// Header and payload of every frame, as they go over the wire or into a file.
  package func frames(of frameBytes: Int = ProtocolLimits.maximumFrameBytes) -> [UInt8] {
    let payload = head + body
    var bytes: [UInt8] = []
    bytes.reserveCapacity(payload.count + FrameHeader.byteCount)
    for fragment in fragments(of: frameBytes) {
      let header = unsafe FrameHeader(
        kind, hasMore: fragment.upperBound < payload.count, payload: payload.span.bytes.extracting(fragment))
      bytes.append(contentsOf: header.encoded)
      bytes.append(contentsOf: payload[fragment])
    }
    return bytes
  }
}
