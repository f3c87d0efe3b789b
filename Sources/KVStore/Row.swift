// A row of the tail and of the index: the newest change of a key.
//
// grammar (little-endian)
//   row = checksum u32 | flags u32 (bit 0: tombstone) | version u64 | serverVersion u64 | time u64 |
//         origin: high u64, low u64 | value
//   checksum = low word of XXH3-64 over everything after it, seeded with the XXH3-64 of the key, so that a row that
//   turns up under another key, or an older version of a page, is found out when it is read.

package import KVLog

package struct Row: Sendable, Equatable {
  package var version: Version
  /// The hub's version, 0 for a local change.
  package var serverVersion: Version
  package var time: HybridTime
  package var origin: Identity
  package var isTombstone: Bool

  package static let headerBytes = 48

  init(_ header: CommitHeader, isTombstone: Bool) {
    version = header.version
    serverVersion = header.serverVersion
    time = header.time
    origin = header.origin
    self.isTombstone = isTombstone
  }

  /// Reads the header and checks the whole row against its key.
  @inline(__always)
  init(_ bytes: RawSpan, key: RawSpan) throws(RowError) {
    guard bytes.byteCount >= Row.headerBytes else { throw RowError(key: key.copied()) }
    let expected = bytes.load(UInt32.self, at: 0)
    let rest = bytes.extracting(4..<bytes.byteCount)
    guard UInt32(truncatingIfNeeded: checksum64(rest, seed: checksum64(key))) == expected else {
      throw RowError(key: key.copied())
    }
    self.init(unchecked: bytes)
  }

  /// Reads the header only; the caller has checked the length or is about to copy the row as it is.
  @inline(__always)
  init(unchecked bytes: RawSpan) {
    isTombstone = bytes.load(UInt32.self, at: 4) & 1 != 0
    version = bytes.load(UInt64.self, at: 8)
    serverVersion = bytes.load(UInt64.self, at: 16)
    time = HybridTime(rawValue: bytes.load(UInt64.self, at: 24))
    origin = Identity(high: bytes.load(UInt64.self, at: 32), low: bytes.load(UInt64.self, at: 40))
  }

  /// Writes the row into the space that LMDB reserved for it.
  @inline(__always)
  func write(value: RawSpan, key: RawSpan, into target: inout MutableRawSpan) {
    target.storeBytes(of: (isTombstone ? 1 : 0 as UInt32).littleEndian, toByteOffset: 4, as: UInt32.self)
    target.storeBytes(of: version.littleEndian, toByteOffset: 8, as: UInt64.self)
    target.storeBytes(of: serverVersion.littleEndian, toByteOffset: 16, as: UInt64.self)
    target.storeBytes(of: time.rawValue.littleEndian, toByteOffset: 24, as: UInt64.self)
    target.storeBytes(of: origin.high.littleEndian, toByteOffset: 32, as: UInt64.self)
    target.storeBytes(of: origin.low.littleEndian, toByteOffset: 40, as: UInt64.self)
    unsafe target.withUnsafeMutableBytes { destination in
      unsafe value.withUnsafeBytes { source in
        unsafe UnsafeMutableRawBufferPointer(rebasing: destination[Row.headerBytes...]).copyMemory(from: source)
      }
    }
    let checksum = checksum64(target.bytes.extracting(4..<target.byteCount), seed: checksum64(key))
    target.storeBytes(of: UInt32(truncatingIfNeeded: checksum).littleEndian, toByteOffset: 0, as: UInt32.self)
  }
}

/// A row whose checksum does not fit its bytes.
struct RowError: Error {
  var key: [UInt8]
}
