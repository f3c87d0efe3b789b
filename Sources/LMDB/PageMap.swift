// The pages of a data file where readers look at them: a read-only map of their own, beside liblmdb's.
//
// Invariants:
// - A page is looked at only if the file has it. To touch a page beyond the end of the file would be a signal.
// - A file that outgrows its map gets a larger one. The old one stays for as long as the environment, because entries
//   may be lent from it; each is at least twice as large as the one before, so there are few.

internal import CLMDB
internal import Synchronization

#if canImport(Darwin)
  internal import Darwin
#elseif canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#endif

/// Where pages lie, and how many the file had when somebody last looked.
@safe
struct PageMap: @unchecked Sendable {
  // Sound to send: nobody writes through the map, and it stays for as long as the environment.
  let base: UnsafeRawPointer
  let pageShift: UInt64
  let pageCount: UInt64

  var pageSize: Int { 1 << Int(pageShift) }

  /// Nil when the file did not have the page.
  @inline(__always)
  func start(of page: UInt64) -> UnsafeRawPointer? {
    guard page < pageCount else { return nil }
    return unsafe base + Int(page &<< pageShift)
  }
}

@safe
final class PageMaps: Sendable {
  @safe private struct Map: @unchecked Sendable {
    let address: UnsafeMutableRawPointer
    let byteCount: Int
  }

  private struct Contents {
    var maps: [Map]
    var current: PageMap
  }

  private let file: OpenFile
  private let contents: Mutex<Contents>

  private static let smallestMapBytes = 1 << 20

  /// `pageSize` is a power of two.
  init(_ file: OpenFile, pageSize: Int) throws(LMDBError) {
    self.file = file
    let map = try PageMaps.map(file, try file.byteCount())
    let current = try PageMaps.look(file, map, pageShift: UInt64(pageSize.trailingZeroBitCount))
    contents = Mutex(Contents(maps: [map], current: current))
  }

  deinit {
    let maps = contents.withLock { $0.maps }
    for map in maps { unsafe munmap(map.address, map.byteCount) }
  }

  var current: PageMap { contents.withLock { $0.current } }

  /// The map after another look at the file, which may have grown.
  func refreshed() throws(LMDBError) -> PageMap {
    try contents.withLock { contents throws(LMDBError) in
      let byteCount = try file.byteCount()
      if byteCount > contents.maps[contents.maps.count - 1].byteCount {
        contents.maps.append(try PageMaps.map(file, byteCount))
      }
      contents.current = try PageMaps.look(
        file, contents.maps[contents.maps.count - 1], pageShift: contents.current.pageShift)
      return contents.current
    }
  }

  private static func look(_ file: OpenFile, _ map: Map, pageShift: UInt64) throws(LMDBError) -> PageMap {
    let byteCount = min(try file.byteCount(), map.byteCount)
    return unsafe PageMap(base: map.address, pageShift: pageShift, pageCount: UInt64(byteCount) >> pageShift)
  }

  private static func map(_ file: OpenFile, _ fileBytes: Int) throws(LMDBError) -> Map {
    var byteCount = smallestMapBytes
    while byteCount < fileBytes { byteCount *= 2 }
    return unsafe Map(address: try file.map(byteCount), byteCount: byteCount)
  }
}
