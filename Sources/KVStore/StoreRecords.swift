// The records of the log that are not commits, as the store writes and reads them.
//
// grammar (all integers little-endian)
//   acknowledgement = through u64 | digest 16 | changes u64 | bytes u64 | epoch 16 | holdUntil u64
//   cursor          = epoch 16 | version u64 | digest 16
//   conflict        = ordinal u32 | outcome u8 | sides u8 | keyLength u16 | commitVersion u64 | voidThrough u64 |
//                     localVersion u64 | localTime u64 | serverVersion u64 | remoteTime u64 | remoteOrigin 16 |
//                     key | losing value
//     sides: bit 0 the local change is a deletion, bit 1 the remote one is
//   progress        = as `ReplicaProgress` encodes itself
//   parked, unparked = ParkedRecords.swift

import KVLog
import LMDB

/// A record that adds to one of the smaller tables and to the counters. Live and replayed it does the same.
protocol StoreRecord {
  static var kind: RecordKind { get }

  init(decoding span: RawSpan) throws(LogFormatError)
  func encoded() -> [UInt8]
  /// What it does to the counters; throws when they cannot be those that it was written for.
  func apply(to state: inout StoreState) throws(LogFormatError)
  /// `payload` is what `encoded` gave.
  func write(_ payload: RawSpan, to tables: Tables, _ writer: inout LMDBWriter) throws(LMDBError)
}

/// The hub has decided every local commit up to `through`.
struct AcknowledgementRecord {
  var through: Version
  /// This log's digest at `through`.
  var digest: Digest
  /// Local changes, and their bytes, that this acknowledgement newly covers.
  var changes: UInt64
  var bytes: UInt64
  var epoch: Identity
  /// The hub's version that must be pulled before the commits re-offered with this record are pushed.
  var holdUntil: Version

  func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(littleEndian: through)
    bytes.append(digest)
    bytes.append(littleEndian: changes)
    bytes.append(littleEndian: self.bytes)
    bytes.append(epoch)
    bytes.append(littleEndian: holdUntil)
    return bytes
  }

  init(through: Version, digest: Digest, changes: UInt64, bytes: UInt64, epoch: Identity, holdUntil: Version) {
    self.through = through
    self.digest = digest
    self.changes = changes
    self.bytes = bytes
    self.epoch = epoch
    self.holdUntil = holdUntil
  }

  init(decoding span: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    through = try reader.read(UInt64.self, from: span)
    digest = try reader.digest(from: span)
    changes = try reader.read(UInt64.self, from: span)
    bytes = try reader.read(UInt64.self, from: span)
    epoch = try reader.identity(from: span)
    holdUntil = try reader.read(UInt64.self, from: span)
  }
}

/// The replica has everything of the hub up to `position`; its identity is the hub's epoch.
struct CursorRecord {
  var position: Position

  init(_ position: Position) { self.position = position }

  func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(position.identity)
    bytes.append(littleEndian: position.version)
    bytes.append(position.digest)
    return bytes
  }

  init(decoding span: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    let epoch = try reader.identity(from: span)
    let version = try reader.read(UInt64.self, from: span)
    position = Position(identity: epoch, version: version, digest: try reader.digest(from: span))
  }
}

/// Two replicas changed one key without knowing of each other.
struct ConflictRecord: StoreRecord {
  static let kind = RecordKind.conflict

  enum Outcome: UInt8 {
    /// Both wrote the same: nothing was lost. A later local write may follow as a resolution, for its time.
    case identical = 0
    case remoteWon = 1
    case localWon = 2
    case merged = 3

    var isJournaled: Bool { self != .identical }
  }

  /// Tells conflicts of one applied commit apart.
  var ordinal: UInt32
  var outcome: Outcome
  /// The version under which this store recorded the remote commit.
  var commitVersion: Version
  /// Local changes of the key up to this version are void; 0: none.
  var voidThrough: Version
  var localVersion: Version
  var localTime: HybridTime
  var localIsDeletion: Bool
  var serverVersion: Version
  var remoteTime: HybridTime
  var remoteOrigin: Identity
  var remoteIsDeletion: Bool
  var key: [UInt8]
  /// The value that lost; for `merged`, the local one. Empty for a deletion.
  var losingValue: [UInt8]

