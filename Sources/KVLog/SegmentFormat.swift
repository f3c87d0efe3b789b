// The header of a segment file, and the names of segment files.
//
//     file    = header *block zeros                               zeros: written ahead, only in the newest segment
//     header  = magic 8 "KVSYNLOG"                                offset   0
//               format u32 = 1                                             8
//               headerBytes u32 = 128                                     12
//               identity 16                                               16
//               firstVersion u64                                          32
//               digestBefore 16                                           40
//               previousSegment u64       first version of the file       56
//                                         before; 0 for the first
//               zeros                                                     64
//               checksum u64 = XXH3-64 of the 120 bytes before           120
//     name    = firstVersion, 20 decimal digits, ".kvlog"
//
// All integers little-endian; names sort as versions do. `previousSegment` lets an open see from names and headers
// alone that no file in the middle is missing.

struct SegmentHeader: Equatable {
  var identity: Identity
  var firstVersion: Version
  var digestBefore: Digest
  var previousSegment: Version

  static let byteCount = 128
  static let magic: UInt64 = 0x474F_4C4E_5953_564B
  static let format: UInt32 = 1
  static let checksumOffset = 120

  var encoded: [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(littleEndian: Self.magic)
    bytes.append(littleEndian: Self.format)
    bytes.append(littleEndian: UInt32(Self.byteCount))
    bytes.append(identity)
    bytes.append(littleEndian: firstVersion)
    bytes.append(digestBefore)
    bytes.append(littleEndian: previousSegment)
    bytes += [UInt8](repeating: 0, count: Self.checksumOffset - bytes.count)
    unsafe bytes.append(littleEndian: checksum64(bytes.span.bytes))
    return bytes
  }

  init(identity: Identity, firstVersion: Version, digestBefore: Digest, previousSegment: Version) {
    self.identity = identity
    self.firstVersion = firstVersion
    self.digestBefore = digestBefore
    self.previousSegment = previousSegment
  }

  /// Checks in the order in which a reader wants to be told: is it ours, can this release read it, is it whole, is it
  /// this store's, is it the file its name says.
  init(decoding bytes: RawSpan, file: String, name: Version, identity: Identity) throws(LogError) {
    guard bytes.byteCount >= Self.byteCount else {
      throw LogError(.corrupt("the file is shorter than a header"), "read", file: file, offset: 0, version: name)
    }
    guard bytes.load(UInt64.self, at: 0) == Self.magic else {
      throw LogError(.foreign, "read", file: file, offset: 0, version: name)
    }
    let format = bytes.load(UInt32.self, at: 8)
    let checks = bytes.load(UInt64.self, at: Self.checksumOffset)
    guard checksum64(bytes.extracting(0..<Self.checksumOffset)) == checks || format > Self.format else {
      throw LogError(.corrupt("the header's checksum differs"), "read", file: file, offset: 0, version: name)
    }
    guard format == Self.format else {
      throw LogError(
        .newerFormat(found: format, supported: Self.format), "read", file: file, offset: 8, version: name)
    }
    self.identity = bytes.loadIdentity(at: 16)
    firstVersion = bytes.load(UInt64.self, at: 32)
    digestBefore = bytes.loadDigest(at: 40)
    previousSegment = bytes.load(UInt64.self, at: 56)
    guard self.identity == identity else {
      throw LogError(
        .wrongStore(found: self.identity, expected: identity), "read", file: file, offset: 16, version: name)
    }
    guard firstVersion == name, firstVersion > 0, previousSegment < firstVersion else {
      throw LogError(.corrupt("the header is another file's"), "read", file: file, offset: 32, version: name)
    }
  }
}

enum SegmentName {
  static let suffix = ".kvlog"
  /// A segment that is being made; renamed once it is whole.
  static let unfinishedSuffix = ".kvlog.new"
  private static let digits = 20

  static func file(_ firstVersion: Version) -> String { padded(firstVersion) + suffix }
  static func unfinished(_ firstVersion: Version) -> String { padded(firstVersion) + unfinishedSuffix }

  /// A file of zeros that will become the next segment of the process that makes it.
  static func spare(_ process: Int32, _ number: UInt64) -> String { "spare-\(process)-\(number)\(unfinishedSuffix)" }

  /// The first version of the segment of that name; `nil` for any other name.
  static func parse(_ name: String) -> Version? {
    guard name.utf8.count == digits + suffix.utf8.count, name.hasSuffix(suffix),
      name.utf8.prefix(digits).allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
    else { return nil }
    return Version(name.prefix(digits))
  }

  static func isUnfinished(_ name: String) -> Bool { name.hasSuffix(unfinishedSuffix) }

  private static func padded(_ version: Version) -> String {
    let text = String(version)
    return String(repeating: "0", count: digits - text.count) + text
  }
}
