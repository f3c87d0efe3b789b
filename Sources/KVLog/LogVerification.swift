// Checks all of a log: every file, every checksum, every link, every change.

/// What a whole log was found to hold.
package struct LogVerification: Hashable, Sendable {
  package private(set) var segments = 0
  package private(set) var blocks = 0
  package private(set) var records = 0
  package private(set) var commits = 0
  package private(set) var changes = 0
  /// Bytes of blocks.
  package private(set) var bytes: UInt64 = 0
  /// Bytes after the last whole block that are not zeros: a write that was not finished, cut at the next open.
  package private(set) var unfinishedBytes: UInt64 = 0
  package private(set) var firstVersion: Version = 1
  /// Where the log ends.
  package private(set) var end: LogPosition

  /// Reads the log from its oldest segment to its end; changes nothing. Runs beside a writer too.
  package static func run(_ configuration: LogConfiguration) throws(LogError) -> LogVerification {
    let segments = try SegmentDirectory.segments(configuration)
    guard let first = segments.first else { throw LogReader.empty(configuration) }
    var reader = try LogReader(configuration)
    var result = LogVerification(end: reader.position)
    result.firstVersion = first.firstVersion
    result.segments = 1
    while true {
      while let block = try reader.next() { try result.count(block) }
      let end = reader.position
      do {
        result.unfinishedBytes = try reader.refuseDamage()
        result.move(to: end)
        return result
      } catch {
        // A writer beside us may have finished the block, and more, after we found it unfinished: look again.
        guard case .corrupt = error.kind, let block = try reader.next() else { throw error }
        try result.count(block)
      }
    }
  }

  private init(end: LogPosition) { self.end = end }

  private mutating func count(_ block: Block) throws(LogError) {
    blocks += 1
    bytes += block.end.offset - block.offset
    move(to: block.end)
    do {
      let span = unsafe block.bytes.span.bytes
      try count(block.records, in: span)
    } catch {
      throw LogError(
        .corrupt(error.reason.rawValue), "verify", file: block.file, offset: block.offset, version: block.firstVersion)
    }
  }

  private mutating func move(to position: LogPosition) {
    if position.segment != end.segment { segments += 1 }
    end = position
  }

  private mutating func count(_ range: Range<Int>, in bytes: RawSpan) throws(LogFormatError) {
    var cursor = RecordCursor(range)
    while let record = try cursor.next(in: bytes) {
      records += 1
      guard record.kind == .commit else { continue }
      let commit = try CommitView(payload: record.payload, in: bytes)
      commits += 1
      var cursor = ChangeCursor(commit)
      while try cursor.next(in: bytes) != nil { changes += 1 }
    }
  }
}
