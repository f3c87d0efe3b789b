// Which commits the log has, by their marks: after a hub was restored, what comes may be here already, or be another commit
// under the same name and version, where the replica that wrote it was restored as well.
//
// Invariants
// - Built when somebody asks, from the log after `base`, and extended as the log grows; nothing depends on its being kept.
// - Takes bounded memory: of a longer log, what is not in it counts as unknown, which costs a needless conflict and loses
//   nothing.

import KVLog
import Synchronization

final class CommitMarks: Sendable {
  struct Contents {
    fileprivate var base = Version.max
    fileprivate var version = Version.max
    /// With the number of changes in each.
    fileprivate var marks: [UInt64: UInt32] = [:]
    /// The authors of the commits.
    private(set) var authors: Set<Identity> = []
    /// Those whose commits in the log are the ones that somebody brings back, as far as this version of theirs.
    var matched: [Identity: Version] = [:]

    /// How many changes the log has of the commit, nil: it has none of it. An author offers what did not lose a conflict, and that
    /// may have been more when it offered it before.
    func changeCount(of mark: Digest) -> Int? { marks[mark.low].map(Int.init) }

    fileprivate mutating func extend(_ stream: inout some CommitReading, through limit: LogPosition) throws {
      defer { version = stream.version }
      try stream.pass(through: limit) { entry, bytes in
        authors.insert(entry.header.origin)
        if marks.count < StoreLimits.commitMarks {
          let (mark, count) = (entry.view.mark(in: bytes).low, UInt32(entry.header.changeCount))
          marks[mark] = max(marks[mark] ?? 0, count)
        }
        return true
      }
    }
  }

  private let contents = Mutex(Contents())

  /// The marks of the log's commits after `base`, or from further back.
  func with<Result>(
    _ log: some CommitLog, after base: Version, through limit: LogPosition,
    _ body: (inout Contents) throws -> Result
  ) throws -> Result {
    try contents.withLock { contents in
      // What was read so far may end before where the log begins by now.
      if base < contents.base || contents.version > limit.version || contents.version < base {
        contents = Contents()
        contents.base = base
        contents.version = base
      }
      if contents.version < limit.version {
        try log.withStream(after: contents.version, through: limit) { try contents.extend(&$0, through: limit) }
      }
      return try body(&contents)
    }
  }
}
