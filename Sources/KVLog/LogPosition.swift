// A place between two blocks of the log, with all that is needed to go on reading, checking or appending there.
//
//     position = segment u64 | offset u64 | version u64 | digest 16            40 bytes, little-endian
//
// Invariants:
// - `offset` is the end of a block (or of the segment's header) in the file that `segment` names.
// - `version` and `digest` are those after the last commit before that place.

/// The end of a block: where reading, replaying or appending goes on.
package struct LogPosition: Hashable, Sendable {
  /// The first version of the segment file: its name.
  package var segment: Version
  /// Bytes from the start of that file.
  package var offset: UInt64
  /// The last commit before this place.
  package var version: Version
  /// The digest of the log through `version`.
  package var digest: Digest

  package init(segment: Version, offset: UInt64, version: Version, digest: Digest) {
    self.segment = segment
    self.offset = offset
    self.version = version
    self.digest = digest
  }

  /// Before the first block of the log of `identity`.
  package static func start(of identity: Identity) -> LogPosition {
    LogPosition(
      segment: 1, offset: UInt64(SegmentHeader.byteCount), version: 0, digest: .origin(of: identity))
  }

  /// Whether this place lies before `other` in the same log.
  @inlinable
  package func precedes(_ other: LogPosition) -> Bool {
    (segment, offset) < (other.segment, other.offset)
  }
}

extension LogPosition {
  package static let encodedByteCount = 40

  package func encode(to bytes: inout [UInt8]) {
    bytes.append(littleEndian: segment)
    bytes.append(littleEndian: offset)
    bytes.append(littleEndian: version)
    bytes.append(digest)
  }

  package var encoded: [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(Self.encodedByteCount)
    encode(to: &bytes)
    return bytes
  }

  package init(decoding bytes: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    try self.init(from: &reader, in: bytes)
    try reader.end(of: bytes)
  }

  package init(from reader: inout ByteReader, in bytes: RawSpan) throws(LogFormatError) {
    segment = try reader.read(UInt64.self, from: bytes)
    offset = try reader.read(UInt64.self, from: bytes)
    version = try reader.read(UInt64.self, from: bytes)
    digest = try reader.digest(from: bytes)
  }
}
