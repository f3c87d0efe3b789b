// The replication log, open for appending.
//
// Invariants:
// - One thread appends and synchronises; everything else may be called from any thread, and never waits for a disk.
// - `end` only names blocks that were written whole. They are durable once `synchronize` has returned.
// - Segments disappear from the front only, one after the other, and never the newest.

internal import Synchronization

package final class ReplicationLog: Sendable {
  package let configuration: LogConfiguration

  /// What readers of the log's state see.
  private struct Published {
    var end: LogPosition
    var segments: [LogSegment]
  }

  private let writer: Mutex<SegmentWriter>
  private let published: Mutex<Published>
  private let truncation = Mutex(())

  init(_ writer: SegmentWriter, sealed: [LogSegment]) {
    configuration = writer.configuration
    published = Mutex(
      Published(
        end: writer.end,
        segments: sealed + [LogSegment(firstVersion: writer.end.segment, bytes: writer.writtenAhead)]))
    self.writer = Mutex(writer)
  }

  /// Begins a log in a directory that holds no segment yet, and makes the directory if it has to. Durable on return.
  package static func create(_ configuration: LogConfiguration) throws(LogError) -> ReplicationLog {
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
    return ReplicationLog(try SegmentWriter(beginning: configuration), sealed: [])
  }

  /// Where the next block goes. Only what was synchronised is durable.
  package var end: LogPosition { published.withLock { $0.end } }

  /// The files, oldest first.
  package var segments: [LogSegment] { published.withLock { $0.segments } }

  /// The oldest version that can still be read; the next one to come when there is none yet.
  package var firstVersion: Version {
    published.withLock { $0.segments.first?.firstVersion ?? $0.end.version + 1 }
  }

  /// Writes a block, which must continue the log, and gives its end. Not durable yet. On `.full` nothing was
  /// appended and the block can be appended again; on any other error during the write the log must be reopened.
  @discardableResult
  package func append(_ block: inout BlockBuilder) throws(LogError) -> LogPosition {
    try writer.withLock { (writer) throws(LogError) in
      defer { publish(writer) }
      return try writer.append(&block)
    }
  }

  /// Makes everything appended so far durable.
  package func synchronize() throws(LogError) {
    try writer.withLock { (writer) throws(LogError) in try writer.synchronize() }
  }

  /// Synchronises, and gives back the space that was written ahead. Further appends are refused.
  package func close() throws(LogError) {
    try writer.withLock { (writer) throws(LogError) in
      defer { publish(writer) }
      try writer.close()
    }
  }

  private func publish(_ writer: SegmentWriter) {
    published.withLock { published in
      published.end = writer.end
      if let last = published.segments.last, last.firstVersion == writer.end.segment {
        published.segments[published.segments.count - 1].bytes = writer.writtenAhead
      } else {
        published.segments.append(LogSegment(firstVersion: writer.end.segment, bytes: writer.writtenAhead))
      }
    }
  }

  /// Removes the segments all of whose versions are below `version`; never the newest. Gives their number. Each
  /// removal is durable before the next one, so that no loss of power leaves a hole.
  @discardableResult
  package func truncate(before version: Version) throws(LogError) -> Int {
    try truncation.withLock { (_) throws(LogError) in
      var count = 0
      while let segment = oldest(below: version) {
        let path = configuration.path(ofSegment: segment)
        do throws(SystemError) {
          try configuration.fileSystem.unlink(path)
          try configuration.fileSystem.synchronizeDirectory(configuration.directory)
        } catch {
          throw LogError(error, "remove a segment", file: path, version: segment)
        }
        published.withLock { _ = $0.segments.removeFirst() }
        count += 1
      }
      return count
    }
  }

  private func oldest(below version: Version) -> Version? {
    published.withLock { published in
      guard published.segments.count > 1, published.segments[1].firstVersion <= version else { return nil }
      return published.segments[0].firstVersion
    }
  }

  private static func parent(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }
}
