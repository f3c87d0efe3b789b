// Chains the digest over the commits of a block, one after the other.
//
// Invariants:
// - `version` and `digest` are those after the last commit passed, and every commit continued the one before it.

package struct DigestChain {
  package private(set) var version: Version
  package private(set) var digest: Digest
  private var cursor: RecordCursor

  /// Over `records` of the span that `advance` is given, from what lies before them.
  package init(_ records: Range<Int>, after version: Version, _ digest: Digest) {
    self.version = version
    self.digest = digest
    cursor = RecordCursor(records)
  }

  /// Passes the commits through `last`, all by default.
  package mutating func advance(to last: Version = .max, in bytes: RawSpan) throws(LogFormatError) {
    while version < last, let record = try cursor.next(in: bytes) {
      guard record.kind == .commit else { continue }
      let commit = try CommitView(payload: record.payload, in: bytes)
      guard commit.header.version == version &+ 1 else {
        throw LogFormatError(.badVersion, at: record.payload.lowerBound)
      }
      version &+= 1
      digest = digest.chained(version: version, core: bytes.extracting(commit.core))
    }
  }
}
