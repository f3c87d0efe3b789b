// The records of conflicts: that one was found, what the program decided about one, and which leave the journal.
//
// grammar (all integers little-endian)
//   conflict = ordinal u32 | outcome u8 | sides u8 | keyLength u16 | commitVersion u64 | voidThrough u64 |
//              localVersion u64 | localTime u64 | serverVersion u64 | remoteTime u64 | remoteOrigin 16 |
//              foundTime u64 | decidedVersion u64 | decision u8 | zero 3 | losingLength u32 |
//              key | losing value | remote value
//     sides: bit 0 the local change is a deletion, bit 1 the remote one is
//     decision: 0 none, 1 local, 2 remote, 3 a value, 4 deletion; 128 more when it was reverted
//     the remote value is kept of what is left to the program, whose losing value is the local one
//   decision = the conflict, as it is from now on
//   pruning  = floorVersion u64 | floorOrdinal u32 | count u32 | since u64 | bytes u64 | *(version u64 | ordinal u32)
//
// Invariants
// - What waits for the program is never pruned; it counts neither as an entry nor as bytes of the journal.
// - No entry before the floor may be pruned; `since` is not after the time of the first that may.

import KVLog
import LMDB

/// Two replicas changed one key without knowing of each other.
struct ConflictRecord: StoreRecord {
  static let kind = RecordKind.conflict

  enum Outcome: UInt8 {
    /// Both wrote the same: nothing was lost. A later local write may follow as a resolution, for its time.
    case identical = 0
    case remoteWon = 1
    case localWon = 2
    case merged = 3
    /// Left to the program; the remote change stands meanwhile.
    case unresolved = 4

    var isJournaled: Bool { self != .identical }
  }

  enum Decision: UInt8 {
    case none = 0
    case local = 1
    case remote = 2
    case value = 3
    case deletion = 4
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
  var foundTime: HybridTime
  /// What the program decided; only of what was left to it.
  var decision = Decision.none
  var isReverted = false
  /// The commit that the decision, or the reverting, was; 0: none was needed.
  var decidedVersion: Version = 0
  var key: [UInt8]
  /// The value that lost; for `merged` and `unresolved`, the local one. Empty for a deletion.
  var losingValue: [UInt8]
  /// Of `unresolved`, the remote value.
  var remoteValue: [UInt8] = []

  /// Waits for the program.
  var isOpen: Bool { outcome == .unresolved && decision == .none }

  private static let headByteCount = 96

  var byteCount: Int { Self.headByteCount + key.count + losingValue.count + remoteValue.count }

  init(_ contest: Contest, ordinal: UInt32, found: HybridTime) {
    self.ordinal = ordinal
    outcome = contest.outcome
    commitVersion = contest.remote.version
    voidThrough = contest.local.version
    localVersion = contest.local.version
    localTime = contest.local.time
    localIsDeletion = contest.local.isTombstone
    serverVersion = contest.remote.serverVersion
    remoteTime = contest.remote.time
    remoteOrigin = contest.remote.origin
    remoteIsDeletion = contest.remoteIsDeletion
    foundTime = found
    key = contest.key
    losingValue = contest.losingValue
    if contest.outcome == .unresolved { remoteValue = contest.remoteValue }
  }

