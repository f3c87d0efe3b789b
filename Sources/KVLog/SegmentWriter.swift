// Appends blocks to segment files.
//
// Invariants:
// - A block is written only into space that was written before and is durable: growing a file, which can fail for
//   want of space, happens first and appends nothing. A synchronisation after it has no metadata to write.
// - A segment is sealed (cut to its last block, synchronised) before the next one gets its name, and a sealed one holds
//   at least one commit, so that no two segments have the same first version.
// - After a write or synchronisation whose outcome is unknown it refuses everything: what is durable is found out by
//   reading the files again, never by trying again.

struct SegmentWriter {
  let configuration: LogConfiguration
  private var file: any LogFile
  private(set) var path: String
  /// Where the next block goes.
  private(set) var end: LogPosition
  /// The size of the file: zeros are written from the end up to here.
  private(set) var writtenAhead: UInt64
  /// The bytes of the file before this are durable.
  private(set) var synchronizedThrough: UInt64
  private var step: Int
  /// Where the last block begins; the end while there is none that could be taken back.
  private var lastBlock: LogPosition
  /// How often blocks were taken back: an end that was seen before the last time may not be in the log any more.
  var retractions = 0
  private(set) var isPoisoned = false
  /// Zeros for the next segment, durable.
  private var spare: SpareSegment?
  /// The segment in which it was begun last: once in each, also if there was no room.
  private var preparedIn: Version?
  private var isPreparing = false

  private static let pageBytes: UInt64 = 4096
  private static let zeros = [UInt8](repeating: 0, count: 64 << 10)

  /// Goes on at `end` of an existing segment, which is durable and where the file ends.
  init(continuing file: any LogFile, path: String, at end: LogPosition, _ configuration: LogConfiguration) {
    self.configuration = configuration
    self.file = file
    self.path = path
    self.end = end
    writtenAhead = end.offset
    synchronizedThrough = end.offset
    lastBlock = end
    step = configuration.smallestPrewriteBytes
  }

  /// Goes on where another process has stopped: at a position that it published, in whatever space it wrote ahead.
  mutating func resume(at position: LogPosition, synchronizedThrough durable: UInt64) throws(LogError) {
    if position.segment != end.segment {
      let path = configuration.path(ofSegment: position.segment)
      do {
        file = try configuration.fileSystem.open(path, .write)
      } catch {
        throw LogError(error, "open the segment", file: path, version: position.segment)
      }
      self.path = path
    }
    end = position
    lastBlock = position
    synchronizedThrough = durable
    do { writtenAhead = try file.size() } catch { throw LogError(error, "look at the segment", file: path) }
  }

  /// Begins a log: makes its first segment.
  init(beginning configuration: LogConfiguration, at start: LogPosition) throws(LogError) {
    let segment = try Self.make(
      after: start, previous: 0, bytes: UInt64(configuration.smallestPrewriteBytes), configuration)
    self.init(continuing: segment.file, path: segment.path, at: start, configuration)
    writtenAhead = segment.size
    do {
      try Self.publish(start.segment, configuration)
    } catch {
      throw LogError(error, "name the segment", file: path)
    }
  }

  // MARK: Appending

  mutating func append(_ block: inout BlockBuilder, _ growth: LogGrowth) throws(LogError) -> LogPosition {
    try checkUsable()
    precondition(
      block.firstVersion == end.version + 1 && block.digestBefore == end.digest, "the block continues the log")
    let bytes = UInt64(block.blockBytes)
    if end.offset + bytes > UInt64(configuration.segmentBytes), end.version >= end.segment {
      try roll(for: bytes, growth)
    }
    try writeAhead(through: end.offset + bytes, growth)
    block.seal(
      identity: configuration.identity, segment: end.segment, offset: end.offset,
      synchronizedThrough: synchronizedThrough)
    do {
      try block.withBlock { (bytes) throws(SystemError) in try file.write(bytes, at: end.offset) }
    } catch {
      throw poison(error, "write a block")
    }
    lastBlock = end
    end.offset += bytes
    end.version = block.lastVersion
    end.digest = block.digest
    return end
  }

  /// Has the last block on its way to the medium while the caller does something else before it synchronises.
  func willSynchronize() {
    guard !isPoisoned, lastBlock.offset < end.offset else { return }
    file.willSynchronize(lastBlock.offset..<end.offset)
  }

  mutating func synchronize() throws(LogError) {
    try checkUsable()
    guard synchronizedThrough < end.offset else { return }
    do {
      try file.synchronizeData()
    } catch {
      throw poison(error, "synchronise the log")
    }
    synchronizedThrough = end.offset
  }

  /// Takes the last block back, durably, as if it had never been appended.
  mutating func retract() throws(LogError) {
    try checkUsable()
    do {
      try file.truncate(to: lastBlock.offset)
      try file.synchronizeAll()
    } catch {
      throw poison(error, "take a block back")
    }
    end = lastBlock
    writtenAhead = end.offset
    synchronizedThrough = end.offset
    retractions += 1
  }

