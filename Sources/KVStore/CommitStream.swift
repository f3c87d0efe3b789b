// Reads commits out of the log, one after the other, for the replicator, the hub and observers.
//
// Invariants
// - Never reads beyond the limit it is given: what is not published is not seen.
// - `version` and `digest` are those of the last commit passed; a commit that the caller does not take is not passed.

import KVLog

struct CommitStream {
  private var reader: LogReader
  private var block: Block?
  private var cursor = RecordCursor(0..<0)
  private(set) var version: Version
  private(set) var digest: Digest

  /// One commit in the bytes of its block.
  struct Entry {
    let view: CommitView
    /// The whole record, header and envelope included.
    let record: Range<Int>

    var header: CommitHeader { view.header }
    /// Key and value bytes of all changes.
    var payloadBytes: Int {
      view.changes.count - header.changeCount * ChangeEncoding.headerByteCount
    }
  }

  /// Begins behind `version`. Throws `LogError` `.expired` when the log no longer has what follows it.
  init(_ configuration: LogConfiguration, after version: Version, through limit: LogPosition) throws {
    reader = try LogReader(configuration, after: version)
    self.version = reader.position.version
    digest = reader.position.digest
    // The reader begins with the block that holds the next commit: the commits before that one are passed over.
    while self.version < version {
      if !(try passOne()), !(try loadBlock(through: limit)) { break }
    }
  }

  /// Hands the next commit to `take`; passes it when that returns true. Returns false at the limit.
  mutating func next(
    through limit: LogPosition, _ take: (Entry, _ bytes: RawSpan) throws -> Bool
  ) throws -> Taken {
    while true {
      if let taken = try withNext(take) { return taken ? .passed : .declined }
      guard try loadBlock(through: limit) else { return .end }
    }
  }

  enum Taken { case passed, declined, end }

  /// Loads the next block; false at the limit.
  private mutating func loadBlock(through limit: LogPosition) throws -> Bool {
    // Let go of first: the reader then reads into the same buffer again.
    block = nil
    guard let next = try reader.next(through: limit) else { return false }
    cursor = RecordCursor(next.records)
    block = next
    return true
  }

  private mutating func passOne() throws -> Bool {
    try withNext { _, _ in true } == true
  }

  /// Shows the block's next commit to `take` and passes it if that returns true; nil at the end of the block.
  private mutating func withNext(_ take: (Entry, _ bytes: RawSpan) throws -> Bool) throws -> Bool? {
    guard let block else { return nil }
    let bytes = block.bytes.bytes
    var ahead = cursor
    while let record = try ahead.next(in: bytes) {
      guard record.kind == .commit else { continue }
      let view = try CommitView(payload: record.payload, in: bytes)
      guard try take(Entry(view: view, record: record.record), bytes) else { return false }
      digest = digest.chained(version: view.header.version, core: bytes.extracting(view.core))
      version = view.header.version
      cursor = ahead
      return true
    }
    cursor = ahead
    return nil
  }
}