  func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(72 + key.count + losingValue.count)
    bytes.append(littleEndian: ordinal)
    bytes.append(outcome.rawValue)
    bytes.append((localIsDeletion ? 1 : 0) | (remoteIsDeletion ? 2 : 0))
    bytes.append(littleEndian: UInt16(key.count))
    for field in [commitVersion, voidThrough, localVersion, localTime.rawValue, serverVersion, remoteTime.rawValue] {
      bytes.append(littleEndian: field)
    }
    bytes.append(remoteOrigin)
    bytes.append(contentsOf: key)
    bytes.append(contentsOf: losingValue)
    return bytes
  }

  init(
    ordinal: UInt32, outcome: Outcome, commitVersion: Version, voidThrough: Version, local: Row, remote: CommitHeader,
    remoteIsDeletion: Bool, key: [UInt8], losingValue: [UInt8]
  ) {
    self.ordinal = ordinal
    self.outcome = outcome
    self.commitVersion = commitVersion
    self.voidThrough = voidThrough
    localVersion = local.version
    localTime = local.time
    localIsDeletion = local.isTombstone
    serverVersion = remote.serverVersion
    remoteTime = remote.time
    remoteOrigin = remote.origin
    self.remoteIsDeletion = remoteIsDeletion
    self.key = key
    self.losingValue = losingValue
  }

  init(decoding span: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    ordinal = try reader.read(UInt32.self, from: span)
    guard let outcome = Outcome(rawValue: try reader.read(UInt8.self, from: span)) else {
      throw LogFormatError(.badValue, at: 4)
    }
    self.outcome = outcome
    let sides = try reader.read(UInt8.self, from: span)
    localIsDeletion = sides & 1 != 0
    remoteIsDeletion = sides & 2 != 0
    let keyLength = Int(try reader.read(UInt16.self, from: span))
    commitVersion = try reader.read(UInt64.self, from: span)
    voidThrough = try reader.read(UInt64.self, from: span)
    localVersion = try reader.read(UInt64.self, from: span)
    localTime = HybridTime(rawValue: try reader.read(UInt64.self, from: span))
    serverVersion = try reader.read(UInt64.self, from: span)
    remoteTime = HybridTime(rawValue: try reader.read(UInt64.self, from: span))
    remoteOrigin = try reader.identity(from: span)
    guard (1...LogLimits.maximumKeyBytes).contains(keyLength) else { throw LogFormatError(.badKey, at: 6) }
    key = span.extracting(try reader.take(keyLength, from: span)).copied()
    losingValue = span.extracting(reader.offset..<span.byteCount).copied()
  }

  func apply(to state: inout StoreState) {
    state.voidThrough = max(state.voidThrough, voidThrough)
    if outcome.isJournaled { state.conflicts += 1 }
  }

  func write(_ payload: RawSpan, to tables: Tables, _ writer: inout LMDBWriter) throws(LMDBError) {
    if voidThrough > 0 {
      var version: [UInt8] = []
      version.append(littleEndian: voidThrough)
      try writer.putSealed(tables.voids, key: key.bytes, version.bytes)
    }
    if outcome.isJournaled { try writer.putSealed(tables.conflicts, key: identifier.bytes, payload) }
  }

  /// Which change it is about, without the rest.
  static func place(in span: RawSpan) throws(LogFormatError) -> (commitVersion: Version, key: [UInt8]) {
    var reader = ByteReader(at: 6)
    let keyLength = Int(try reader.read(UInt16.self, from: span))
    let commitVersion = try reader.read(UInt64.self, from: span)
    reader = ByteReader(at: 72)
    return (commitVersion, span.extracting(try reader.take(keyLength, from: span)).copied())
  }

  /// The journal's key: big-endian, so that LMDB orders conflicts by version.
  var identifier: [UInt8] { Self.identifier(commitVersion, ordinal) }

  static func identifier(_ version: Version, _ ordinal: UInt32) -> [UInt8] {
    var bytes: [UInt8] = []
    for shift in stride(from: 56, through: 0, by: -8) {
      bytes.append(UInt8(truncatingIfNeeded: version >> UInt64(shift)))
    }
    for shift in stride(from: 24, through: 0, by: -8) {
      bytes.append(UInt8(truncatingIfNeeded: ordinal >> UInt32(shift)))
    }
    return bytes
  }
}
