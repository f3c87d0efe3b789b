// Reads the blocks of one segment file through a buffer.
//
// Invariants:
// - A block is found only if its checksum, its place and its link to the position before it hold: then its bytes are what
//   its writer wrote there.
// - Nothing that was read is trusted to be still true when it was not a whole block: a writer may be finishing it, so
//   the second look always reads the file again.
// - The buffer holds `windowBytes`, or one block that is larger, or less where there is less to read. A `Block` that
//   still shares it keeps its bytes: the buffer is then copied when it is read into again.

struct SegmentReader {
  /// Why no whole block begins at a place.
  enum Gap: String {
    case fileEnds = "the file ends"
    case noHeader = "no block begins here"
    case cutShort = "the file ends within the block"
    case badChecksum = "the block's checksum differs"
  }

  /// A block that was found whole.
  struct Found {
    var header: BlockHeader
    /// The records, in the buffer until the next block is looked for.
    var records: Range<Int>
    /// Where the block begins in the file.
    var offset: UInt64
    var end: LogPosition
  }

  let path: String
  let header: SegmentHeader
  /// What `findBlock` has found last.
  private(set) var found: Found?
  private let file: any LogFile
  private var window: [UInt8] = []
  private var windowOffset: UInt64 = 0
  private var windowCount = 0

  private static let windowBytes = 256 << 10
  /// While hopping from header to header, so that large blocks are not read for their headers alone.
  private static let hopBytes = 4 << 10
  /// A buffer that one large block has made larger than this is given back.
  private static let keptBytes = 1 << 20

  /// Opens a segment and checks its header.
  init(_ firstVersion: Version, _ configuration: LogConfiguration) throws(LogError) {
    path = configuration.path(ofSegment: firstVersion)
    do {
      file = try configuration.fileSystem.open(path, .read)
    } catch {
      throw LogError(error, "open the segment", file: path, version: firstVersion)
    }
    header = try Self.header(of: file, path: path, name: firstVersion, identity: configuration.identity)
  }

  static func header(
    of file: any LogFile, path: String, name: Version, identity: Identity
  ) throws(LogError) -> SegmentHeader {
    var bytes = [UInt8](repeating: 0, count: SegmentHeader.byteCount)
    let count: Int
    do {
      count = try file.read(into: &bytes, 0..<bytes.count, at: 0)
    } catch {
      throw LogError(error, "read the header", file: path, offset: 0, version: name)
    }
    let span = unsafe bytes.span.bytes.extracting(0..<count)
    return try SegmentHeader(decoding: span, file: path, name: name, identity: identity)
  }

  var start: LogPosition {
    LogPosition(
      segment: header.firstVersion, offset: UInt64(SegmentHeader.byteCount), version: header.firstVersion - 1,
      digest: header.digestBefore)
  }

  func size() throws(LogError) -> UInt64 {
    do { return try file.size() } catch { throw LogError(error, "look at the segment", file: path) }
  }

  /// Makes durable what a writer may have written and not yet synchronised. A file system that cannot be written to
  /// has nothing to make durable.
  func synchronize() throws(LogError) {
    do throws(SystemError) {
      try file.synchronizeData()
    } catch {
      if !error.isReadOnly { throw LogError(error, "synchronise the segment", file: path) }
    }
  }

  // MARK: Blocks

  /// Looks for the block that begins at `position`, which is in `found` then; otherwise says why there is none. Reads
  /// nothing at or beyond `limit`.
  mutating func findBlock(after position: LogPosition, limit: UInt64? = nil) throws(LogError) -> Gap? {
    let isCached = isCached(BlockHeader.byteCount, at: position.offset)
    let gap = try look(at: position, limit: limit)
    guard isCached, gap != nil else { return gap }
    windowCount = 0
    return try look(at: position, limit: limit)
  }

  private mutating func look(at position: LogPosition, limit: UInt64?) throws(LogError) -> Gap? {
    found = nil
    guard try fill(BlockHeader.byteCount, at: position.offset, ahead: Self.windowBytes, limit: limit) else {
      return .fileEnds
    }
    guard let header = headerInWindow(at: position.offset) else { return .noHeader }
    guard try fill(header.blockBytes, at: position.offset, ahead: Self.windowBytes, limit: limit) else {
      return .cutShort
    }
    let start = Int(position.offset - windowOffset)
    guard isWhole(header, at: start, offset: position.offset) else { return .badChecksum }
    // The block is what its writer wrote; now it has to continue what lies before it.
    guard header.firstVersion == position.version &+ 1, header.digestBefore == position.digest,
      header.synchronizedThrough <= position.offset
    else { throw corrupt("the block does not continue the one before it", position) }
    let records = start + BlockHeader.byteCount..<start + BlockHeader.byteCount + header.payloadBytes
    found = Found(
      header: header, records: records, offset: position.offset,
      end: LogPosition(
        segment: position.segment, offset: position.offset + UInt64(header.blockBytes), version: header.lastVersion,
        digest: header.digest))
    return nil
  }

  /// The buffer, lent.
  var bytes: RawSpan {
    @_lifetime(borrow self)
    get {
      let elements = window.span
      return unsafe elements.bytes
    }
  }

