// Reads commits out of the log, one after the other, for the replicator, the hub and observers.
//
// Invariants
// - Never reads beyond the limit it is given: what is not published is not seen.
// - `version` and `digest` are those of the last commit passed; a commit that the caller does not take is not passed.

import KVLog

struct CommitStream: Sendable {
  private var reader: LogReader
  /// What is left of the block that the reader has come to.
  private var cursor = RecordCursor(0..<0)
  /// On the way through that block, once somebody has asked for a digest in it.
  private var chain: DigestChain?
  private(set) var version: Version

  /// One commit in the bytes of its block.
  struct Entry {
    let view: CommitView
    /// The whole record, header and envelope included.
    let record: Range<Int>

    var header: CommitHeader { view.header }
    /// Key and value bytes of all changes.
    var payloadBytes: Int { view.payloadBytes }
  }

  /// Begins behind `version`. Throws `LogError` `.expired` when the log no longer has what follows it.
  init(_ configuration: LogConfiguration, after version: Version, through limit: LogPosition) throws {
    if version == limit.version {
      try self.init(configuration, from: limit)
      return
    }
    try self.init(LogReader(configuration, after: version))
    // The reader begins with the block that holds the next commit: the commits before that one are passed over.
    while self.version < version {
      if !(try passOne()), !(try loadBlock(through: limit)) { break }
    }
  }

  /// Begins at a position that the store gave: nothing has to be searched. Throws as the other does.
  init(_ configuration: LogConfiguration, from position: LogPosition) throws {
    do throws(LogError) {
      self.init(try LogReader(configuration, from: position))
    } catch {
      // The end of a segment that has gone is the beginning of the next one.
      guard case .expired = error.kind else { throw error }
      self.init(try LogReader(configuration, after: position.version))
    }
  }

  /// Where the next block is expected.
  var position: LogPosition { reader.position }

  /// How much there is to read before `limit`: what is left of the block that the reader has come to, and the segment from
  /// there on. nil when the limit lies in another segment, or before that block's end.
  func distance(to limit: LogPosition) -> UInt64? {
    guard position.segment == limit.segment, position.offset <= limit.offset else { return nil }
    return limit.offset - position.offset + UInt64(cursor.remainingBytes)
  }

  private init(_ reader: LogReader) {
    self.reader = reader
    version = reader.position.version
  }

  /// The digest of the log through `version`, computed when it is asked for: most readers never ask. The reader has
  /// checked the links of the chain.
  var digest: Digest {
    mutating get throws {
      if version == reader.position.version { return reader.position.digest }
      let before = reader.before
      var chain = self.chain ?? DigestChain(reader.records, after: before.version, before.digest)
      try chain.advance(to: version, in: reader.bytes)
      self.chain = chain
      return chain.digest
    }
  }

  /// Hands the next commit to `take`; passes it when that returns true. Returns whether it was passed: at the limit there
  /// is none.
  mutating func next(
    through limit: LogPosition, _ take: (Entry, _ bytes: RawSpan) throws -> Bool
  ) throws -> Bool {
    while true {
      if let isPassed = try withNext(take) { return isPassed }
      guard try loadBlock(through: limit) else { return false }
    }
  }

  /// Loads the next block; false at the limit.
  private mutating func loadBlock(through limit: LogPosition) throws -> Bool {
    guard try reader.advance(through: limit) else { return false }
    cursor = RecordCursor(reader.records)
    chain = nil
    return true
  }

  private mutating func passOne() throws -> Bool {
    try withNext { _, _ in true } == true
  }

  /// Shows the block's next commit to `take` and passes it if that returns true; nil at the end of the block.
  private mutating func withNext(_ take: (Entry, _ bytes: RawSpan) throws -> Bool) throws -> Bool? {
    var ahead = cursor
    let bytes = reader.bytes
    while let record = try ahead.next(in: bytes) {
      guard record.kind == .commit else { continue }
      let view = try CommitView(payload: record.payload, in: bytes)
      guard try take(Entry(view: view, record: record.record), bytes) else { return false }
      version = view.header.version
      cursor = ahead
      return true
    }
    cursor = ahead
    return nil
  }
}
