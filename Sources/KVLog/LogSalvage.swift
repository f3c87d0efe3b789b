// What can still be read of a damaged log.

package enum LogSalvage {
  /// The versions whose blocks are whole, in order. In each file reading ends at the first block that is not.
  package static func versions(_ configuration: LogConfiguration) throws(LogError) -> [ClosedRange<Version>] {
    var ranges: [ClosedRange<Version>] = []
    for name in try SegmentDirectory.names(configuration) {
      guard let last = lastVersion(of: name, configuration), last >= name else { continue }
      if let before = ranges.last, before.upperBound &+ 1 == name {
        ranges[ranges.count - 1] = before.lowerBound...last
      } else {
        ranges.append(name...last)
      }
    }
    return ranges
  }

  private static func lastVersion(of name: Version, _ configuration: LogConfiguration) -> Version? {
    guard var segment = try? SegmentReader(name, configuration) else { return nil }
    var position = segment.start
    do throws(LogError) {
      while try segment.findBlock(after: position) == nil, let found = segment.found { position = found.end }
    } catch {
      // Damage: reading of this file ends here.
    }
    return position.version
  }
}
