// What a replica brings back to a hub that was restored to an older state, and the hub's answer. One is under way at a time.
//
//     restore  = after        u64    the run covers the replica's versions (after, through]
//                through      u64
//                cursor       u64    the newest of the hub's versions that both have
//                changeCount  u32
//                zero         u32
//                records             commit records of the replica's log, of commits of others and of former incarnations, with
//                                    the version that the hub had given it, if that is known
//     restored = through      u64    durably decided through this version of the replica
//                head         u64    the hub's version by which it has what it took
//                count        u32
//                *declined    u64    not taken: somebody has written a key of it since; ascending, none after `through`

package import KVLog

package struct Restore: Hashable, Sendable {
  package var segment: CommitSegment
  package var cursor: Version

  package init(segment: CommitSegment, cursor: Version) {
    self.segment = segment
    self.cursor = cursor
  }

  package static let headByteCount = 32
}

package struct Restored: Hashable, Sendable {
  package var through: Version
  package var declined: [Version]
  package var head: Version

  package init(through: Version, declined: [Version], head: Version) {
    self.through = through
    self.declined = declined
    self.head = head
  }
}

extension Restore {
  /// Everything but the records.
  func encodeHead(to bytes: inout [UInt8]) {
    bytes.append(littleEndian: segment.after)
    bytes.append(littleEndian: segment.through)
    bytes.append(littleEndian: cursor)
    bytes.append(littleEndian: UInt32(segment.changeCount))
    bytes.append(littleEndian: UInt32(0))
  }

  init(head: RawSpan, records: [UInt8]) throws(LogFormatError) {
    var reader = ByteReader()
    let after = try reader.read(UInt64.self, from: head)
    let through = try reader.read(UInt64.self, from: head)
    cursor = try reader.read(UInt64.self, from: head)
    let changeCount = Int(try reader.read(UInt32.self, from: head))
    guard try reader.read(UInt32.self, from: head) == 0 else { throw LogFormatError(.notZero, at: reader.offset - 4) }
    segment = CommitSegment(after: after, through: through, digest: .zero, records: records, changeCount: changeCount)
  }
}

extension Restored {
  func encode(to bytes: inout [UInt8]) {
    bytes.append(littleEndian: through)
    bytes.append(littleEndian: head)
    bytes.append(littleEndian: UInt32(declined.count))
    for version in declined { bytes.append(littleEndian: version) }
  }

  init(decoding bytes: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    through = try reader.read(UInt64.self, from: bytes)
    head = try reader.read(UInt64.self, from: bytes)
    let count = Int(try reader.read(UInt32.self, from: bytes))
    // A count that cannot fit allocates nothing.
    guard count <= reader.remaining(in: bytes) / 8 else { throw LogFormatError(.overLimit, at: 16) }
    declined = []
    declined.reserveCapacity(count)
    for _ in 0..<count {
      let version = try reader.read(UInt64.self, from: bytes)
      guard version > declined.last ?? 0, version <= through else {
        throw LogFormatError(.badVersion, at: reader.offset - 8)
      }
      declined.append(version)
    }
    try reader.end(of: bytes)
  }
}
