// Opening a log after anything: a clean end, a kill, a loss of power.
//
// The rules:
// - Segments before the one where the index ends are looked at by name and header only.
// - From there, every block is read, checked and handed to the caller, in order.
// - Where the newest segment holds no whole block, the log ends. Whatever lies there was never durable, unless a whole
//   block further on vouches for it (`synchronizedThrough`): then the log is damaged, and nothing is changed.
// - In every other segment anything but whole blocks is damage.
// - What lies after the end is cut, durably, before anything is appended: a block left over from an unfinished write
//   could otherwise come to lie behind a new one.
// - The last blocks, for which nothing vouches, are written again and synchronised. After a failed synchronisation the
//   kernel may show them as if they had been written; only then are they known to be durable.

extension ReplicationLog {
  /// Opens the log for appending: replays what follows `position` through `body`, and cuts an unfinished end.
  package static func open(
    _ configuration: LogConfiguration, after position: LogPosition, _ body: (borrowing Block) throws -> Void
  ) throws -> ReplicationLog {
    ReplicationLog(try recovered(configuration, after: position, body))
  }

  static func recovered(
    _ configuration: LogConfiguration, after position: LogPosition, _ body: (borrowing Block) throws -> Void
  ) throws -> SegmentWriter {
    let segments = try SegmentDirectory.segments(configuration)
    guard !segments.isEmpty else { throw LogReader.empty(configuration) }

    var reader = try LogReader(configuration, from: position)
    var unvouched: [Block] = []
    while let block = try reader.next() {
      let open = unvouched.firstIndex {
        $0.end.segment == block.end.segment && $0.end.offset > block.synchronizedThrough
      }
      // They lie one after the other: the first one says when there is anything to remove.
      if open != 0 { unvouched.removeFirst(open ?? unvouched.count) }
      unvouched.append(block)
      try body(block)
    }
    let end = reader.position
    guard end.segment == segments.last?.firstVersion else {
      throw LogError(
        .corrupt("the segment does not follow"), "open", file: configuration.directory, version: end.version + 1)
    }
    try reader.refuseDamage()
    unvouched.removeAll { $0.end.segment != end.segment }

    return try tidy(configuration, end, unvouched)
  }

  /// Changes files for the first time: everything has been read and found good.
  private static func tidy(
    _ configuration: LogConfiguration, _ end: LogPosition, _ unvouched: [Block]
  ) throws(LogError) -> SegmentWriter {
    let files = configuration.fileSystem
    let path = configuration.path(ofSegment: end.segment)
    do {
      for name in try files.list(configuration.directory) {
        let isHollow = SegmentName.parse(name).map { $0 > end.segment } ?? false
        if SegmentName.isUnfinished(name) || isHollow { try files.unlink(configuration.path(name)) }
      }
      let file = try files.open(path, .write)
      try file.truncate(to: end.offset)
      for block in unvouched {
        let bytes = unsafe block.bytes.span.bytes.extracting(block.whole)
        try file.write(bytes, at: block.offset)
      }
      try file.synchronizeAll()
      try files.synchronizeDirectory(configuration.directory)
      return SegmentWriter(continuing: file, path: path, at: end, configuration)
    } catch {
      throw LogError(error, "open the segment for appending", file: path, offset: end.offset)
    }
  }
}

extension LogReader {
  /// At the end of the newest segment: throws when what lies there had been durable once. Gives the number of bytes
  /// of an unfinished block, 0 after a clean end.
  @discardableResult
  package mutating func refuseDamage() throws(LogError) -> UInt64 {
    let remainder = try segment.remainder(from: position)
    if let witness = remainder.witness {
      throw segment.corrupt(
        "a block is damaged that was durable when the one at offset \(witness) was written", position)
    }
    return remainder.isZero ? 0 : try segment.size() - position.offset
  }
}
