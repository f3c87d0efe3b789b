// The segment files of a log, by their names and headers.
//
// Invariants:
// - Sorted by first version; each header names the file before it, so a file missing in the middle is found without
//   reading any block.
// - A segment gets its name only when it is whole (written under another name, synchronised, renamed). A file of the
//   right name with nothing in it was left by a file system that broke that order; as the newest one it counts as
//   not there, anywhere else it is damage.

/// A segment of the log, for those who ask how large the log is.
package struct LogSegment: Hashable, Sendable {
  package let firstVersion: Version
  /// The size of the file, with what was written ahead.
  package internal(set) var bytes: UInt64
}

package enum SegmentDirectory {
  /// Whether the log gives its files such names, be they finished or not.
  package static func isName(_ name: String) -> Bool {
    SegmentName.parse(name) != nil || SegmentName.isUnfinished(name)
  }

  /// First versions of the segments, by their names alone.
  static func names(_ configuration: LogConfiguration) throws(LogError) -> [Version] {
    do {
      return try configuration.fileSystem.list(configuration.directory).compactMap(SegmentName.parse).sorted()
    } catch {
      throw LogError(error, "list the log's directory", file: configuration.directory)
    }
  }

  /// The segments, each header checked and linked to the one before. A newest file with nothing in it is left out.
  package static func segments(_ configuration: LogConfiguration) throws(LogError) -> [LogSegment] {
    var attempts = 0
    while true {
      do throws(LogError) {
        return try look(configuration)
      } catch {
        // The oldest may go, truncated by another process, between the list and the look.
        guard case .system(let code) = error.kind, SystemError(code: code).isMissing, attempts < 100 else {
          throw error
        }
        attempts += 1
      }
    }
  }

  private static func look(_ configuration: LogConfiguration) throws(LogError) -> [LogSegment] {
    var segments: [LogSegment] = []
    let names = try names(configuration)
    for (index, name) in names.enumerated() {
      let path = configuration.path(ofSegment: name)
      let file: any LogFile
      let size: UInt64
      do {
        file = try configuration.fileSystem.open(path, .read)
        size = try file.size()
      } catch {
        // Truncated since the names were read, and with it all that lie before it.
        if error.isMissing, try Self.names(configuration).first ?? 0 > name {
          segments = []
          continue
        }
        throw LogError(error, "open the segment", file: path, version: name)
      }
      if index == names.count - 1, index > 0, try isHollow(file, path: path, size: size) { break }
      let header = try SegmentReader.header(of: file, path: path, name: name, identity: configuration.identity)
      if let last = segments.last, header.previousSegment != last.firstVersion {
        throw LogError(
          .corrupt("the segment file \(SegmentName.file(header.previousSegment)) before it is missing"), "open",
          file: path, offset: 56, version: name)
      }
      segments.append(LogSegment(firstVersion: name, bytes: size))
    }
    return segments
  }

  /// Shorter than a header, or nothing but zeros.
  static func isHollow(_ file: any LogFile, path: String, size: UInt64) throws(LogError) -> Bool {
    guard size >= UInt64(SegmentHeader.byteCount) else { return true }
    var bytes = [UInt8](repeating: 0, count: 64 << 10)
    var offset: UInt64 = 0
    while offset < size {
      let count: Int
      do {
        count = try file.read(into: &bytes, 0..<bytes.count, at: offset)
      } catch {
        throw LogError(error, "read the segment", file: path, offset: offset)
      }
      guard count > 0 else { break }
      guard bytes[..<count].allSatisfy({ $0 == 0 }) else { return false }
      offset += UInt64(count)
    }
    return true
  }
}
