// The records of the log that are not commits, as the store writes and reads them.
//
// grammar (all integers little-endian)
//   acknowledgement = through u64 | digest 16 | changes u64 | bytes u64 | epoch 16 | holdUntil u64
//   cursor          = epoch 16 | version u64 | digest 16
//   conflict, decision, pruning = ConflictRecords.swift
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
