// A block that has been read and found whole.
//
// Invariants:
// - The checksum matched, the records parse, and the versions of the commits follow one another from `firstVersion` to
//   `lastVersion`; `end.digest` is the digest chained over them from `digestBefore`.

/// One group commit in memory.
package struct Block: Sendable {
  package let firstVersion: Version
  /// `firstVersion` - 1 when the block holds no commit.
  package let lastVersion: Version
  package let digestBefore: Digest
  /// Where reading goes on.
  package let end: LogPosition
  package let file: String
  /// Where the block begins in its file.
  package let offset: UInt64
  /// The bytes of its file before this offset were durable when the block was written.
  package let synchronizedThrough: UInt64
  /// The buffer that the block was read into; other blocks may lie in it too.
  package let bytes: [UInt8]
  /// Where the block's records lie in `bytes`.
  package let records: Range<Int>

  /// Where reading came from.
  var start: LogPosition {
    LogPosition(segment: end.segment, offset: offset, version: firstVersion - 1, digest: digestBefore)
  }

  /// Lends the records, for a `RecordCursor(over:)`.
  package func withRecords<R>(_ body: (RawSpan) throws -> R) rethrows -> R {
    try unsafe body(bytes.span.bytes.extracting(records))
  }

  /// The digest of the log through `version`, which lies in `firstVersion - 1 ... lastVersion`.
  package func digest(at version: Version) throws(LogError) -> Digest {
    precondition(version &+ 1 >= firstVersion && version <= lastVersion, "the version lies in the block")
    let span = unsafe bytes.span.bytes
    return try digest(at: version, in: span)
  }

  /// Parses the records, and makes sure that their versions and the digest are those that the header tells.
  func verify() throws(LogError) {
    let span = unsafe bytes.span.bytes
    var chain = DigestChain(records, after: firstVersion - 1, digestBefore)
    do {
      try chain.advance(in: span)
    } catch {
      throw corrupt(error.reason.rawValue)
    }
    guard chain.version == lastVersion else { throw corrupt("the block's versions are not those of its commits") }
    guard chain.digest == end.digest else { throw corrupt("the block's digest is not that of its commits") }
  }

  private func corrupt(_ reason: String) -> LogError {
    LogError(.corrupt(reason), "read", file: file, offset: offset, version: firstVersion)
  }

  private func digest(at version: Version, in span: RawSpan) throws(LogError) -> Digest {
    var chain = DigestChain(records, after: firstVersion - 1, digestBefore)
    do {
      try chain.advance(to: version, in: span)
      return chain.digest
    } catch {
      throw corrupt("\(error)")
    }
  }

  /// The whole block in `bytes`, header and padding included.
  var whole: Range<Int> {
    let start = records.lowerBound - BlockHeader.byteCount
    return start..<start + BlockHeader.blockBytes(payloadBytes: records.count)
  }
}
