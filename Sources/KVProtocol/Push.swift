// A run of a replica's own commits, on their way to the hub.
//
//     push = after        u64    the run covers the replica's versions (after, through]
//            through      u64
//            digest       16     the replica's digest at `through`
//            cursor       u64    the replica's pull cursor when the run was read
//            confirmed    u64    exceptions through this version are durably recorded; the hub may forget them
//            horizon      u64    the replica's version through which its log was looked at to leave something out of the run;
//                                0: nothing was
//            horizonDigest 16    the replica's digest there
//            changeCount  u32
//            pages        u32    pages of a snapshot that it had applied in this session when the run was read
//            records             commit records of the replica's log

package import KVLog

package struct Push: Hashable, Sendable {
  package var segment: CommitSegment
  package var cursor: Version
  package var confirmed: Version
  package var horizon = Horizon.none
  /// So many pages of the session were applied when the run was read, if not more.
  package var pages: UInt32 = 0

  /// A run as it was read.
  package init(_ run: PushSegment, confirmed: Version) {
    self.init(segment: run.segment, cursor: run.cursor, confirmed: confirmed)
    horizon = run.horizon
  }

  package init(segment: CommitSegment, cursor: Version, confirmed: Version) {
    self.segment = segment
    self.cursor = cursor
    self.confirmed = confirmed
  }

  package static let headByteCount = 80

  package var chargedBytes: Int { Push.headByteCount + segment.records.count }
}

extension Push {
  /// Everything but the records.
  func encodeHead(to bytes: inout [UInt8]) {
    bytes.append(littleEndian: segment.after)
    bytes.append(littleEndian: segment.through)
    bytes.append(segment.digest)
    bytes.append(littleEndian: cursor)
    bytes.append(littleEndian: confirmed)
    horizon.encode(to: &bytes)
    bytes.append(littleEndian: UInt32(segment.changeCount))
    bytes.append(littleEndian: pages)
  }

  init(head: RawSpan, records: [UInt8]) throws(LogFormatError) {
    var reader = ByteReader()
    let after = try reader.read(UInt64.self, from: head)
    let through = try reader.read(UInt64.self, from: head)
    let digest = try reader.digest(from: head)
    cursor = try reader.read(UInt64.self, from: head)
    confirmed = try reader.read(UInt64.self, from: head)
    horizon = try Horizon(from: &reader, in: head)
    let changeCount = Int(try reader.read(UInt32.self, from: head))
    pages = try reader.read(UInt32.self, from: head)
    segment = CommitSegment(
      after: after, through: through, digest: digest, records: records, changeCount: changeCount)
  }
}

extension PushSegment {
  /// A run as it came; the replica's counts do not travel.
  package init(_ push: Push) {
    self.init(segment: push.segment, cursor: push.cursor, localChanges: 0, localBytes: 0)
    horizon = push.horizon
  }
}
