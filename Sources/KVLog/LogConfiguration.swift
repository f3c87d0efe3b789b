// Where a log lives, whose it is, and how it grows.

package struct LogConfiguration: Sendable {
  package var directory: String
  /// The store's; every file of the log names it.
  package var identity: Identity
  package var fileSystem: any LogFileSystem

  /// A segment is sealed before it would grow beyond this. Truncation frees whole segments, so it is also the grain
  /// in which disk space comes back. A larger block gets a segment of its own size.
  package var segmentBytes: Int = 64 << 20
  /// Zeros are written ahead of the end of the log, first by this much: a small store stays small.
  package var smallestPrewriteBytes: Int = 64 << 10
  /// Then by twice as much each time, up to this: a busy store pays for growing a file once in many commits.
  package var largestPrewriteBytes: Int = LogLimits.largestStepBytes

  /// A segment that has this share of `segmentBytes` and grows by the largest steps has the file of the next one prepared
  /// by whoever has the time, so that no block waits for zeros to be written.
  package var preparedShare: Int = 4
  /// What is written and synchronised at a time while a segment is prepared, so that others get at the disk in between.
  package var preparedStepBytes: Int = 1 << 20

  package init(directory: String, identity: Identity, fileSystem: any LogFileSystem = PosixFileSystem()) {
    self.directory = directory
    self.identity = identity
    self.fileSystem = fileSystem
  }

  func path(_ name: String) -> String { directory + "/" + name }
  package func path(ofSegment firstVersion: Version) -> String { path(SegmentName.file(firstVersion)) }
}