  /// What has to be synchronised, by whoever has the time, for the log to be durable up to its present end.
  func unsynchronized() throws(LogError) -> (file: any LogFile, end: LogPosition, retractions: Int)? {
    try checkUsable()
    return synchronizedThrough < end.offset ? (file, end, retractions) : nil
  }

  /// `end`, or the end of an older segment, is durable, unless blocks were taken back since `retractions` were counted:
  /// others may lie in their place.
  mutating func synchronized(through end: LogPosition, _ retractions: Int) {
    guard end.segment == self.end.segment, retractions == self.retractions else { return }
    synchronizedThrough = max(synchronizedThrough, end.offset)
  }

  /// The outcome of somebody else's synchronisation is unknown.
  mutating func failed(_ error: SystemError) -> LogError { poison(error, "synchronise the log") }

  /// Begins the next segment before this one is full.
  mutating func seal() throws(LogError) {
    try checkUsable()
    if end.version >= end.segment { try roll(for: 0, LogGrowth()) }
  }

  /// Gives back what was written ahead; nothing can be appended afterwards.
  mutating func close() throws(LogError) {
    try synchronize()
    isPoisoned = true
    _ = dropSpare()
    do {
      try file.truncate(to: end.offset)
    } catch {
      throw LogError(error, "cut what was written ahead", file: path, offset: end.offset)
    }
    writtenAhead = end.offset
  }

  private func checkUsable() throws(LogError) {
    guard !isPoisoned else { throw LogError(.poisoned, "append", file: path, offset: end.offset) }
  }

  private mutating func poison(_ error: SystemError, _ operation: String) -> LogError {
    isPoisoned = true
    // Not `.full` even if that is the reason: the bytes may or may not be there.
    return LogError(
      .system(error.code), operation, file: path, offset: end.offset, version: end.version + 1)
  }

  // MARK: Preparing the next segment

  /// Whether a segment should be prepared; from then on the caller is at it.
  mutating func beginPreparing() -> Bool {
    guard preparedIn != end.segment, spare == nil, !isPreparing, !isPoisoned,
      step >= configuration.largestPrewriteBytes,
      end.offset >= UInt64(configuration.segmentBytes / configuration.preparedShare)
    else { return false }
    preparedIn = end.segment
    isPreparing = true
    return true
  }

  mutating func endPreparing(_ made: SpareSegment?) {
    isPreparing = false
    if isPoisoned { made?.remove(configuration) } else { spare = made }
  }

  /// Gives back what was prepared; false when nothing was.
  mutating func dropSpare() -> Bool {
    defer { spare = nil }
    spare?.remove(configuration)
    return spare != nil
  }

  // MARK: Growing

  /// Makes sure that zeros lie between the end and `needed`, and that they are durable.
  private mutating func writeAhead(through needed: UInt64, _ growth: LogGrowth) throws(LogError) {
    guard needed > writtenAhead else { return }
    let least = Self.roundedUp(needed)
    try checkRoom(for: least - writtenAhead, growth)
    let segmentBytes = UInt64(configuration.segmentBytes)
    let step = min(growth.ahead, UInt64(step))
    let generous = max(least, min(writtenAhead + step, max(segmentBytes, least)))
    do throws(SystemError) {
      do throws(SystemError) {
        try zeros(to: generous)
      } catch {
        // A nearly full disk may still have room for this block alone, or for what was meant for the next segment.
        guard error.isFull, dropSpare() || generous > least else { throw error }
        try zeros(to: least)
      }
    } catch {
      guard error.isFull else { throw poison(error, "write ahead") }
      throw LogError(.full, "grow the log", file: path, offset: end.offset, version: end.version + 1)
    }
    self.step = min(self.step * 2, configuration.largestPrewriteBytes)
  }

  /// Whether the disk has so much more than it has to keep.
  private func checkRoom(for bytes: UInt64, _ growth: LogGrowth) throws(LogError) {
    guard growth.leaving > 0, let free = configuration.fileSystem.freeBytes(configuration.directory) else { return }
    guard free >= bytes + growth.leaving else {
      throw LogError(.full, "grow the log", file: path, offset: end.offset, version: end.version + 1)
    }
  }

  private mutating func zeros(to size: UInt64) throws(SystemError) {
    do {
      try Self.writeZeros(to: file, writtenAhead..<size)
    } catch {
      // Only zeros beyond the end are cut here: should this fail too, nothing is lost but space.
      try? file.truncate(to: writtenAhead)
      throw error
    }
    do {
      try file.synchronizeAll()
    } catch {
      isPoisoned = true
      throw SystemError(code: error.isFull ? SystemError.inputOutput.code : error.code)
    }
    writtenAhead = size
  }

