// The first message: who the replica is, what it has, what it wants.
//
//     hello = magic             4    "KVSY"
//             protocols         u16 minimum | u16 maximum
//             mode              u16    1 push, 2 pull, 4 compare
//             codecs            u16    bit 0 zstd; no compression is always understood
//             replica           16
//             cursorEpoch       16     zero: never pulled
//             cursorVersion     u64
//             cursorDigest      16
//             lastVersion       u64    the log's last version
//             shippedVersion    u64    the hub's decisions are recorded through this
//             shippedDigest     16     the replica's digest there
//             cursorSpace       16     the first epoch of the space that the cursor belongs to
//             positions         u8 count | *(version u64 | digest 16)     of the hub, that it has passed, newest first
//             maximumFrame      u32    the largest payload the replica accepts
//             credit            u32    bytes of feed it accepts to begin with
//             space             u8 count | bytes
//             covered           coverage   the keys of which the cursor says what the replica has
//             missing           coverage   those of which it is to get a snapshot, in this order
//             deletions         u8         1: with the keys that were deleted
//             ownThrough        u64    the hub's version through which it is fed its own commits too
//             token             u16 count | bytes
//             ignored                  what a newer protocol adds
//
// Magic and protocols come first and never change, so that two sides that share no protocol can still say so.

package import KVLog

package struct Hello: Hashable, Sendable {
  package var protocols: ClosedRange<UInt16> = ProtocolLimits.versions
  package var mode: SessionMode
  package var codecs: UInt16 = 0
  /// The origin of its commits: the store's incarnation.
  package var replica: Identity
  package var space: String
  /// The pull cursor; its identity is the hub's epoch. `nil`: never pulled.
  package var cursor: Position?
  /// Of the replica's log.
  package var lastVersion: Version
  /// The hub's decisions are durably recorded through here; the identity is the replica's. Exceptions up to this
  /// version are thereby confirmed.
  package var shipped: Position
  /// Some of the hub's positions that the replica has passed, the newest first: should the hub have been restored, the
  /// newest that it still has is where they part. Their identity is the cursor's.
  package var positions: [Position] = []
  /// The first epoch of the space that the cursor belongs to: whatever becomes of it, the space keeps that.
  package var cursorSpace = Identity.zero
  package var maximumFrameBytes = ProtocolLimits.maximumFrameBytes
  package var credit = ProtocolLimits.windowBytes
  /// The keys that the replica has everything of, up to its cursor…
  package var covered = Coverage.all
  /// …and those that it wants and has nothing of yet.
  package var missing = Coverage.none
  /// Whether a snapshot has to have deletions too: with changes pending, which may meet them.
  package var wantsDeletions = false
  /// Through this version of the hub the replica is to be fed its own commits as well: it went back to an older state, as the
  /// hub had, and what it is fed again may go over them.
  package var ownThrough: Version = 0
  package var token: [UInt8] = []

  /// `shipped` is the replica's own version and digest; its identity must be `replica`.
  package init(
    mode: SessionMode, replica: Identity, space: String, cursor: Position?,
    lastVersion: Version, shipped: Position, token: [UInt8] = []
  ) {
    self.mode = mode
    self.replica = replica
    self.space = space
    self.cursor = cursor
    self.lastVersion = lastVersion
    self.shipped = shipped
    self.token = token
  }
}

extension Hello {
  func encode(to bytes: inout [UInt8]) {
    bytes.append(contentsOf: ProtocolLimits.magic)
    bytes.append(littleEndian: protocols.lowerBound)
    bytes.append(littleEndian: protocols.upperBound)
    bytes.append(littleEndian: mode.rawValue)
    bytes.append(littleEndian: codecs)
    bytes.append(replica)
    bytes.append(cursor?.identity ?? .zero)
    bytes.append(littleEndian: cursor?.version ?? 0)
    bytes.append(cursor?.digest ?? .zero)
    bytes.append(littleEndian: lastVersion)
    bytes.append(littleEndian: shipped.version)
    bytes.append(shipped.digest)
    bytes.append(cursorSpace)
    bytes.append(littleEndian: UInt8(clamping: positions.count))
    for position in positions.prefix(Int(UInt8.max)) {
      bytes.append(littleEndian: position.version)
      bytes.append(position.digest)
    }
    bytes.append(littleEndian: UInt32(clamping: maximumFrameBytes))
    bytes.append(littleEndian: UInt32(clamping: credit))
    // The name goes as it is, cut to what its count can say: the hub's rule refuses it with a message.
    let name = space.utf8.prefix(Int(UInt8.max))
    bytes.append(littleEndian: UInt8(name.count))
    bytes.append(contentsOf: name)
    covered.encode(to: &bytes)
    missing.encode(to: &bytes)
    bytes.append(wantsDeletions ? 1 : 0)
    bytes.append(littleEndian: ownThrough)
    precondition(token.count <= ProtocolLimits.maximumTokenBytes, "a token has at most 4,096 bytes")
    bytes.append(littleEndian: UInt16(token.count))
    bytes.append(contentsOf: token)
  }

