// A page of a snapshot on its way to a replica.
//
//     page = version   u64    the rows are those of this version of the hub: where the pull cursor is, or goes if the
//                             replica has nothing yet
//            epoch     16     the hub's epoch
//            digest    16     the hub's digest there
//            applied   u64    the replica's own version through which its commits are in it
//            head      u64    the hub's newest version when it was read
//            interval         as in a coverage: the keys that it says everything about
//            record    (u32 count | bytes)        a commit record of rows; nothing when there are none
//
// The hub feeds a replica everything through `version` of what it has before it sends the page: at any time a replica has
// all of its keys at one version.

package import KVLog

package struct Page: Hashable, Sendable {
  package var snapshot: SnapshotPage
  package var head: Version

  package init(snapshot: SnapshotPage, head: Version) {
    self.snapshot = snapshot
    self.head = head
  }

  package var chargedBytes: Int {
    64 + snapshot.interval.from.count + (snapshot.interval.end?.count ?? 0) + snapshot.record.count
  }
}

extension Page {
  /// Everything but the record.
  func encodeHead(to bytes: inout [UInt8]) {
    bytes.append(littleEndian: snapshot.position.version)
    bytes.append(snapshot.position.identity)
    bytes.append(snapshot.position.digest)
    bytes.append(littleEndian: snapshot.applied)
    bytes.append(littleEndian: head)
    snapshot.interval.encode(to: &bytes)
    bytes.append(littleEndian: UInt32(snapshot.record.count))
  }

  init(decoding bytes: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    let version = try reader.read(UInt64.self, from: bytes)
    let epoch = try reader.identity(from: bytes)
    let position = Position(identity: epoch, version: version, digest: try reader.digest(from: bytes))
    let applied = try reader.read(UInt64.self, from: bytes)
    head = try reader.read(UInt64.self, from: bytes)
    let interval = try KeyInterval(from: &reader, in: bytes)
    let record = try reader.counted(UInt32.self, from: bytes)
    try reader.end(of: bytes)
    snapshot = SnapshotPage(position: position, applied: applied, interval: interval, record: bytes.copied(record))
    try snapshot.check()
  }
}
