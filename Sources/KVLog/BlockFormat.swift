// The header of a block: one group commit, made durable by one synchronisation.
//
//     block  = header payload padding                             starts at a multiple of 8 in its file
//     header = magic u32 "KVBL"                                   offset  0
//              payloadLength u32                                          4
//              firstVersion u64                                           8
//              lastVersion u64        firstVersion - 1: no commit        16
//              synchronizedThrough u64                                   24
//              digestBefore 16                                           32
//              digest 16                                                 48
//              checksum u64                                              64
//     payload = records (Record.swift), `payloadLength` bytes            72
//     padding = zeros up to a multiple of 8
//
//     checksum = XXH3-64(payload padding, seed: XXH3-64(header before the checksum, seed: place))
//     place    = low word of the store's identity ^ first version of the segment ^ offset of the block
//
// Why `place`: a block that a file system or a copy put anywhere but where it was written does not check.
// Why `synchronizedThrough`: the bytes of this file before that offset were durable when the block was written. A bad
// block below the mark of a later good one is damage; above every mark it was never finished (a torn tail). It is an
// offset and not a version, because a block without commits (acknowledgements, cursors) has no version of its own.
// Why `digest`, which the commits give: a reader that has found the checksum right need not hash each commit once more to
// know where the chain stands behind them. Who opens or verifies a log does.
//
// All integers little-endian.

/// The header of a block, as read; nothing is checked until `isPlausible` and the checksum are.
struct BlockHeader: Equatable {
  var payloadBytes: Int
  var firstVersion: Version
  var lastVersion: Version
  var synchronizedThrough: UInt64
  var digestBefore: Digest
  /// After the last commit of the block.
  var digest: Digest
  var checksum: UInt64

  static let byteCount = 72
  static let magic: UInt32 = 0x4C42_564B
  static let checksumOffset = 64
  static let alignment = 8

  /// What a block with so many bytes of records takes in its file.
  static func blockBytes(payloadBytes: Int) -> Int {
    (byteCount + payloadBytes + alignment - 1) & ~(alignment - 1)
  }

  var blockBytes: Int { Self.blockBytes(payloadBytes: payloadBytes) }

  /// The header at `offset` of `bytes`, or `nil` when there is none: no magic, or lengths and versions that no writer
  /// writes. It says nothing about the payload.
  init?(at offset: Int, in bytes: RawSpan) {
    guard bytes.byteCount - offset >= Self.byteCount, bytes.load(UInt32.self, at: offset) == Self.magic else {
      return nil
    }
    payloadBytes = Int(bytes.load(UInt32.self, at: offset + 4))
    firstVersion = bytes.load(UInt64.self, at: offset + 8)
    lastVersion = bytes.load(UInt64.self, at: offset + 16)
    synchronizedThrough = bytes.load(UInt64.self, at: offset + 24)
    digestBefore = bytes.loadDigest(at: offset + 32)
    digest = bytes.loadDigest(at: offset + 48)
    checksum = bytes.load(UInt64.self, at: offset + Self.checksumOffset)
    guard payloadBytes > 0, Self.blockBytes(payloadBytes: payloadBytes) <= LogLimits.maximumBlockBytes,
      firstVersion > 0, lastVersion >= firstVersion - 1,
      lastVersion - (firstVersion - 1) <= UInt64(payloadBytes)
    else { return nil }
  }

  init(
    payloadBytes: Int, firstVersion: Version, lastVersion: Version, synchronizedThrough: UInt64, digestBefore: Digest,
    digest: Digest
  ) {
    self.payloadBytes = payloadBytes
    self.firstVersion = firstVersion
    self.lastVersion = lastVersion
    self.synchronizedThrough = synchronizedThrough
    self.digestBefore = digestBefore
    self.digest = digest
    checksum = 0
  }

  /// Writes all but the checksum to the first bytes of `block`, then the checksum over everything.
  static func seal(_ block: inout [UInt8], bytes: Int, header: BlockHeader, place: UInt64) {
    unsafe block.withUnsafeMutableBytes { buffer in
      let base = buffer.baseAddress!
      unsafe base.store(littleEndian: magic, at: 0)
      unsafe base.store(littleEndian: UInt32(header.payloadBytes), at: 4)
      unsafe base.store(littleEndian: header.firstVersion, at: 8)
      unsafe base.store(littleEndian: header.lastVersion, at: 16)
      unsafe base.store(littleEndian: header.synchronizedThrough, at: 24)
      unsafe base.store(header.digestBefore, at: 32)
      unsafe base.store(header.digest, at: 48)
    }
    let sum = unsafe checksum(of: block.span.bytes.extracting(0..<bytes), place: place)
    unsafe block.withUnsafeMutableBytes { unsafe $0.baseAddress!.store(littleEndian: sum, at: checksumOffset) }
  }

  /// The checksum of a whole block, padding included, at `place`.
  static func checksum(of block: RawSpan, place: UInt64) -> UInt64 {
    let header = checksum64(block.extracting(0..<checksumOffset), seed: place)
    return checksum64(block.extracting(byteCount..<block.byteCount), seed: header)
  }

  static func place(identity: Identity, segment: Version, offset: UInt64) -> UInt64 {
    identity.low ^ segment ^ offset
  }
}
