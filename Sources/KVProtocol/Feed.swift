// A run of the hub's commits on their way to a replica: those of others only, though it covers all versions.
//
//     feed = after        u64    the run covers the hub's versions (after, through]
//            through      u64    where the pull cursor goes
//            digest       16     the hub's digest at `through`
//            head         u64    the hub's newest version when the run was read
//            changeCount  u32
//            zero         u32
//            records             commit records of the hub's log; none when all of the run was the replica's own

package import KVLog

package struct Feed: Hashable, Sendable {
  package var segment: CommitSegment
  package var head: Version

  package init(segment: CommitSegment, head: Version) {
    self.segment = segment
    self.head = head
  }

  package static let headByteCount = 48

  package var chargedBytes: Int { Feed.headByteCount + segment.records.count }
}

extension Feed {
  /// Everything but the records.
  func encodeHead(to bytes: inout [UInt8]) {
    bytes.append(littleEndian: segment.after)
    bytes.append(littleEndian: segment.through)
    bytes.append(segment.digest)
    bytes.append(littleEndian: head)
    bytes.append(littleEndian: UInt32(segment.changeCount))
    bytes.append(littleEndian: UInt32(0))
  }

  init(head bytes: RawSpan, records: [UInt8]) throws(LogFormatError) {
    var reader = ByteReader()
    let after = try reader.read(UInt64.self, from: bytes)
    let through = try reader.read(UInt64.self, from: bytes)
    let digest = try reader.digest(from: bytes)
    head = try reader.read(UInt64.self, from: bytes)
    let changeCount = Int(try reader.read(UInt32.self, from: bytes))
    guard try reader.read(UInt32.self, from: bytes) == 0 else { throw LogFormatError(.notZero, at: reader.offset - 4) }
    segment = CommitSegment(
      after: after, through: through, digest: digest, records: records, changeCount: changeCount)
  }
}
