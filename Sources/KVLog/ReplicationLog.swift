// The replication log, open for appending.
//
// Invariants:
// - One thread of one process appends at a time: whoever holds the store's writer lock. A process whose turn it is
//   resumes where the last one stopped.
// - `end` only names blocks that were written whole. They are durable once `synchronize` has returned.
// - Of synchronisations one is under way at a time, and none is begun after one has failed: the kernel tells of lost pages
//   once, to whoever asks first, and the next one would be told that all is well.
// - Segments disappear from the front only, one after the other, and never the newest.

internal import Synchronization

package final class ReplicationLog: Sendable {
  package let configuration: LogConfiguration

  private let writer: Mutex<SegmentWriter>
  private let truncation = Mutex(())
  private let synchronization = Mutex(())

  init(_ writer: SegmentWriter) {
    configuration = writer.configuration
    self.writer = Mutex(writer)
  }

  /// Begins a log in a directory that holds no segment yet, and makes the directory if it has to. Durable on return.
  /// Its first commit follows `version`, its digests follow `digest`; nil: those before the first commit of the identity.
  package static func create(
    _ configuration: LogConfiguration, after version: Version = 0, _ digest: Digest? = nil
  ) throws(LogError) -> ReplicationLog {
    let files = configuration.fileSystem
    let directory = configuration.directory
    do {
      try files.makeDirectory(directory)
      try files.synchronizeDirectory(parent(of: directory))
    } catch {
      throw LogError(error, "make the log's directory", file: directory)
    }
    guard try SegmentDirectory.names(configuration).isEmpty else {
      throw LogError(SystemError.existing, "begin a log where there is one", file: directory)
    }
    var start = LogPosition.start(of: configuration.identity)
    start.segment = version + 1
    start.version = version
    if let digest { start.digest = digest }
    return ReplicationLog(try SegmentWriter(beginning: configuration, at: start))
  }

  /// Opens a log that another process has open too, at a position that it published.
  package static func join(
    _ configuration: LogConfiguration, at position: LogPosition, synchronizedThrough durable: UInt64
  ) throws(LogError) -> ReplicationLog {
    let path = configuration.path(ofSegment: position.segment)
    do {
      var writer = SegmentWriter(
        continuing: try configuration.fileSystem.open(path, .write), path: path, at: position, configuration)
      try writer.resume(at: position, synchronizedThrough: durable)
      return ReplicationLog(writer)
    } catch let error as LogError {
      throw error
    } catch let error as SystemError {
      throw LogError(error, "open the segment", file: path, version: position.segment)
    } catch {
      preconditionFailure("files and the log throw their own errors")
    }
  }

  /// Where the next block goes. Only what was synchronised is durable.
  package var end: LogPosition { writer.withLock { $0.end } }

  /// The bytes of the newest segment before this are durable.
  package var synchronizedThrough: UInt64 { writer.withLock { $0.synchronizedThrough } }

  /// The files, oldest first.
  package var segments: [LogSegment] {
    get throws(LogError) { try SegmentDirectory.segments(configuration) }
  }

  /// The oldest version that can still be read; the next one to come when there is none yet.
  package var firstVersion: Version {
    get throws(LogError) { try SegmentDirectory.names(configuration).first ?? end.version + 1 }
  }

  /// Writes a block, which must continue the log, and gives its end. Not durable yet. On `.full` nothing was
  /// appended and the block can be appended again; on any other error during the write the log must be reopened.
  @discardableResult
  package func append(_ block: inout BlockBuilder, _ growth: LogGrowth = LogGrowth()) throws(LogError) -> LogPosition {
    try writer.withLock { (writer) throws(LogError) in try writer.append(&block, growth) }
  }

  /// Says that `synchronize` follows soon: the disk may begin with the block that was appended last, and the caller does
  /// what else it has to do meanwhile.
  package func willSynchronize() { writer.withLock { $0.willSynchronize() } }

  /// Makes everything appended so far durable.
  package func synchronize() throws(LogError) {
    try synchronization.withLock { (_) throws(LogError) in
      try writer.withLock { (writer) throws(LogError) in try writer.synchronize() }
    }
  }

  /// Seals the newest segment, so that the next block begins another one. Nothing happens if it holds no commit.
  package func seal() throws(LogError) {
    try writer.withLock { (writer) throws(LogError) in try writer.seal() }
  }

  /// As `synchronize`, but blocks may be appended meanwhile, which it does not cover. Gives what is durable now.
  package func synchronizeAside() throws(LogError) -> LogPosition? {
    try synchronization.withLock { (_) throws(LogError) -> LogPosition? in
      let wanted = try writer.withLock { (writer) throws(LogError) in try writer.unsynchronized() }
      guard let (file, end, retractions) = wanted else { return nil }
      do throws(SystemError) {
        try file.synchronizeData()
      } catch {
        throw writer.withLock { $0.failed(error) }
      }
      writer.withLock { $0.synchronized(through: end, retractions) }
      return end
    }
  }

  /// Makes durable what lies before `position`, where another process has ended a block; blocks may be appended meanwhile.
  package func synchronize(through position: LogPosition) throws(LogError) {
    let path = configuration.path(ofSegment: position.segment)
    do throws(SystemError) {
      try configuration.fileSystem.open(path, .write).synchronizeData()
    } catch {
      // A segment is durable before the next one begins, and so is what has been given back since.
      if error.isMissing { return }
      throw LogError(error, "synchronise the log", file: path, offset: position.offset, version: position.version)
    }
  }

  /// Whether the next segment should be prepared now. Who is told so calls `prepareSegment`.
  package func beginPreparingSegment() -> Bool { writer.withLock { $0.beginPreparing() } }

  /// Prepares the file of the next segment, which takes the disk a while and keeps nobody from appending. `name` is unique to
  /// this process and call.
  package func prepareSegment(_ process: Int32, _ number: UInt64, leaving: UInt64, while isWanted: () -> Bool) {
    let name = SegmentName.spare(process, number)
    let made = SpareSegment(configuration, leaving: leaving, named: name, while: isWanted)
    writer.withLock { $0.endPreparing(made) }
  }

  /// Gives the prepared file back, if there is one: on a full disk, and when this process appends no more.
  package func discardPreparedSegment() { writer.withLock { _ = $0.dropSpare() } }

  /// Takes back the block that was appended last, durably: it was never there.
  package func retract() throws(LogError) {
    try writer.withLock { (writer) throws(LogError) in try writer.retract() }
  }

  /// Goes on where another process has stopped, at a position that it published.
  package func resume(at position: LogPosition, synchronizedThrough durable: UInt64) throws(LogError) {
    try writer.withLock { (writer) throws(LogError) in
      try writer.resume(at: position, synchronizedThrough: durable)
    }
  }

  /// Goes on where another process has died while it was appending: replays whole blocks after `position` through
  /// `body`, as `open` does but durable before `body` sees them, and cuts what is unfinished.
  package func recover(after position: LogPosition, _ body: (borrowing Block) throws -> Void) throws {
    if let newest = try SegmentDirectory.segments(configuration).last {
      let path = configuration.path(ofSegment: newest.firstVersion)
      do {
        try configuration.fileSystem.open(path, .write).synchronizeAll()
      } catch {
        throw LogError(error, "synchronise the segment", file: path, version: newest.firstVersion)
      }
    }
    var recovered = try Self.recovered(configuration, after: position, body)
    writer.withLock { writer in
      recovered.retractions = writer.retractions + 1
      writer = recovered
    }
  }

  /// Synchronises, and gives back the space that was written ahead. Further appends are refused.
  package func close() throws(LogError) {
    try writer.withLock { (writer) throws(LogError) in try writer.close() }
  }

  /// Removes the segments all of whose versions are below `version`; never the newest. Gives their number. Each
  /// removal is durable before the next one, so that no loss of power leaves a hole.
  @discardableResult
  package func truncate(before version: Version) throws(LogError) -> Int {
    try truncation.withLock { (_) throws(LogError) in
      let names = try SegmentDirectory.names(configuration)
      var count = 0
      for (segment, next) in zip(names, names.dropFirst()) where next <= version {
        let path = configuration.path(ofSegment: segment)
        do throws(SystemError) {
          try configuration.fileSystem.unlink(path)
          try configuration.fileSystem.synchronizeDirectory(configuration.directory)
        } catch {
          throw LogError(error, "remove a segment", file: path, version: segment)
        }
        count += 1
      }
      return count
    }
  }

  private static func parent(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }
}
