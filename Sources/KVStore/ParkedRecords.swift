// The records of commits that the hub refused: one parks such a commit, whole, another takes it off the list.
//
// grammar (all integers little-endian)
//   parked   = version u64 | time u64 | code u16 | reasonLength u16 | zero u32 | reason | commit
//     commit: the payload of a commit's record, as KVLog has it, without the changes that were void
//   unparked = version u64 | bytes u64 | fate u8 | zero 7
//
// Invariants
// - A commit is parked in the block of the acknowledgement that refused it, so that it outlives the log it lies in.
// - The counts of parked commits and bytes are exact: each record says what it adds or takes.

import KVLog
import LMDB

/// The hub refused the commit of this store that has the version.
struct ParkedRecord: StoreRecord {
  static let kind = RecordKind.parked

  let version: Version
  /// When that was recorded here.
  let time: HybridTime
  let code: UInt16
  let reason: String
  /// The payload of the commit's record.
  let commit: [UInt8]
  /// Key and value bytes.
  let payloadBytes: Int

  /// `record` is that of a commit, with its header.
  init(version: Version, time: HybridTime, code: UInt16, reason: String, record: [UInt8]) throws(LogFormatError) {
    self.version = version
    self.time = time
    self.code = code
    self.reason = reason
    let commit = Array(record.dropFirst(RecordView.headerByteCount))
    self.commit = commit
    payloadBytes = try CommitView(payload: 0..<commit.count, in: commit.bytes).payloadBytes
  }

  func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(24 + reason.utf8.count + commit.count)
    bytes.append(littleEndian: version)
    bytes.append(littleEndian: time.rawValue)
    bytes.append(littleEndian: code)
    bytes.append(littleEndian: UInt16(reason.utf8.count))
    bytes.append(littleEndian: UInt32(0))
    bytes.append(contentsOf: reason.utf8)
    bytes.append(contentsOf: commit)
    return bytes
  }

  init(decoding span: RawSpan) throws(LogFormatError) {
    let head = try ParkedHead(decoding: span)
    (version, time, code, reason) = (head.version, head.time, head.code, head.reason)
    commit = span.extracting(head.view.payload).copied()
    payloadBytes = head.view.payloadBytes
  }

  func apply(to state: inout StoreState) {
    state.parkedCommits += 1
    state.parkedBytes += UInt64(payloadBytes)
  }

  func write(_ payload: RawSpan, to tables: Tables, _ writer: inout LMDBWriter) throws(LMDBError) {
    try writer.putSealed(tables.parked, key: identifier.bytes, payload)
  }

  /// The table's key: big-endian, so that LMDB orders by version.
  var identifier: [UInt8] { Self.identifier(version) }

  static func identifier(_ version: Version) -> [UInt8] {
    stride(from: 56, through: 0, by: -8).map { UInt8(truncatingIfNeeded: version >> UInt64($0)) }
  }
}

/// What a parked record says before its commit, read without copying that.
struct ParkedHead {
  let version: Version
  let time: HybridTime
  let code: UInt16
  let reason: String
  /// The commit, where it lies.
  let view: CommitView

  init(decoding span: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    version = try reader.read(UInt64.self, from: span)
    time = HybridTime(rawValue: try reader.read(UInt64.self, from: span))
    code = try reader.read(UInt16.self, from: span)
    let length = Int(try reader.read(UInt16.self, from: span))
    guard try reader.read(UInt32.self, from: span) == 0 else { throw LogFormatError(.notZero, at: 20) }
    guard length <= LogLimits.maximumMessageBytes else { throw LogFormatError(.overLimit, at: 18) }
    reason = String(decoding: span.extracting(try reader.take(length, from: span)).copied(), as: UTF8.self)
    view = try CommitView(payload: reader.offset..<span.byteCount, in: span)
    guard view.header.version == version else { throw LogFormatError(.badVersion, at: reader.offset) }
    guard view.payloadBytes >= 0 else { throw LogFormatError(.badValue, at: reader.offset) }
  }

  /// Throws when the changes do not read as what they are.
  func checkChanges(in span: RawSpan) throws(LogFormatError) {
    var changes = ChangeCursor(view)
    while try changes.next(in: span) != nil {}
  }
}

/// A parked commit is parked no more.
struct UnparkedRecord: StoreRecord {
  static let kind = RecordKind.unparked

  enum Fate: UInt8 {
    /// What was made of it follows or precedes it in the block, as a new commit.
    case retried = 1
    case dropped = 2
  }

  let version: Version
  /// Its key and value bytes.
  let bytes: UInt64
  let fate: Fate

  init(version: Version, bytes: UInt64, fate: Fate) {
    self.version = version
    self.bytes = bytes
    self.fate = fate
  }

  func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(littleEndian: version)
    bytes.append(littleEndian: self.bytes)
    bytes.append(littleEndian: UInt64(fate.rawValue))
    return bytes
  }

  init(decoding span: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    version = try reader.read(UInt64.self, from: span)
    bytes = try reader.read(UInt64.self, from: span)
    let fate = try reader.read(UInt64.self, from: span)
    guard fate <= 255, let fate = Fate(rawValue: UInt8(fate)) else { throw LogFormatError(.badValue, at: 16) }
    self.fate = fate
    try reader.end(of: span)
  }

  func apply(to state: inout StoreState) throws(LogFormatError) {
    guard state.parkedCommits > 0, state.parkedBytes >= bytes else { throw LogFormatError(.badValue, at: 0) }
    state.parkedCommits -= 1
    state.parkedBytes -= bytes
  }

  func write(_ payload: RawSpan, to tables: Tables, _ writer: inout LMDBWriter) throws(LMDBError) {
    try writer.putSealed(tables.parked, key: ParkedRecord.identifier(version).bytes, RawSpan())
  }
}

extension CommitView {
  /// Key and value bytes of all changes; negative when there cannot be so many.
  var payloadBytes: Int { changes.count - header.changeCount * ChangeEncoding.headerByteCount }

  /// Envelope and core.
  var payload: Range<Int> { core.lowerBound - CommitView.envelopeByteCount..<core.upperBound }
}
