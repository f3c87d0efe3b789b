// A row of the tail and of the index: the newest change of a key.
//
// grammar (little-endian)
//   row   = checksum u32 | shape u8 | version | serverVersion | time u64 | origin 16? | valueChecksum u32? | value
//   shape = bit 0: tombstone · bit 1: the origin is stated · bits 2–4: bytes of the version, less one ·
//           bits 5–7: bytes of the server version, 0 to 6, or 7 for eight
//   An origin that is not stated is the home of the tables (see `Tables`).
//   checksum = low word of XXH3-64 over everything after it, seeded with the XXH3-64 of the key, so that a row that
//   turns up under another key, or an older version of a page, is found out when it is read.
//   A value of more than 1,024 bytes has a checksum of its own, the low word of its XXH3-64, and the row's covers that
//   in its place: who wants the key or the version does not have to read a value of megabytes to trust them. Its seed
//   is the complement of the other: such a row cut off after its header is no row of a value of four bytes.
//
// The two versions take as many bytes as they need: a local change of one of the first sixteen million commits has a
// header of sixteen bytes. The smaller the rows, the fewer pages, and fewer misses of the cache, a read costs.

internal import CXXHash
package import KVLog

package struct Row: Sendable, Equatable {
  package var version: Version
  /// The hub's version, 0 for a local change.
  package var serverVersion: Version
  package var time: HybridTime
  package var origin: Identity
  package var isTombstone: Bool

  init(_ header: CommitHeader, isTombstone: Bool) {
    version = header.version
    serverVersion = header.serverVersion
    time = header.time
    origin = header.origin
    self.isTombstone = isTombstone
  }

  /// Reads the header and checks it against its key; the value is checked when it is asked for.
  @inline(__always)
  init(_ bytes: RawSpan, key: RawSpan, home: Identity) throws(StoreError) {
    let shape = try Row.check(bytes, key: key)
    // Each of the versions is followed by the eight bytes of the time, so a whole word of it can be read.
    let versionMask = UInt64.max >> UInt64(64 - 8 * shape.versionBytes)
    version = bytes.load(UInt64.self, at: Shape.versionOffset) & versionMask
    let serverMask = shape.serverVersionBytes == 0 ? 0 : UInt64.max >> UInt64(64 - 8 * shape.serverVersionBytes)
    serverVersion = bytes.load(UInt64.self, at: shape.serverVersionOffset) & serverMask
    time = HybridTime(rawValue: bytes.load(UInt64.self, at: shape.timeOffset))
    origin = shape.statesOrigin ? bytes.loadIdentity(at: shape.originOffset) : home
    isTombstone = shape.isTombstone
  }

  /// Whether the key has a value; key and header are checked.
  @inline(__always)
  static func isLive(_ bytes: RawSpan, key: RawSpan) throws(StoreError) -> Bool {
    try !check(bytes, key: key).isTombstone
  }

  /// As `isLive`, for counting and where a damaged row must not stand in the way: nothing is checked.
  static func isLive(unchecked bytes: RawSpan) -> Bool {
    bytes.byteCount >= Shape.smallestHeaderBytes && !Shape(bytes.load(UInt8.self, at: Shape.offset)).isTombstone
  }

  /// The value, with everything checked; nil of a tombstone. Nothing else of the header is read.
  @inline(__always)
  @_lifetime(copy bytes)
  static func liveValue(_ bytes: RawSpan, key: RawSpan) throws(StoreError) -> RawSpan? {
    let shape = try check(bytes, key: key)
    return shape.isTombstone ? nil : try value(bytes, shape, key)
  }

  /// The value of a row that was read before, now checked too; empty of a tombstone.
  @inline(__always)
  @_lifetime(copy bytes)
  static func value(_ bytes: RawSpan, key: RawSpan) throws(StoreError) -> RawSpan {
    try value(bytes, Shape(bytes.load(UInt8.self, at: Shape.offset)), key)
  }

  @inline(__always)
  @_lifetime(copy bytes)
  private static func value(_ bytes: RawSpan, _ shape: Shape, _ key: RawSpan) throws(StoreError) -> RawSpan {
    let offset = shape.headerBytes
    guard bytes.byteCount - offset > largestCoveredValue else { return bytes.extracting(offset..<bytes.byteCount) }
    let value = bytes.extracting(offset + valueChecksumBytes..<bytes.byteCount)
    guard xxh3(value) == bytes.load(UInt32.self, at: offset) else { throw damage(key) }
    return value
  }

  @inline(__always)
  private static func check(_ bytes: RawSpan, key: RawSpan) throws(StoreError) -> Shape {
    guard bytes.byteCount >= Shape.smallestHeaderBytes else { throw damage(key) }
    let shape = Shape(bytes.load(UInt8.self, at: Shape.offset))
    let rest = bytes.byteCount - shape.headerBytes
    guard rest >= 0 else { throw damage(key) }
    let isLong = rest > largestCoveredValue
    let end = isLong ? shape.headerBytes + valueChecksumBytes : bytes.byteCount
    guard
      checksum(bytes.extracting(Shape.offset..<end), key: key, isLong: isLong) == bytes.load(UInt32.self, at: 0)
    else { throw damage(key) }
    return shape
  }

  /// The longest value that the row's checksum covers itself.
  private static let largestCoveredValue = 1_024
  private static let valueChecksumBytes = 4
}