  func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(byteCount)
    bytes.append(littleEndian: ordinal)
    bytes.append(outcome.rawValue)
    bytes.append((localIsDeletion ? 1 : 0) | (remoteIsDeletion ? 2 : 0))
    bytes.append(littleEndian: UInt16(key.count))
    for field in [commitVersion, voidThrough, localVersion, localTime.rawValue, serverVersion, remoteTime.rawValue] {
      bytes.append(littleEndian: field)
    }
    bytes.append(remoteOrigin)
    bytes.append(littleEndian: foundTime.rawValue)
    bytes.append(littleEndian: decidedVersion)
    bytes.append(littleEndian: UInt32(decision.rawValue | (isReverted ? 128 : 0)))
    bytes.append(littleEndian: UInt32(losingValue.count))
    bytes.append(contentsOf: key)
    bytes.append(contentsOf: losingValue)
    bytes.append(contentsOf: remoteValue)
    return bytes
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
    foundTime = HybridTime(rawValue: try reader.read(UInt64.self, from: span))
    decidedVersion = try reader.read(UInt64.self, from: span)
    let decided = try reader.read(UInt32.self, from: span)
    guard decided <= 255, let decision = Decision(rawValue: UInt8(decided & 127)) else {
      throw LogFormatError(.badValue, at: 88)
    }
    self.decision = decision
    isReverted = decided & 128 != 0
    let losingLength = Int(try reader.read(UInt32.self, from: span))
    guard (1...LogLimits.maximumKeyBytes).contains(keyLength) else { throw LogFormatError(.badKey, at: 6) }
    key = span.extracting(try reader.take(keyLength, from: span)).copied()
    losingValue = span.extracting(try reader.take(losingLength, from: span)).copied()
    remoteValue = span.extracting(reader.offset..<span.byteCount).copied()
  }

  func apply(to state: inout StoreState) {
    state.voidThrough = max(state.voidThrough, voidThrough)
    guard outcome.isJournaled else { return }
    state.conflicts += 1
    if isOpen { state.unresolvedConflicts += 1 } else { state.journal.add(self) }
  }

  func write(_ payload: RawSpan, to tables: Tables, _ writer: inout LMDBWriter) throws(LMDBError) {
    if voidThrough > 0 {
      var version: [UInt8] = []
      version.append(littleEndian: voidThrough)
      try writer.putSealed(tables.voids, key: key.bytes, version.bytes)
    }
    guard outcome.isJournaled else { return }
    try writer.putSealed(tables.conflicts, key: identifier.bytes, payload)
    if isOpen { try writer.putSealed(tables.unresolved, key: identifier.bytes, [1].bytes) }
  }

  /// Which change it is about, without the rest.
  static func place(in span: RawSpan) throws(LogFormatError) -> (commitVersion: Version, key: [UInt8]) {
    var reader = ByteReader(at: 6)
    let keyLength = Int(try reader.read(UInt16.self, from: span))
    let commitVersion = try reader.read(UInt64.self, from: span)
    reader = ByteReader(at: headByteCount)
    return (commitVersion, span.extracting(try reader.take(keyLength, from: span)).copied())
  }

  /// What pruning asks about an entry, without the rest.
  static func age(in span: RawSpan) throws(LogFormatError) -> (foundTime: HybridTime, isOpen: Bool) {
    guard span.byteCount >= headByteCount else { throw LogFormatError(.cutShort, at: 0) }
    let isOpen = span.load(UInt8.self, at: 4) == Outcome.unresolved.rawValue && span.load(UInt8.self, at: 88) == 0
    return (HybridTime(rawValue: span.load(UInt64.self, at: 72)), isOpen)
  }

  /// The journal's key: big-endian, so that LMDB orders conflicts by version.
  var identifier: [UInt8] { Conflict.ID(version: commitVersion, ordinal: ordinal).bytes }
}

extension Conflict.ID {
  var bytes: [UInt8] {
    var bytes: [UInt8] = []
    for shift in stride(from: 56, through: 0, by: -8) {
      bytes.append(UInt8(truncatingIfNeeded: version >> UInt64(shift)))
    }
    for shift in stride(from: 24, through: 0, by: -8) {
      bytes.append(UInt8(truncatingIfNeeded: ordinal >> UInt32(shift)))
    }
    return bytes
  }

  init(bytes: RawSpan) throws(LogFormatError) {
    guard bytes.byteCount == 12 else { throw LogFormatError(.badValue, at: 0) }
    self.init(
      version: bytes.load(UInt64.self, at: 0).byteSwapped, ordinal: bytes.load(UInt32.self, at: 8).byteSwapped)
  }
}

/// The program has decided a conflict that was left to it, or reverted one.
struct DecisionRecord: StoreRecord {
  static let kind = RecordKind.decision

