// What must hold of a segment before anybody acts on it, checked where it arrives.
//
// Invariants of a checked segment:
// - It holds nothing but whole commits, in the order of their versions, all within (after, through].
// - Every change in it can be parsed, and there are `changeCount` of them.
// - A commit is whole and has changes: a part of one (`CommitFlags.partial`) and rows (`.rows`) have meaning in their own log
//   only, and an excerpt (`.excerpt`) for who is fed it.
// - A pushed commit was made by the replica that pushes it, and carries its version there.

package import KVLog

extension CommitSegment {
  /// Checks a run that `replica` pushes.
  package func check(pushedBy replica: Identity) throws(ProtocolError) {
    guard after < through else { throw .violation("a push covers no version: (\(after), \(through)]") }
    try check(.push) { header in header.origin == replica && header.originVersion == header.version }
  }

  /// Checks a run that a replica brings back to a hub that was restored.
  package func checkRestored() throws(ProtocolError) {
    guard after < through else { throw .violation("a restore covers no version: (\(after), \(through)]") }
    try check(.restore) { _ in true }
  }

  /// Checks a run that a hub feeds.
  package func checkFed() throws(ProtocolError) {
    guard after < through else { throw .violation("a feed covers no version: (\(after), \(through)]") }
    try check(.feed) { _ in true }
  }

  private func check(_ kind: MessageKind, _ isAllowed: (CommitHeader) -> Bool) throws(ProtocolError) {
    let bytes = unsafe records.span.bytes
    var records = RecordCursor(over: bytes)
    var last = after
    var count = 0
    do throws(LogFormatError) {
      while let record = try records.next(in: bytes) {
        guard record.kind == .commit else { throw LogFormatError(.unknownKind, at: record.record.lowerBound) }
        let commit = try CommitView(payload: record.payload, in: bytes)
        guard commit.header.version > last, commit.header.version <= through, isAllowed(commit.header) else {
          throw LogFormatError(.badVersion, at: record.payload.lowerBound)
        }
        let foreign: CommitFlags = kind == .feed ? [.partial, .rows] : [.partial, .rows, .excerpt]
        guard commit.header.flags.isDisjoint(with: foreign) else {
          throw LogFormatError(.badFlags, at: record.payload.lowerBound)
        }
        // Nobody writes one, and a feed of them would not be cut where its bytes call for it.
        guard commit.header.changeCount > 0 else { throw LogFormatError(.badValue, at: record.payload.lowerBound) }
        last = commit.header.version
        var changes = ChangeCursor(commit)
        while try changes.next(in: bytes) != nil { count += 1 }
      }
    } catch {
      throw .malformed(kind, error)
    }
    guard count == changeCount else {
      throw .violation("a \(kind) announces \(changeCount) changes and carries \(count)")
    }
  }
}