// MARK: Writing

extension Row {
  /// What the row takes in all.
  @inline(__always)
  func byteCount(valueBytes: Int, home: Identity) -> Int {
    shape(home: home).headerBytes + (valueBytes > Row.largestCoveredValue ? Row.valueChecksumBytes : 0) + valueBytes
  }

  /// Writes the row into the space that LMDB reserved for it.
  @inline(__always)
  func write(value: RawSpan, key: RawSpan, home: Identity, into target: inout MutableRawSpan) {
    let shape = shape(home: home)
    target.storeBytes(of: shape.rawValue, toByteOffset: Shape.offset, as: UInt8.self)
    // In this order: each overwrites what the word before it has too much.
    target.storeBytes(of: version.littleEndian, toByteOffset: Shape.versionOffset, as: UInt64.self)
    target.storeBytes(of: serverVersion.littleEndian, toByteOffset: shape.serverVersionOffset, as: UInt64.self)
    target.storeBytes(of: time.rawValue.littleEndian, toByteOffset: shape.timeOffset, as: UInt64.self)
    if shape.statesOrigin {
      target.storeBytes(of: origin.high.bigEndian, toByteOffset: shape.originOffset, as: UInt64.self)
      target.storeBytes(of: origin.low.bigEndian, toByteOffset: shape.originOffset + 8, as: UInt64.self)
    }
    var offset = shape.headerBytes
    var coveredEnd = target.byteCount
    let isLong = value.byteCount > Row.largestCoveredValue
    if isLong {
      target.storeBytes(of: Row.xxh3(value).littleEndian, toByteOffset: offset, as: UInt32.self)
      offset += Row.valueChecksumBytes
      coveredEnd = offset
    }
    unsafe target.withUnsafeMutableBytes { destination in
      unsafe value.withUnsafeBytes { source in
        unsafe UnsafeMutableRawBufferPointer(rebasing: destination[offset...]).copyMemory(from: source)
      }
    }
    let checksum = Row.checksum(
      target.bytes.extracting(Shape.offset..<coveredEnd), key: key, isLong: isLong)
    target.storeBytes(of: checksum.littleEndian, toByteOffset: 0, as: UInt32.self)
  }

  @inline(__always)
  private func shape(home: Identity) -> Shape {
    Shape(
      version: version, serverVersion: serverVersion, statesOrigin: origin != home, isTombstone: isTombstone)
  }
}

/// The byte that says where the parts of a row lie.
private struct Shape {
  let rawValue: UInt8

  static let offset = 4
  static let versionOffset = 5
  /// With a version of one byte, no server version and the home as its origin.
  static let smallestHeaderBytes = 14

  @inline(__always)
  init(_ rawValue: UInt8) { self.rawValue = rawValue }

  @inline(__always)
  init(version: Version, serverVersion: Version, statesOrigin: Bool, isTombstone: Bool) {
    let versionBytes = UInt8(truncatingIfNeeded: max(1, (71 - version.leadingZeroBitCount) / 8))
    let serverVersionBytes = UInt8(truncatingIfNeeded: (71 - serverVersion.leadingZeroBitCount) / 8)
    rawValue =
      (isTombstone ? 1 : 0) | (statesOrigin ? 2 : 0) | (versionBytes - 1) << 2 | min(serverVersionBytes, 7) << 5
  }

  var isTombstone: Bool { rawValue & 1 != 0 }
  var statesOrigin: Bool { rawValue & 2 != 0 }
  var versionBytes: Int { Int(rawValue >> 2 & 7) + 1 }
  var serverVersionBytes: Int {
    let bytes = Int(rawValue >> 5)
    return bytes == 7 ? 8 : bytes
  }
  var serverVersionOffset: Int { Shape.versionOffset + versionBytes }
  var timeOffset: Int { serverVersionOffset + serverVersionBytes }
  var originOffset: Int { timeOffset + 8 }
  var headerBytes: Int { originOffset + (statesOrigin ? 16 : 0) }
}

// MARK: Checksums

extension Row {
  @inline(__always)
  private static func checksum(_ bytes: RawSpan, key: RawSpan, isLong: Bool) -> UInt32 {
    let seed = hash(key, seed: 0)
    return UInt32(truncatingIfNeeded: hash(bytes, seed: isLong ? ~seed : seed))
  }

  @inline(__always)
  private static func xxh3(_ bytes: RawSpan) -> UInt32 { UInt32(truncatingIfNeeded: hash(bytes, seed: 0)) }

  /// XXH3-64. Short inputs are hashed in place: beside the work on a hundred bytes, the call would count.
  @inline(__always)
  private static func hash(_ bytes: RawSpan, seed: UInt64) -> UInt64 {
    unsafe bytes.withUnsafeBytes { bytes in
      if bytes.count <= 240 { return unsafe XXH_INLINE_XXH3_64bits_withSeed(bytes.baseAddress, bytes.count, seed) }
      return unsafe XXH3_64bits_withSeed(bytes.baseAddress, bytes.count, seed)
    }
  }

  @inline(never)
  static func damage(_ key: RawSpan) -> StoreError {
    let key = String(decoding: key.copied().prefix(64), as: UTF8.self)
    return StoreError(
      .corrupt,
      "the row of key \"\(key)\" fails its checksum. Run `kvsync verify`, and restore from a backup or the hub.")
  }
}
