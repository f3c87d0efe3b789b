// The records of the log that are not commits, as the store writes and reads them.
//
// grammar (all integers little-endian)
//   acknowledgement = through u64 | digest 16 | changes u64 | bytes u64 | epoch 16 | holdUntil u64 |
//                     head u64
//   cursor          = epoch 16 | version u64 | digest 16
//   conflict, decision, pruning = ConflictRecords.swift
//   progress        = as `ReplicaProgress` encodes itself
//   incarnation     = incarnation 16 | through u64
//   rollback        = space 16 | epoch 16 | version u64 | digest 16 | shipped u64 | shippedDigest 16 | acknowledged u64 |
//                     changes u64 | bytes u64 | loss u64 | ownThrough u64
//   restored        = through u64 | head u64
//   adoption        = space 16 | epoch 16 | version u64 | digest 16
//   adopted         = nothing
//   contact         = HubContact.swift
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
  /// The hub's version after what it decided.
  var head: Version

  func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(littleEndian: through)
    bytes.append(digest)
    bytes.append(littleEndian: changes)
    bytes.append(littleEndian: self.bytes)
    bytes.append(epoch)
    bytes.append(littleEndian: holdUntil)
    bytes.append(littleEndian: head)
    return bytes
  }
}

extension AcknowledgementRecord {
  init(decoding span: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    through = try reader.read(UInt64.self, from: span)
    digest = try reader.digest(from: span)
    changes = try reader.read(UInt64.self, from: span)
    bytes = try reader.read(UInt64.self, from: span)
    epoch = try reader.identity(from: span)
    holdUntil = try reader.read(UInt64.self, from: span)
    head = try reader.read(UInt64.self, from: span)
    try reader.end(of: span)
  }
}

/// The replica has everything of the hub up to `position`; its identity is the hub's epoch.
struct CursorRecord {
  var position: Position

  init(_ position: Position) { self.position = position }

  func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(position)
    return bytes
  }

  init(decoding span: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    position = try reader.position(from: span)
    try reader.end(of: span)
  }
}

/// From here on the store writes under another name: a copy of it went on as well, or, of a hub, it was restored.
struct IncarnationRecord {
  var incarnation: Identity
  /// See `StoreState.Former`.
  var through: Version

  func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(incarnation)
    bytes.append(littleEndian: through)
    return bytes
  }
}

extension IncarnationRecord {
  init(decoding span: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    incarnation = try reader.identity(from: span)
    through = try reader.read(UInt64.self, from: span)
    try reader.end(of: span)
  }
}

/// A space and an epoch of it that the store follows from now on. If the hub was restored to an older state, the store
/// goes back to what both have.
struct RollbackRecord {
  var space: Identity
  /// The newest of this store's positions that the hub has, in the hub's present epoch.
  var cursor: Position
  /// The version through which the hub has decided this store's commits, and this log's digest there.
  var shipped: Version
  var shippedDigest: Digest
  var acknowledged: Version
  /// Local changes, and their bytes, that are pending again.
  var changes: UInt64
  var bytes: UInt64
  var loss: Loss

  /// What the hub may lack.
  enum Loss: UInt64 {
    /// Nothing.
    case none = 0
    /// What was pulled, and what it had confirmed: what others wrote is to be brought back.
    case history = 1
    /// What it had confirmed of this store.
    case confirmed = 2
    /// As `history`; and the log no longer has all of it: a snapshot tells what the hub has that was deleted here.
    case historyInPart = 3
  }
  /// The hub's version when it was found to be restored.
  var ownThrough: Version

  func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(space)
    bytes.append(cursor)
    bytes.append(littleEndian: shipped)
    bytes.append(shippedDigest)
    for field in [acknowledged, changes, self.bytes, loss.rawValue, ownThrough] {
      bytes.append(littleEndian: field)
    }
    return bytes
  }
}

extension RollbackRecord {
  init(decoding span: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    space = try reader.identity(from: span)
    cursor = try reader.position(from: span)
    shipped = try reader.read(UInt64.self, from: span)
    shippedDigest = try reader.digest(from: span)
    acknowledged = try reader.read(UInt64.self, from: span)
    changes = try reader.read(UInt64.self, from: span)
    bytes = try reader.read(UInt64.self, from: span)
    guard let loss = Loss(rawValue: try reader.read(UInt64.self, from: span)) else {
      throw LogFormatError(.badValue, at: reader.offset - 8)
    }
    self.loss = loss
    ownThrough = try reader.read(UInt64.self, from: span)
    try reader.end(of: span)
  }
}

/// Of what a restored hub had lost, it has again what came from others and is in this log through this version.
struct RestoredRecord {
  var through: Version
  /// The hub's version by which it has it; 0: nothing was brought.
  var head: Version

  func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(littleEndian: through)
    bytes.append(littleEndian: head)
    return bytes
  }
}

extension RestoredRecord {
  init(decoding span: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    through = try reader.read(UInt64.self, from: span)
    head = try reader.read(UInt64.self, from: span)
    try reader.end(of: span)
  }
}

/// The store is bound to another space from now on, whose newest position this is; none of its history is here.
struct AdoptionRecord {
  var space: Identity
  var head: Position

  func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(space)
    bytes.append(head)
    return bytes
  }
}

extension AdoptionRecord {
  init(decoding span: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    space = try reader.identity(from: span)
    head = try reader.position(from: span)
    try reader.end(of: span)
  }
}
