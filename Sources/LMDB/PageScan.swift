// What is left on the pages of a file whose trees cannot be followed any more.
//
// It looks at every page by itself and hands out what looks like entries. Whoever takes them has to know, by a checksum of
// their own, which are whole; and may get the same key several times, because pages that are free hold what was there before.

package enum PageScan {
  private static let usualPageBytes = 4_096

  /// Calls `body` with each entry on each page that can be read as one with entries. Memory does not grow with the file.
  package static func forEachEntry(
    of path: String, _ body: (_ key: RawSpan, _ value: RawSpan) throws -> Void
  ) throws {
    let file = try OpenFile(path, 0)
    let fileBytes = try file.byteCount()
    let pageBytes = (try? DataFile.newestMeta(file).pageSize) ?? usualPageBytes
    var buffer = [UInt8](repeating: 0, count: pageBytes)
    for number in 2..<max(2, UInt64(fileBytes / pageBytes)) {
      guard try file.read(into: &buffer, at: Int(number) * pageBytes) == pageBytes,
        let page = try? Page(buffer, number, path, isLeaf: true)
      else { continue }
      for index in 0..<page.count {
        guard let key = try? page.node(index), let value = try? page.value(index) else { continue }
        if value.flags & FileFormat.valueElsewhere == 0 {
          unsafe try body(buffer.span.bytes.extracting(key), buffer.span.bytes.extracting(value.stored))
        } else if let elsewhere = try valueElsewhere(value, of: page, in: file, pageBytes, fileBytes) {
          let bytes = unsafe elsewhere.span.bytes.extracting(FileFormat.pageHeaderBytes..<elsewhere.count)
          unsafe try body(buffer.span.bytes.extracting(key), bytes)
        }
      }
    }
  }

  /// A value on pages of its own, their header included.
  private static func valueElsewhere(
    _ value: Page.Value, of page: Page, in file: OpenFile, _ pageBytes: Int, _ fileBytes: Int
  ) throws(LMDBError) -> [UInt8]? {
    let first = unsafe page.bytes.span.bytes.little(UInt64.self, at: value.stored.lowerBound)
    guard first < UInt64(fileBytes / pageBytes) else { return nil }
    let start = Int(first) * pageBytes
    guard value.byteCount <= fileBytes - start - FileFormat.pageHeaderBytes else { return nil }
    var bytes = [UInt8](repeating: 0, count: FileFormat.pageHeaderBytes + value.byteCount)
    return try file.read(into: &bytes, at: start) == bytes.count ? bytes : nil
  }
}

extension LMDBEnvironment {
  /// As `verify`, without LMDB and without keeping anybody from writing meanwhile.
  package static func verifyFile(_ path: String) throws(LMDBError) -> LMDBVerification {
    let file = try OpenFile(path, 0)
    return try FileCheck(file, DataFile.newestMeta(file)).run()
  }
}