  let conflict: ConflictRecord

  init(_ conflict: ConflictRecord) { self.conflict = conflict }

  init(decoding span: RawSpan) throws(LogFormatError) { conflict = try ConflictRecord(decoding: span) }

  func encoded() -> [UInt8] { conflict.encoded() }

  func apply(to state: inout StoreState) throws(LogFormatError) {
    // Only what was decided before can be reverted.
    if conflict.isReverted { return }
    guard state.unresolvedConflicts > 0, !conflict.isOpen else { throw LogFormatError(.badValue, at: 0) }
    state.unresolvedConflicts -= 1
    state.journal.add(conflict)
  }

  func write(_ payload: RawSpan, to tables: Tables, _ writer: inout LMDBWriter) throws(LMDBError) {
    try writer.putSealed(tables.conflicts, key: conflict.identifier.bytes, payload)
    if conflict.outcome == .unresolved {
      try writer.putSealed(tables.unresolved, key: conflict.identifier.bytes, RawSpan())
    }
  }
}

/// The oldest entries of the journal are gone.
struct PruningRecord: StoreRecord {
  static let kind = RecordKind.pruning

  var floor: Conflict.ID
  var since = HybridTime(rawValue: 0)
  var bytes: UInt64 = 0
  var entries: [Conflict.ID] = []

  init(floor: Conflict.ID) { self.floor = floor }

  func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(32 + 12 * entries.count)
    bytes.append(littleEndian: floor.version)
    bytes.append(littleEndian: floor.ordinal)
    bytes.append(littleEndian: UInt32(entries.count))
    bytes.append(littleEndian: since.rawValue)
    bytes.append(littleEndian: self.bytes)
    for entry in entries {
      bytes.append(littleEndian: entry.version)
      bytes.append(littleEndian: entry.ordinal)
    }
    return bytes
  }

  init(decoding span: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    let version = try reader.read(UInt64.self, from: span)
    floor = Conflict.ID(version: version, ordinal: try reader.read(UInt32.self, from: span))
    let count = Int(try reader.read(UInt32.self, from: span))
    since = HybridTime(rawValue: try reader.read(UInt64.self, from: span))
    bytes = try reader.read(UInt64.self, from: span)
    guard count == reader.remaining(in: span) / 12 else { throw LogFormatError(.badValue, at: 12) }
    for _ in 0..<count {
      let version = try reader.read(UInt64.self, from: span)
      entries.append(Conflict.ID(version: version, ordinal: try reader.read(UInt32.self, from: span)))
    }
    try reader.end(of: span)
  }

  func apply(to state: inout StoreState) throws(LogFormatError) { try state.journal.prune(self) }

  func write(_ payload: RawSpan, to tables: Tables, _ writer: inout LMDBWriter) throws(LMDBError) {
    for entry in entries { try writer.putSealed(tables.conflicts, key: entry.bytes.bytes, RawSpan()) }
  }
}

/// What the counters know of the journal.
struct JournalState: Sendable, Equatable {
  /// Entries that may be pruned, and the bytes of their records.
  var entries: UInt64 = 0
  var bytes: UInt64 = 0
  /// None before it may be pruned.
  var floor = Conflict.ID(version: 0, ordinal: 0)
  /// None was found before; 0: there is none.
  var since = HybridTime(rawValue: 0)

  mutating func add(_ conflict: ConflictRecord) {
    entries += 1
    bytes += UInt64(conflict.byteCount)
    floor = min(floor, Conflict.ID(version: conflict.commitVersion, ordinal: conflict.ordinal))
    since = since.rawValue == 0 ? conflict.foundTime : min(since, conflict.foundTime)
  }

  mutating func prune(_ record: PruningRecord) throws(LogFormatError) {
    guard entries >= UInt64(record.entries.count), bytes >= record.bytes else { throw LogFormatError(.badValue, at: 0) }
    entries -= UInt64(record.entries.count)
    bytes -= record.bytes
    floor = record.floor
    since = record.since
  }
}
