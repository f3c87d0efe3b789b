// Reads a log block by block: without a lock, without the store, beside a writer or after it.
//
// Invariants:
// - Every block returned is whole and continues the one before it; versions and digests are checked across segments.
// - Where the newest segment holds no whole block, the log ends until more is written: the writer may be at it. Where
//   another segment, or the part before a `limit` known to be durable, holds none, the log is damaged: an error.
// - A segment that is truncated away while it is being read is read to its end; then it is `.expired`.

package struct LogReader {
  private let configuration: LogConfiguration
  var segment: SegmentReader
  /// Where the next block is expected.
  package private(set) var position: LogPosition

  /// Begins with the oldest block.
  package init(_ configuration: LogConfiguration) throws(LogError) {
    self.configuration = configuration
    guard let first = try SegmentDirectory.names(configuration).first else { throw Self.empty(configuration) }
    segment = try SegmentReader(first, configuration)
    position = segment.start
  }

  /// Begins with the block that holds the commit after `version`; it may hold earlier ones too. With nothing after
  /// `version` yet, begins at the end. Throws `.expired` or `.beyondEnd` when the log does not reach there.
  package init(_ configuration: LogConfiguration, after version: Version) throws(LogError) {
    self.configuration = configuration
    segment = try Self.segment(holding: version, configuration)
    position = segment.start
    try hop(to: version)
  }

  /// Begins at a position that this log gave.
  package init(_ configuration: LogConfiguration, from position: LogPosition) throws(LogError) {
    self.configuration = configuration
    self.position = position
    let names = try SegmentDirectory.names(configuration)
    guard let first = names.first else { throw Self.empty(configuration) }
    guard names.contains(position.segment) else {
      guard position.segment >= first else {
        throw LogError(
          .expired(first: first), "read", file: configuration.directory, version: position.version &+ 1)
      }
      throw LogError(
        .corrupt("the segment file is missing"), "read", file: configuration.path(ofSegment: position.segment),
        offset: position.offset, version: position.version &+ 1)
    }
    segment = try Self.open(position.segment, configuration)
    let isAligned = position.offset % UInt64(BlockHeader.alignment) == 0
    guard isAligned, position.version < .max, position.offset >= segment.start.offset,
      position.version &+ 1 >= position.segment,
      position.offset > segment.start.offset || position == segment.start
    else { throw segment.corrupt("it is not where the index says it ends", position) }
    guard try segment.size() >= position.offset else {
      throw segment.corrupt("the file ends before what was durable", position)
    }
  }

  /// The next block; `nil` at the end of what is written, or at `limit`. May be called again later: blocks that were
  /// written since come then. Up to `limit`, a position known to be durable, an incomplete block is damage. So is one whose
  /// commits do not give what its header tells; it is not passed.
  package mutating func next(through limit: LogPosition? = nil) throws(LogError) -> Block? {
    guard try advance(through: limit), let block = segment.block else { return nil }
    do {
      try block.verify()
    } catch {
      position = block.start
      throw error
    }
    return block
  }

  /// Goes on to the next block, as `next` does, without a value for it: its records are `records` of `bytes` until the
  /// reader goes on. False where `next` gives `nil`; the reader's buffer is given back then.
  package mutating func advance(through limit: LogPosition? = nil) throws(LogError) -> Bool {
    while true {
      if let limit, !position.precedes(limit) {
        segment.rest()
        return false
      }
      let bound = limit.flatMap { $0.segment == position.segment ? $0.offset : nil }
      guard let gap = try segment.findBlock(after: position, limit: bound) else { return pass() }
      if bound != nil { throw segment.corrupt(gap.rawValue, position) }
      switch try follow(gap) {
      case .found: return pass()
      case .moved: continue
      case .end:
        guard limit == nil else { throw segment.corrupt(gap.rawValue, position) }
        segment.rest()
        return false
      }
    }
  }

  /// The position is that behind the block that was found.
  private mutating func pass() -> Bool {
    guard let found = segment.found else { preconditionFailure("a block was found") }
    position = found.end
    return true
  }

  /// Where the records of the block that the reader has come to lie in `bytes`; empty before the first.
  package var records: Range<Int> { segment.found?.records ?? 0..<0 }

  /// The version and the digest before that block.
  package var before: (version: Version, digest: Digest) {
    segment.found.map { ($0.header.firstVersion - 1, $0.header.digestBefore) } ?? (position.version, position.digest)
  }

  /// The reader's buffer.
  package var bytes: RawSpan {
    @_lifetime(borrow self)
    get { segment.bytes }
  }

  /// Makes durable what was read: a segment is durable before the next one begins, so this is about the present one.
  package func synchronize() throws(LogError) { try segment.synchronize() }

  // MARK: From segment to segment

  private enum Step {
    case found
    case moved
    case end
  }

  /// No whole block at the position: the end of the log, the end of a sealed segment, or damage.
  private mutating func follow(_ gap: SegmentReader.Gap) throws(LogError) -> Step {
    let names = try SegmentDirectory.names(configuration)
    guard let next = names.first(where: { $0 > position.segment }) else { return .end }
    if next == names.last, try isHollow(next) { return .end }
    // There is a later segment, so this one was sealed, but perhaps only since we looked: look once more.
    if try segment.findBlock(after: position) == nil { return .found }
    guard try segment.size() == position.offset else { throw segment.corrupt(gap.rawValue, position) }
    guard next == position.version &+ 1 else {
      if let first = names.first, first > position.version &+ 1 {
        throw LogError(
          .expired(first: first), "read", file: configuration.directory, version: position.version &+ 1)
      }
      throw LogError(
        .corrupt("the segment file is missing"), "read",
        file: configuration.path(ofSegment: position.version &+ 1), version: position.version &+ 1)
    }
    let before = position
    segment = try Self.open(next, configuration)
    position = segment.start
    guard segment.header.previousSegment == before.segment, position.digest == before.digest else {
      throw segment.corrupt("the segment does not continue the one before it", position)
    }
    return .moved
  }

  /// Opens a segment that was there a moment ago; when it is not, it has been truncated away.
  private static func open(_ name: Version, _ configuration: LogConfiguration) throws(LogError) -> SegmentReader {
    do {
      return try SegmentReader(name, configuration)
    } catch {
      guard case .system(let code) = error.kind, SystemError(code: code).isMissing,
        let first = try SegmentDirectory.names(configuration).first, first > name
      else { throw error }
      throw LogError(.expired(first: first), "read", file: configuration.directory, version: name)
    }
  }

  private func isHollow(_ name: Version) throws(LogError) -> Bool {
    let path = configuration.path(ofSegment: name)
    do {
      let file = try configuration.fileSystem.open(path, .read)
      return try SegmentDirectory.isHollow(file, path: path, size: try file.size())
    } catch let error as LogError {
      throw error
    } catch {
      return false
    }
  }

  // MARK: Finding a version

  /// The segment that holds the commit after `version`, or will.
  private static func segment(
    holding version: Version, _ configuration: LogConfiguration
  ) throws(LogError) -> SegmentReader {
    while true {
      let names = try SegmentDirectory.names(configuration)
      guard let first = names.first else { throw empty(configuration) }
      guard version < .max, let name = names.last(where: { $0 <= version &+ 1 }) else {
        throw LogError(.expired(first: first), "read", file: configuration.directory, version: version)
      }
      do {
        return try SegmentReader(name, configuration)
      } catch {
        // Truncated between the list and the open: the next list no longer has it.
        guard case .system(let code) = error.kind, SystemError(code: code).isMissing else { throw error }
      }
    }
  }

  /// Hops over block headers to the block that holds the commit after `version`. Headers are taken at their word on
  /// the way; the block that is found is read.
  private mutating func hop(to version: Version) throws(LogError) {
    var found: LogPosition?
    while let header = try segment.blockHeader(at: position.offset), header.firstVersion == position.version &+ 1 {
      position.digest = header.digestBefore
      found = position
      guard header.lastVersion <= version else { break }
      position.offset += UInt64(header.blockBytes)
      position.version = header.lastVersion
    }
    if let found {
      position = found
      if try segment.findBlock(after: found) == nil {
        if try skip(unlessBeyond: version) { return }
      } else if try walk(to: version) {
        // An unfinished block, or a damaged header that led us astray. Only whole blocks tell where the log stands.
        return
      }
    }
    if position.version < version { throw try missing(version) }
  }

  /// Reads block after block; true before the one that holds the commit after `version`.
  private mutating func walk(to version: Version) throws(LogError) -> Bool {
    position = segment.start
    while try segment.findBlock(after: position) == nil {
      if try skip(unlessBeyond: version) { return true }
    }
    return false
  }

  /// Passes the block that was found; true, and nothing is passed, when it reaches beyond `version`.
  private mutating func skip(unlessBeyond version: Version) throws(LogError) -> Bool {
    guard let found = segment.found, found.header.lastVersion <= version else { return true }
    position = found.end
    return false
  }

  /// Why the commit after the position is not there.
  private mutating func missing(_ version: Version) throws(LogError) -> LogError {
    let names = try SegmentDirectory.names(configuration)
    if let next = names.first(where: { $0 > position.segment }) {
      let isSealed = try next != names.last ? true : !isHollow(next)
      if isSealed { return segment.corrupt("no whole block begins here", position) }
    }
    try refuseDamage()
    return LogError(
      .beyondEnd(last: position.version), "read", file: segment.path, offset: position.offset, version: version)
  }

  static func empty(_ configuration: LogConfiguration) -> LogError {
    LogError(.corrupt("it has no segment files"), "open", file: configuration.directory)
  }
}

extension LogReader {
  /// The digest of the log through `version`. Throws `.expired` and `.beyondEnd` like the reader; the version just
  /// before the oldest segment is still known.
  package static func digest(at version: Version, _ configuration: LogConfiguration) throws(LogError) -> Digest {
    if version < .max, try SegmentDirectory.names(configuration).contains(version &+ 1) {
      let next = try SegmentReader(version &+ 1, configuration)
      return next.header.digestBefore
    }
    var reader = try LogReader(configuration, after: version == 0 ? 0 : version - 1)
    guard let block = try reader.next() else { throw try reader.missing(version) }
    return try block.digest(at: version)
  }
}