  static func writeZeros(to file: any LogFile, _ range: Range<UInt64>) throws(SystemError) {
    var offset = range.lowerBound
    while offset < range.upperBound {
      let count = Int(min(UInt64(zeros.count), range.upperBound - offset))
      let bytes = unsafe zeros.span.bytes.extracting(0..<count)
      try file.write(bytes, at: offset)
      offset += UInt64(count)
    }
  }

  private static func roundedUp(_ bytes: UInt64) -> UInt64 { (bytes + pageBytes - 1) / pageBytes * pageBytes }

  // MARK: Segments

  /// Seals this segment and begins the next, with room for `bytes`.
  private mutating func roll(for bytes: UInt64, _ growth: LogGrowth) throws(LogError) {
    var start = end
    start.segment = end.version + 1
    start.offset = UInt64(SegmentHeader.byteCount)
    let least = Self.roundedUp(start.offset + bytes)
    try checkRoom(for: least, growth)
    let generous = max(least, min(growth.ahead, UInt64(step), UInt64(configuration.segmentBytes)))
    let next: NewSegment
    if let prepared = takeSpare(for: least, after: start) {
      next = prepared
    } else {
      do {
        next = try Self.make(after: start, previous: end.segment, bytes: generous, configuration)
      } catch {
        guard error.kind == .full, generous > least else { throw error }
        next = try Self.make(after: start, previous: end.segment, bytes: least, configuration)
      }
    }
    do {
      try file.truncate(to: end.offset)
      try file.synchronizeAll()
      try Self.publish(start.segment, configuration)
    } catch {
      throw poison(error, "seal the segment")
    }
    file = next.file
    path = next.path
    end = start
    lastBlock = start
    writtenAhead = next.size
    synchronizedThrough = start.offset
    step = min(step * 2, configuration.largestPrewriteBytes)
  }

  /// Makes the prepared file the next segment, if there is one and it has room for `least` bytes. It may have gone: a
  /// process that cleans up after another one removes what has no name yet.
  private mutating func takeSpare(for least: UInt64, after start: LogPosition) -> NewSegment? {
    guard let spare else { return nil }
    guard spare.bytes >= least else {
      _ = dropSpare()
      return nil
    }
    self.spare = nil
    let header = Self.header(after: start, previous: end.segment, configuration)
    do {
      let bytes = unsafe header.span.bytes
      try spare.file.write(bytes, at: 0)
      try spare.file.synchronizeAll()
      try configuration.fileSystem.rename(spare.path, to: configuration.path(SegmentName.unfinished(start.segment)))
    } catch {
      spare.remove(configuration)
      return nil
    }
    return NewSegment(file: spare.file, path: configuration.path(ofSegment: start.segment), size: spare.bytes)
  }

  private struct NewSegment {
    var file: any LogFile
    var path: String
    var size: UInt64
  }

  /// A segment with a header and zeros, durable, under a name that no reader takes for a segment.
  private static func make(
    after start: LogPosition, previous: Version, bytes: UInt64, _ configuration: LogConfiguration
  ) throws(LogError) -> NewSegment {
    let unfinished = configuration.path(SegmentName.unfinished(start.segment))
    let header = header(after: start, previous: previous, configuration)
    do {
      let file = try configuration.fileSystem.open(unfinished, .create)
      let span = unsafe header.span.bytes
      try file.write(span, at: 0)
      try writeZeros(to: file, UInt64(header.count)..<max(bytes, UInt64(header.count)))
      try file.synchronizeAll()
      return NewSegment(
        file: file, path: configuration.path(ofSegment: start.segment), size: max(bytes, UInt64(header.count)))
    } catch {
      try? configuration.fileSystem.unlink(unfinished)
      throw LogError(error, "begin a segment", file: unfinished, version: start.segment)
    }
  }

  private static func header(
    after start: LogPosition, previous: Version, _ configuration: LogConfiguration
  ) -> [UInt8] {
    SegmentHeader(
      identity: configuration.identity, firstVersion: start.segment, digestBefore: start.digest,
      previousSegment: previous
    ).encoded
  }

  /// Gives a segment its name, durably.
  private static func publish(_ segment: Version, _ configuration: LogConfiguration) throws(SystemError) {
    try configuration.fileSystem.rename(
      configuration.path(SegmentName.unfinished(segment)), to: configuration.path(ofSegment: segment))
    try configuration.fileSystem.synchronizeDirectory(configuration.directory)
  }
}

/// How the log may grow when a block needs it.
package struct LogGrowth: Sendable {
  /// By so many bytes at most, unless the block needs more.
  package var ahead: UInt64
  /// Bytes that must stay free on the disk.
  package var leaving: UInt64

  package init(ahead: UInt64 = .max, leaving: UInt64 = 0) {
    self.ahead = ahead
    self.leaving = leaving
  }
}