  /// Magic and protocols; checked before the rest is looked at.
  static func checkProtocols(_ bytes: RawSpan) throws(ProtocolError) -> ClosedRange<UInt16> {
    guard bytes.byteCount >= 8 else { throw .notKVSync }
    for (offset, byte) in ProtocolLimits.magic.enumerated() where bytes.load(UInt8.self, at: offset) != byte {
      throw .notKVSync
    }
    let minimum = bytes.load(UInt16.self, at: 4)
    let maximum = bytes.load(UInt16.self, at: 6)
    guard minimum <= maximum else { throw .malformed(.hello, LogFormatError(.badValue, at: 4)) }
    guard (minimum...maximum).overlaps(ProtocolLimits.versions) else {
      throw .unsupportedProtocol(offered: minimum...maximum)
    }
    return minimum...maximum
  }

  init(protocols: ClosedRange<UInt16>, decoding bytes: RawSpan) throws(LogFormatError) {
    var reader = ByteReader(at: 8)
    self.protocols = protocols
    mode = SessionMode(rawValue: try reader.read(UInt16.self, from: bytes))
    codecs = try reader.read(UInt16.self, from: bytes)
    replica = try reader.identity(from: bytes)
    let epoch = try reader.identity(from: bytes)
    let version = try reader.read(UInt64.self, from: bytes)
    let digest = try reader.digest(from: bytes)
    cursor = epoch == .zero ? nil : Position(identity: epoch, version: version, digest: digest)
    lastVersion = try reader.read(UInt64.self, from: bytes)
    let shippedVersion = try reader.read(UInt64.self, from: bytes)
    shipped = Position(identity: replica, version: shippedVersion, digest: try reader.digest(from: bytes))
    cursorSpace = try reader.identity(from: bytes)
    for _ in 0..<(try reader.read(UInt8.self, from: bytes)) {
      let version = try reader.read(UInt64.self, from: bytes)
      positions.append(Position(identity: epoch, version: version, digest: try reader.digest(from: bytes)))
    }
    (maximumFrameBytes, credit) = try reader.window(from: bytes)
    space = try reader.text(UInt8.self, atMost: Int(UInt8.max), from: bytes)
    covered = try Coverage(from: &reader, in: bytes)
    missing = try Coverage(from: &reader, in: bytes)
    wantsDeletions = try reader.read(UInt8.self, from: bytes) == 1
    ownThrough = try reader.read(UInt64.self, from: bytes)
    let count = covered.intervals.count + missing.intervals.count
    guard count <= ProtocolLimits.maximumIntervals, covered.intersection(missing).isEmpty else {
      throw LogFormatError(.overLimit, at: reader.offset)
    }
    token = bytes.copied(try reader.counted(UInt16.self, atMost: ProtocolLimits.maximumTokenBytes, from: bytes))
  }
}

extension ByteReader {
  /// The receiver's limits, as hello and welcome state them: largest frame and initial credit.
  mutating func window(from bytes: RawSpan) throws(LogFormatError) -> (maximumFrameBytes: Int, credit: Int) {
    let start = offset
    let frame = Int(try read(UInt32.self, from: bytes))
    let credit = Int(try read(UInt32.self, from: bytes))
    guard frame >= ProtocolLimits.minimumFrameBytes, credit <= ProtocolLimits.maximumCredit else {
      throw LogFormatError(.badValue, at: start)
    }
    return (min(frame, ProtocolLimits.maximumFrameBytes), credit)
  }
}
