// Blocks that were just written, in mapped memory: their bytes are in the page cache, and are used from there in any order.
//
// Invariants:
// - Only whole blocks below the end of the log are mapped, which nobody changes and nobody cuts off.
// - The mapping ends with the object, and no span of it outlives that.

import Foundation

/// Where the records of one block lie.
package struct BlockRecords: Sendable {
  let segment: Version
  let range: Range<UInt64>

  /// Of the block that `builder` has, and that the log has appended up to `end`.
  package init(of builder: borrowing BlockBuilder, appendedTo end: LogPosition) {
    segment = end.segment
    let start = end.offset - UInt64(builder.blockBytes) + UInt64(BlockHeader.byteCount)
    range = start..<start + UInt64(builder.byteCount)
  }

  package var byteCount: Int { range.count }
}

@safe
package final class MappedBlocks {
  private let base: UnsafeMutableRawPointer
  private let byteCount: Int
  /// Where the records of each block lie in the bytes.
  package private(set) var ranges: [Range<Int>] = []

  /// Blocks that follow one another in a segment are mapped as one.
  package init(_ blocks: some Sequence<BlockRecords>, of configuration: LogConfiguration) throws(LogError) {
    let page = UInt64(sysconf(Int32(_SC_PAGESIZE)))
    var parts: [(segment: Version, range: Range<UInt64>, start: Int)] = []
    var total = 0
    for block in blocks {
      let start = block.range.lowerBound / page * page
      let end = (block.range.upperBound + page - 1) / page * page
      if let last = parts.last, last.segment == block.segment,
        last.range.lowerBound...last.range.upperBound ~= start
      {
        total += Int(max(end, last.range.upperBound) - last.range.upperBound)
        parts[parts.count - 1].range = last.range.lowerBound..<max(end, last.range.upperBound)
      } else {
        parts.append((block.segment, start..<end, total))
        total += Int(end - start)
      }
      let part = parts[parts.count - 1]
      let offset = part.start + Int(block.range.lowerBound - part.range.lowerBound)
      ranges.append(offset..<offset + block.byteCount)
    }
    byteCount = total
    let reserved = unsafe mmap(nil, max(total, 1), PROT_NONE, MAP_PRIVATE | MAP_ANON, -1, 0)
    guard let reserved = unsafe reserved, unsafe reserved != MAP_FAILED else {
      throw LogError(SystemError(code: errno), "map the log", file: configuration.directory)
    }
    unsafe base = reserved
    for part in parts { try map(part.segment, part.range, at: part.start, configuration) }
  }

  deinit { unsafe munmap(base, max(byteCount, 1)) }

  private func map(
    _ segment: Version, _ range: Range<UInt64>, at start: Int, _ configuration: LogConfiguration
  ) throws(LogError) {
    let path = configuration.path(ofSegment: segment)
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw LogError(SystemError(code: errno), "open the segment", file: path) }
    defer { close(descriptor) }
    #if canImport(Glibc)
      let flags = MAP_SHARED | MAP_FIXED | MAP_POPULATE
    #else
      let flags = MAP_SHARED | MAP_FIXED
    #endif
    let mapped = unsafe mmap(base + start, range.count, PROT_READ, flags, descriptor, off_t(range.lowerBound))
    guard unsafe mapped != MAP_FAILED else { throw LogError(SystemError(code: errno), "map the segment", file: path) }
  }

  package func withBytes<Result>(_ body: (RawSpan) throws -> Result) rethrows -> Result {
    defer { withExtendedLifetime(self) {} }
    return unsafe try body(RawSpan(_unsafeStart: UnsafeRawPointer(base), byteCount: byteCount))
  }
}
