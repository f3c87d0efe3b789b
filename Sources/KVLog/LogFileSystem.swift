// The narrow seam between the log and the files: all that the log asks of an operating system.
//
// Invariants that the log relies on, and that an implementation must give:
// - A write is complete or throws. What a write that threw has left in the file is unknown.
// - After `synchronizeData` or `synchronizeAll` returned, every earlier write and truncation of that file survives a
//   loss of power. After `synchronizeDirectory`, so do the creations, renames and removals in it.
// - Reads see the writes of this process and of others at once, synchronised or not.

/// Opens, lists, renames and removes files.
package protocol LogFileSystem: Sendable {
  func open(_ path: String, _ mode: LogFileMode) throws(SystemError) -> any LogFile
  /// The names in a directory, in any order.
  func list(_ directory: String) throws(SystemError) -> [String]
  /// Replaces what is at `target`, atomically.
  func rename(_ path: String, to target: String) throws(SystemError)
  func unlink(_ path: String) throws(SystemError)
  func synchronizeDirectory(_ path: String) throws(SystemError)
  /// No error when it exists already.
  func makeDirectory(_ path: String) throws(SystemError)
  /// What the file system that holds the path has left for this user, in bytes; nil when it does not say.
  func freeBytes(_ path: String) -> UInt64?
}

extension LogFileSystem {
  package func freeBytes(_ path: String) -> UInt64? { nil }
}

package enum LogFileMode: Sendable {
  case read
  /// An existing file, to read and write.
  case write
  /// A new, empty file in place of whatever was there, to read and write.
  case create
}

extension LogFile {
  package func willSynchronize(_ range: Range<UInt64>) {}
}

/// An open file; closed when the last reference goes. A file unlinked while open stays readable.
package protocol LogFile: AnyObject, Sendable {
  /// Reads into `range` of `buffer`; fewer bytes than asked for mean the end of the file.
  func read(into buffer: inout [UInt8], _ range: Range<Int>, at offset: UInt64) throws(SystemError) -> Int
  func write(_ bytes: RawSpan, at offset: UInt64) throws(SystemError)
  func size() throws(SystemError) -> UInt64
  func truncate(to size: UInt64) throws(SystemError)
  /// A hint that the bytes will be synchronised at once: what the device takes may be sent there already, without waiting.
  /// Whether that works is for the synchronisation to tell.
  func willSynchronize(_ range: Range<UInt64>)
  /// What is needed to read the data back; the cheapest call that does it.
  func synchronizeData() throws(SystemError)
  /// The data and everything about the file, its size included.
  func synchronizeAll() throws(SystemError)
}