  /// What was found, with the buffer that it lies in.
  var block: Block? {
    found.map { found in
      Block(
        firstVersion: found.header.firstVersion, lastVersion: found.header.lastVersion,
        digestBefore: found.header.digestBefore, end: found.end, file: path, offset: found.offset,
        synchronizedThrough: found.header.synchronizedThrough, bytes: window, records: found.records)
    }
  }

  /// Gives the buffer back: nothing is left to be read for now.
  mutating func rest() {
    found = nil
    window = []
    windowCount = 0
  }

  func corrupt(_ reason: String, _ position: LogPosition) -> LogError {
    LogError(.corrupt(reason), "read", file: path, offset: position.offset, version: position.version &+ 1)
  }

  // MARK: Headers alone

  /// The header of the block at `offset`, unverified; `nil` when there is none. For hopping towards a version.
  mutating func blockHeader(at offset: UInt64) throws(LogError) -> BlockHeader? {
    guard try fill(BlockHeader.byteCount, at: offset, ahead: Self.hopBytes, limit: nil) else { return nil }
    return headerInWindow(at: offset)
  }

  // MARK: What lies after the last whole block

  /// What the file holds from `position` on, where no whole block begins.
  struct Remainder {
    /// Written ahead, or nothing: no trace of a block.
    var isZero: Bool
    /// A whole block further on says that the bytes at the position had been durable: they were damaged since.
    var witness: UInt64?
  }

  mutating func remainder(from position: LogPosition) throws(LogError) -> Remainder {
    var result = Remainder(isZero: true, witness: nil)
    windowCount = 0
    let size = try size()
    var offset = position.offset
    while offset < size {
      let count = Int(min(UInt64(Self.windowBytes), size - offset))
      guard try fill(count, at: offset, ahead: count, limit: nil) else { break }
      for place in stride(from: 0, to: count, by: BlockHeader.alignment) where !isZero(place, count) {
        result.isZero = false
        // A candidate that straddles the window moves it; the walk goes on where it was.
        if try isWitness(at: offset + UInt64(place), against: position, size: size) {
          result.witness = offset + UInt64(place)
          return result
        }
        if windowOffset != offset || windowCount < count {
          guard try fill(count, at: offset, ahead: count, limit: nil) else { return result }
        }
      }
      offset += UInt64(count)
    }
    return result
  }

  private func isZero(_ place: Int, _ count: Int) -> Bool {
    let bytes = unsafe window.span.bytes
    let start = place
    guard start + 8 <= count else { return (start..<count).allSatisfy { window[$0] == 0 } }
    return bytes.load(UInt64.self, at: start) == 0
  }

  private mutating func isWitness(
    at offset: UInt64, against position: LogPosition, size: UInt64
  ) throws(LogError) -> Bool {
    let place = Int(offset - windowOffset)
    guard windowCount - place < 4 || magic(at: place) == BlockHeader.magic else { return false }
    guard try fill(BlockHeader.byteCount, at: offset, ahead: Self.hopBytes, limit: nil),
      let header = headerInWindow(at: offset), header.synchronizedThrough > position.offset,
      header.synchronizedThrough <= offset, UInt64(header.blockBytes) <= size - offset,
      try fill(header.blockBytes, at: offset, ahead: header.blockBytes, limit: nil)
    else { return false }
    return isWhole(header, at: Int(offset - windowOffset), offset: offset)
  }

  private func magic(at place: Int) -> UInt32 {
    let bytes = unsafe window.span.bytes
    return bytes.load(UInt32.self, at: place)
  }

  // MARK: The buffer

  private func isCached(_ count: Int, at offset: UInt64) -> Bool {
    offset >= windowOffset && offset - windowOffset + UInt64(count) <= UInt64(windowCount)
  }

  private func headerInWindow(at offset: UInt64) -> BlockHeader? {
    let bytes = unsafe window.span.bytes.extracting(0..<windowCount)
    return BlockHeader(at: Int(offset - windowOffset), in: bytes)
  }

  private func isWhole(_ header: BlockHeader, at start: Int, offset: UInt64) -> Bool {
    let block = unsafe window.span.bytes.extracting(start..<start + header.blockBytes)
    let place = BlockHeader.place(identity: self.header.identity, segment: self.header.firstVersion, offset: offset)
    return BlockHeader.checksum(of: block, place: place) == header.checksum
  }

  /// Makes the window hold `count` bytes at `offset`, reading `ahead` bytes if it has to read at all. False when the
  /// file (or the limit) ends before.
  private mutating func fill(_ count: Int, at offset: UInt64, ahead: Int, limit: UInt64?) throws(LogError) -> Bool {
    if isCached(count, at: offset) { return true }
    var wanted = max(count, ahead)
    if let limit { wanted = Int(min(UInt64(wanted), limit > offset ? limit - offset : 0)) }
    guard wanted >= count else { return false }
    if count > Self.windowBytes {
      // A damaged length must not make us allocate what the file does not have.
      let size = try size()
      guard offset < size, UInt64(count) <= size - offset else { return false }
    }
    if window.count < wanted || (window.count > Self.keptBytes && wanted <= Self.windowBytes) {
      window = [UInt8](repeating: 0, count: max(wanted, Self.hopBytes))
    }
    windowCount = 0
    windowOffset = offset
    do {
      windowCount = try file.read(into: &window, 0..<wanted, at: offset)
    } catch {
      throw LogError(error, "read the segment", file: path, offset: offset)
    }
    return windowCount >= count
  }
}
