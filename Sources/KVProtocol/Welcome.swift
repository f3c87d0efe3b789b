// The hub's answer to a hello: where it stands, and where the replica stands with it.
//
//     welcome = protocol        u16
//               codec           u16    0: none
//               space           16     the space's first epoch
//               epoch           16     identity of the space's history
//               lastApplied     u64    the replica's version through which the hub has decided; 0: nothing yet
//               appliedDigest   16     the replica's digest there, as the replica once sent it
//               appliedKind     u8     0: as above; 1: the mark of its commit there, which others brought back
//               mayRefuse       u8     1: it may refuse commits for what is in them, and wants all of them
//               zero            2
//               horizon         u64    the furthest horizon of the replica's pushes
//               horizonDigest   16     the replica's digest there, as the replica once sent it
//               confirmed       u64    the last exception that the replica confirmed, which the hub has forgotten; 0: none
//               commonVersion   u64    the newest of the replica's hub positions that the hub has: its cursor, unless the hub
//                                      was restored; what it feeds begins there
//               commonDigest    16
//               headVersion     u64    the hub's newest version
//               headDigest      16
//               retentionFloor  u64    the oldest cursor that can be continued from; from an older one, with a snapshot
//               retention       u64    seconds for which the hub surely keeps what a cursor needs to be continued from;
//                                      0: for ever
//               backedUp        u64    the hub's version that a backup of it covers; 0: none is announced
//               maximumFrame    u32
//               credit          u32    bytes of push the hub accepts to begin with
//               covered         coverage: what the hub goes on feeding; nothing if the log no longer has what follows on
//                               what the replica has: then it begins again, with a snapshot
//               unconfirmed     exceptions beyond the hello's shipped version, as in an acknowledgement
//               ignored                what a newer protocol adds

package import KVLog

package struct Welcome: Hashable, Sendable {
  package var protocolVersion: UInt16 = ProtocolLimits.versions.upperBound
  package var codec: UInt16 = 0
  /// The hub's newest position; its identity is the epoch.
  package var head: Position
  /// What the hub has decided of this replica, to be treated as an acknowledgement through that version: its
  /// exceptions are those that the hello did not confirm.
  package var lastApplied: Version
  package var appliedDigest: Digest
  package var appliedKind = ReplicaProgress.DigestKind.log
  /// The furthest horizon of what it decided.
  package var horizon = Horizon.none
  /// The last exception that the replica confirmed: one that has not heard of it was put back.
  package var confirmed: Version = 0
  /// The first epoch of the space.
  package var space: Identity
  /// The newest of the replica's hub positions that is in the hub's history too; its identity is the epoch.
  package var common: Position
  /// What the hub goes on feeding: what the replica has, or nothing if that is too old.
  package var covered = Coverage.all
  package var unconfirmed: [CommitException]
  package var retentionFloor: Version
  package var retentionSeconds: UInt64 = 0
  /// The hub's version that a backup of it covers, in the present epoch; 0: none is announced.
  package var backedUp: Version = 0
  package var maximumFrameBytes = ProtocolLimits.maximumFrameBytes
  package var credit = ProtocolLimits.windowBytes
  /// Whether the hub looks at what is in commits, and may refuse some: it is sent those too that were overwritten since.
  package var mayRefuse = false

  package init(
    space: Identity, head: Position, lastApplied: Version, appliedDigest: Digest, common: Position,
    unconfirmed: [CommitException], retentionFloor: Version
  ) {
    self.space = space
    self.head = head
    self.lastApplied = lastApplied
    self.appliedDigest = appliedDigest
    self.common = common
    self.unconfirmed = unconfirmed
    self.retentionFloor = retentionFloor
  }

  /// Whether a replica that has heard what was decided through `shipped` is the one that confirmed what the hub has forgotten. Of
  /// what others brought back it finds out by itself what was declined.
  package func isConfirmed(through shipped: Version) -> Bool { confirmed <= shipped || appliedKind == .commit }

  /// The welcome read as the acknowledgement it implies.
  package var acknowledgement: Acknowledgement {
    Acknowledgement(through: lastApplied, exceptions: unconfirmed, head: head.version)
  }
}

extension Welcome {
  func encode(to bytes: inout [UInt8]) {
    bytes.append(littleEndian: protocolVersion)
    bytes.append(littleEndian: codec)
    bytes.append(space)
    bytes.append(head.identity)
    bytes.append(littleEndian: lastApplied)
    bytes.append(appliedDigest)
    bytes.append(littleEndian: UInt32(appliedKind.rawValue) | (mayRefuse ? 0x100 : 0))
    horizon.encode(to: &bytes)
    bytes.append(littleEndian: confirmed)
    bytes.append(littleEndian: common.version)
    bytes.append(common.digest)
    bytes.append(littleEndian: head.version)
    bytes.append(head.digest)
    bytes.append(littleEndian: retentionFloor)
    bytes.append(littleEndian: retentionSeconds)
    bytes.append(littleEndian: backedUp)
    bytes.append(littleEndian: UInt32(clamping: maximumFrameBytes))
    bytes.append(littleEndian: UInt32(clamping: credit))
    covered.encode(to: &bytes)
    CommitException.encode(unconfirmed, to: &bytes)
  }

  init(decoding bytes: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    protocolVersion = try reader.read(UInt16.self, from: bytes)
    codec = try reader.read(UInt16.self, from: bytes)
    space = try reader.identity(from: bytes)
    let epoch = try reader.identity(from: bytes)
    lastApplied = try reader.read(UInt64.self, from: bytes)
    appliedDigest = try reader.digest(from: bytes)
    let kinds = try reader.read(UInt32.self, from: bytes)
    guard let kind = ReplicaProgress.DigestKind(rawValue: UInt8(truncatingIfNeeded: kinds)), kinds >> 9 == 0 else {
      throw LogFormatError(.badValue, at: reader.offset - 4)
    }
    appliedKind = kind
    mayRefuse = kinds & 0x100 != 0
    horizon = try Horizon(from: &reader, in: bytes)
    confirmed = try reader.read(UInt64.self, from: bytes)
    let commonVersion = try reader.read(UInt64.self, from: bytes)
    common = Position(identity: epoch, version: commonVersion, digest: try reader.digest(from: bytes))
    let version = try reader.read(UInt64.self, from: bytes)
    head = Position(identity: epoch, version: version, digest: try reader.digest(from: bytes))
    retentionFloor = try reader.read(UInt64.self, from: bytes)
    retentionSeconds = try reader.read(UInt64.self, from: bytes)
    backedUp = try reader.read(UInt64.self, from: bytes)
    (maximumFrameBytes, credit) = try reader.window(from: bytes)
    covered = try Coverage(from: &reader, in: bytes)
    unconfirmed = try CommitException.decodeList(from: &reader, in: bytes)
    // That of a store which knows none.
    guard space != .zero, epoch != .zero else { throw LogFormatError(.badValue, at: 4) }
  }
}
