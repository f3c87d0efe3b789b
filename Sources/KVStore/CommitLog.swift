// What the rules of replication ask of a log: commits, one after the other, from any version that it still has.

import KVLog

/// Commits that can be read one after the other.
protocol CommitReading {
  /// The last commit passed, and the log's digest there.
  var version: Version { get }
  var digest: Digest { mutating get throws }

  /// Hands the next commit to `take`; passes it when that returns true. Returns whether it was passed: at the limit there
  /// is none.
  mutating func next(
    through limit: LogPosition, _ take: (CommitStream.Entry, _ bytes: RawSpan) throws -> Bool
  ) throws -> Bool
}

extension CommitReading {
  /// Hands the commits through version `end` to `take`, one after the other, and passes them, until it returns false. What
  /// `take` captures is copied once, not for each commit.
  mutating func pass(
    through limit: LogPosition, to end: Version = .max,
    _ take: (CommitStream.Entry, _ bytes: RawSpan) throws -> Bool
  ) throws {
    while version < end, try next(through: limit, take) {}
  }
}

extension CommitStream: CommitReading {}

/// A log of commits, of which the beginning may be gone.
protocol CommitLog {
  associatedtype Reader: CommitReading

  /// The version after which it begins.
  func floor() throws -> Version

  /// Runs `body` with a reader that stands behind `version`.
  func withStream<Result>(
    after version: Version, through limit: LogPosition, _ body: (inout Reader) throws -> Result
  ) throws -> Result
}

extension Store: CommitLog {}

extension CommitLog {
  /// Local changes, and their bytes, of the versions in (after, through].
  func localChanges(after: Version, through: Version, _ state: StoreState) throws -> (changes: Int, bytes: Int) {
    var counts = (changes: 0, bytes: 0)
    // What is acknowledged already counts no more; commits pulled while nothing was pending lie there too.
    let start = max(after, state.acknowledged)
    guard start < through else { return counts }
    try withStream(after: start, through: state.position) { stream in
      try stream.pass(through: state.position, to: through) { entry, _ in
        if state.isLocal(entry.header) {
          counts.changes += entry.header.changeCount
          counts.bytes += entry.payloadBytes
        }
        return true
      }
    }
    return counts
  }

  /// The mark of this store's commit of that version; nil: there is none.
  func commitMark(at version: Version, _ state: StoreState) throws -> Digest? {
    guard version > 0, version <= state.version else { return nil }
    return try withStream(after: version - 1, through: state.position) { stream in
      var mark: Digest?
      _ = try stream.next(through: state.position) { entry, bytes in
        if state.isLocal(entry.header) { mark = entry.view.mark(in: bytes, as: state.incarnation) }
        return true
      }
      return mark
    }
  }
}
