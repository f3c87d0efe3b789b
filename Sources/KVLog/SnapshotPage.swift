// A page of a snapshot: all rows of a range of keys as the hub had them at one version.

package struct SnapshotPage: Hashable, Sendable {
  /// The hub's epoch, and the version and digest that the rows were read at.
  package var position: Position
  /// The commits of the replica itself through this version of its own are in it.
  package var applied: Version
  /// What it says everything about: a key of the range that is not in it has no value.
  package var interval: KeyInterval
  /// A commit record of rows in key order, deletions only if they were asked for; empty when there are none.
  package var record: [UInt8]
  /// Whether they were.
  package var isWithDeletions = true

  package init(position: Position, applied: Version = 0, interval: KeyInterval, record: [UInt8]) {
    self.position = position
    self.applied = applied
    self.interval = interval
    self.record = record
  }

  /// The commit in it; nil when it has no rows.
  package func commit() throws(LogFormatError) -> CommitView? {
    let bytes = record.bytes
    var records = RecordCursor(over: bytes)
    guard let view = try records.next(in: bytes) else { return nil }
    guard view.kind == .commit, view.record.upperBound == record.count else {
      throw LogFormatError(.leftOver, at: view.record.lowerBound)
    }
    let commit = try CommitView(payload: view.payload, in: bytes)
    guard commit.header.flags == .rows else { throw LogFormatError(.badFlags, at: 0) }
    guard commit.header.version == position.version, commit.header.changeCount > 0 else {
      throw LogFormatError(.badVersion, at: 0)
    }
    return commit
  }

  /// Whether there is a deletion in it, as far as can be read.
  package var hasDeletions: Bool {
    guard let commit = try? commit() else { return false }
    let bytes = record.bytes
    var changes = ChangeCursor(commit)
    while let change = try? changes.next(in: bytes) { if change.isDeletion { return true } }
    return false
  }

  /// Whether everything in it follows the rules above.
  package func check() throws(LogFormatError) {
    guard let commit = try commit() else { return }
    let bytes = record.bytes
    var changes = ChangeCursor(commit)
    var origins = RowOriginCursor(commit, in: bytes)
    let range = Coverage([interval])
    var last: Range<Int>?
    while let change = try changes.next(in: bytes) {
      let key = bytes.extracting(change.key)
      let isNext = last.map { bytes.extracting($0).compare(key) < 0 } ?? true
      guard isNext, range.contains(key) else { throw LogFormatError(.badKey, at: change.key.lowerBound) }
      let version = try origins.next(in: bytes).serverVersion
      guard version > 0, version <= position.version else {
        throw LogFormatError(.badVersion, at: change.key.lowerBound)
      }
      last = change.key
    }
  }
}

extension CommitSegment {
  /// Appends what of a commit lies within `coverage`: all of it, an excerpt, or nothing.
  package mutating func append(
    _ commit: CommitView, record: Range<Int>, within coverage: Coverage, in bytes: RawSpan
  ) throws(LogFormatError) {
    guard !coverage.isAll else {
      records.append(bytes.extracting(record))
      changeCount += commit.header.changeCount
      return
    }
    var kept: [Range<Int>] = []
    var changes = ChangeCursor(commit)
    while let change = try changes.next(in: bytes) {
      guard coverage.contains(bytes.extracting(change.key)) else { continue }
      kept.append(change.key.lowerBound - ChangeEncoding.headerByteCount..<change.value.upperBound)
    }
    changeCount += kept.count
    if kept.count == commit.header.changeCount {
      records.append(bytes.extracting(record))
    } else if !kept.isEmpty {
      var header = commit.header
      header.flags.insert(.excerpt)
      records.append(commit: header, changes: kept, in: bytes)
    }
  }
}
