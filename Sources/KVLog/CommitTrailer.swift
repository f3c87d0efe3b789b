// What follows the changes of some commits: see the grammar in Commit.swift.

/// A row's own version, time and author, where a commit has none for it.
package struct RowOrigin: Hashable, Sendable {
  /// The hub's version of the change.
  package var serverVersion: Version
  package var time: HybridTime
  package var author: Identity

  package init(serverVersion: Version, time: HybridTime, author: Identity) {
    self.serverVersion = serverVersion
    self.time = time
    self.author = author
  }
}

package enum CommitTrailer {
  static let rowBytes = 18

  /// What the trailer of a commit takes whose changes and trailer lie in `range`.
  package static func byteCount(
    _ flags: CommitFlags, changeCount: Int, in bytes: RawSpan, _ range: Range<Int>
  ) throws(LogFormatError) -> Int {
    var count = 0
    if flags.contains(.rows) {
      // Such a commit is made by the hub, or by the replica from what the hub gave: nothing else is in it.
      guard flags == .rows else { throw LogFormatError(.badFlags, at: range.lowerBound) }
      guard range.count >= 2 else { throw LogFormatError(.cutShort, at: range.lowerBound) }
      let authors = Int(bytes.load(UInt16.self, at: range.upperBound - 2))
      count = changeCount * rowBytes + authors * 16 + 2
    }
    guard count <= range.count else { throw LogFormatError(.cutShort, at: range.lowerBound) }
    return count
  }
}

/// Steps over the origins of the rows of a commit, beside a `ChangeCursor` over its changes.
package struct RowOriginCursor {
  private let trailer: Range<Int>
  private let authors: Int
  private var offset: Int

  /// `commit` has the flag `.rows`.
  package init(_ commit: CommitView, in bytes: RawSpan) {
    trailer = commit.trailer
    authors = Int(bytes.load(UInt16.self, at: trailer.upperBound - 2))
    offset = trailer.lowerBound
  }

  /// Called once for each change.
  package mutating func next(in bytes: RawSpan) throws(LogFormatError) -> RowOrigin {
    let author = Int(bytes.load(UInt16.self, at: offset + 16))
    guard author < authors else { throw LogFormatError(.badValue, at: offset + 16) }
    defer { offset += CommitTrailer.rowBytes }
    return RowOrigin(
      serverVersion: bytes.load(UInt64.self, at: offset),
      time: HybridTime(rawValue: bytes.load(UInt64.self, at: offset + 8)),
      author: bytes.loadIdentity(at: trailer.upperBound - 2 - 16 * (authors - author)))
  }
}

/// Builds the core of a commit of rows.
package struct RowsBuilder {
  private var changes: [UInt8] = []
  private var origins: [UInt8] = []
  private var authors: [Identity] = []
  private var places: [Identity: UInt16] = [:]
  private var lastAuthor: (Identity, UInt16)?
  private var newest = HybridTime(rawValue: 0)
  package private(set) var count = 0
  /// Key and value bytes.
  package private(set) var payloadBytes = 0

  package init() {}

  /// About what the core will take.
  package var byteCount: Int { changes.count + origins.count + 16 * authors.count }
  package var isEmpty: Bool { count == 0 }
  /// As many authors as a trailer can name.
  package var isFull: Bool { authors.count == Int(UInt16.max) }

  package mutating func append(key: RawSpan, value: RawSpan, isDeletion: Bool, _ origin: RowOrigin) {
    changes.append(littleEndian: UInt8(isDeletion ? 1 : 0))
    changes.append(littleEndian: UInt16(key.byteCount))
    changes.append(littleEndian: UInt32(value.byteCount))
    changes.append(key)
    changes.append(value)
    origins.append(littleEndian: origin.serverVersion)
    origins.append(littleEndian: origin.time.rawValue)
    origins.append(littleEndian: place(of: origin.author))
    newest = max(newest, origin.time)
    count += 1
    payloadBytes += key.byteCount + value.byteCount
  }

  private mutating func place(of author: Identity) -> UInt16 {
    if let lastAuthor, lastAuthor.0 == author { return lastAuthor.1 }
    let place = places[author] ?? UInt16(authors.count)
    if place == authors.count {
      authors.append(author)
      places[author] = place
    }
    lastAuthor = (author, place)
    return place
  }

  /// The core, with the hub's epoch and version as its origin.
  package func core(of position: Position) -> [UInt8] {
    var core: [UInt8] = []
    core.reserveCapacity(CommitLayout.coreHeaderBytes + byteCount + 2)
    core.append(position.identity)
    core.append(littleEndian: position.version)
    core.append(littleEndian: newest.rawValue)
    core.append(littleEndian: CommitFlags.rows.rawValue)
    core.append(littleEndian: UInt16(0))
    core.append(littleEndian: UInt32(count))
    core.append(contentsOf: changes)
    core.append(contentsOf: origins)
    for author in authors { core.append(author) }
    core.append(littleEndian: UInt16(authors.count))
    return core
  }

  /// A commit record of the hub's log with it, as it travels.
  package func record(of position: Position) -> [UInt8] {
    let core = core(of: position)
    var record: [UInt8] = []
    record.reserveCapacity(RecordView.headerByteCount + CommitLayout.envelopeBytes + core.count)
    record.append(
      littleEndian: UInt64(CommitLayout.envelopeBytes + core.count) | UInt64(RecordKind.commit.rawValue) << 32)
    record.append(littleEndian: position.version)
    record.append(littleEndian: Version(0))
    record.append(contentsOf: core)
    return record
  }
}

extension CommitHeader {
  /// The header as that of one of the commit's rows.
  package func ofRow(_ origin: RowOrigin) -> CommitHeader {
    var header = self
    header.serverVersion = origin.serverVersion
    header.time = origin.time
    header.origin = origin.author
    return header
  }
}
