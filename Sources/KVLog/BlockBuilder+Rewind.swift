// Taking back what was added since a mark, and looking at the open commit: what a writer needs to undo one of several
// transactions that share a block, or to apply an unfinished one again.

extension BlockBuilder {
  /// A place to come back to. Valid until the next `reset`, for going back only.
  package struct Mark: Equatable, Sendable {
    fileprivate var used: Int
    fileprivate var lastVersion: Version
    fileprivate var digest: Digest
    fileprivate var origin: Identity
  }

  /// Precondition for a later `rewind`: no commit is open now.
  package var mark: Mark { Mark(used: used, lastVersion: lastVersion, digest: digest, origin: origin) }

  /// Forgets everything added since `mark` was taken, an open commit included.
  package mutating func rewind(to mark: Mark) {
    precondition(mark.used <= used, "a mark lies before what it takes back")
    used = mark.used
    lastVersion = mark.lastVersion
    digest = mark.digest
    origin = mark.origin
    openRecord = 0
    openChanges = 0
  }

  /// The header of the open commit with the changes it has so far; nil when none is open.
  package var openHeader: CommitHeader? {
    guard openRecord != 0 else { return nil }
    let payload = openRecord + RecordView.headerByteCount
    let bytes = unsafe buffer.span.bytes
    return CommitHeader(
      version: lastVersion + 1,
      serverVersion: bytes.load(UInt64.self, at: payload + CommitLayout.serverVersion),
      origin: origin,
      originVersion: lastVersion + 1,
      time: HybridTime(rawValue: bytes.load(UInt64.self, at: payload + CommitLayout.time)),
      flags: CommitFlags(rawValue: bytes.load(UInt16.self, at: payload + CommitLayout.flags)),
      changeCount: openChanges)
  }

  /// Key and value bytes of the open commit.
  package var openPayloadBytes: Int {
    guard openRecord != 0 else { return 0 }
    return openCommitBytes - CommitLayout.coreHeaderBytes - openChanges * ChangeEncoding.headerByteCount
  }

  /// The changes of the open commit, for `ChangeCursor(openChanges:count:)`.
  package func withOpenChanges<R>(_ body: (RawSpan) throws -> R) rethrows -> R {
    guard openRecord != 0 else { return try body(RawSpan()) }
    let start = openRecord + RecordView.headerByteCount + CommitLayout.headerBytes
    return try unsafe body(buffer.span.bytes.extracting(start..<used))
  }
}

extension ChangeCursor {
  /// Over the changes that `BlockBuilder.withOpenChanges` lends.
  package init(openChanges range: Range<Int>, count: Int) {
    offset = range.lowerBound
    end = range.upperBound
    left = count
  }
}

extension [UInt8] {
  /// Makes the commit whose record begins at `offset` one of `origin`, with other flags.
  package mutating func rename(recordAt offset: Int, as origin: Identity, flags: CommitFlags) {
    func replace(_ place: Int, with bytes: [UInt8]) {
      let start = offset + RecordView.headerByteCount + place
      replaceSubrange(start..<start + bytes.count, with: bytes)
    }
    var bytes: [UInt8] = []
    bytes.append(origin)
    replace(CommitLayout.origin, with: bytes)
    bytes = []
    bytes.append(littleEndian: flags.rawValue)
    replace(CommitLayout.flags, with: bytes)
  }

  /// Appends a commit record with only some of a commit's changes: their bytes as they are, the count corrected.
  package mutating func append(commit header: CommitHeader, changes: [Range<Int>], in bytes: RawSpan) {
    let length = CommitLayout.headerBytes + changes.reduce(0) { $0 + $1.count }
    append(littleEndian: UInt64(length) | UInt64(RecordKind.commit.rawValue) << 32)
    append(littleEndian: header.version)
    append(littleEndian: header.serverVersion)
    append(header.origin)
    append(littleEndian: header.originVersion)
    append(littleEndian: header.time.rawValue)
    append(littleEndian: header.flags.rawValue)
    append(littleEndian: UInt16(0))
    append(littleEndian: UInt32(changes.count))
    for change in changes { append(bytes.extracting(change)) }
  }
}
