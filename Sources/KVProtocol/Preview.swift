// What a feed would bring, without bringing it: counts, and on request which keys it would change.
//
//     previewRequest = after u64 | wantsKeys u8 | isSnapshot u8 | zero 2 | interval, as in a coverage, of a snapshot
//     preview        = end (u16 count | bytes) | through u64 | head u64 | commits u64 | changes u64 | bytes u64 | segments u32 | count u32 | *key
//     key            = hash 16 | isDeletion u8 | key (u16 count | key)         hash: XXH3-128 of the value; of nothing
//                                                                              for a deletion
//
// Of a snapshot, a preview covers the rows of the interval up to `end` (nothing: all of it), and `through` is the version that
// they were read at.
//
// Any other covers the hub's versions (after, through] without the replica's own commits; the next one begins where it
// ends, until `through` is the head. A key is listed with the newest change of it that the hub has, and only by the
// preview that covers that one: over a whole feed each key comes once.

package import KVLog

package struct PreviewRequest: Hashable, Sendable {
  package var after: Version
  package var wantsKeys: Bool
  /// nil: of the feed.
  package var interval: KeyInterval?

  package init(after: Version, wantsKeys: Bool, interval: KeyInterval? = nil) {
    self.after = after
    self.wantsKeys = wantsKeys
    self.interval = interval
  }
}

package struct Preview: Hashable, Sendable {
  package struct Key: Hashable, Sendable {
    package var key: [UInt8]
    package var hash: Digest
    package var isDeletion: Bool

    package init(key: [UInt8], hash: Digest, isDeletion: Bool) {
      self.key = key
      self.hash = hash
      self.isDeletion = isDeletion
    }
  }

  /// Where a snapshot goes on; nil: that was all.
  package var end: [UInt8]?
  package var through: Version
  /// The hub's newest version when it was made.
  package var head: Version
  package var commits = 0
  package var changes = 0
  /// Key and value bytes.
  package var bytes = 0
  /// Feeds that carry commits.
  package var segments = 0
  package var keys: [Key] = []

  package init(through: Version, head: Version) {
    self.through = through
    self.head = head
  }
}

extension PreviewRequest {
  func encode(to bytes: inout [UInt8]) {
    bytes.append(littleEndian: after)
    bytes.append(littleEndian: UInt32(wantsKeys ? 1 : 0) | (interval == nil ? 0 : 0x100))
    interval?.encode(to: &bytes)
  }

  init(decoding bytes: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    after = try reader.read(UInt64.self, from: bytes)
    let flag = try reader.read(UInt32.self, from: bytes)
    guard flag & ~0x101 == 0 else { throw LogFormatError(.badValue, at: reader.offset - 4) }
    wantsKeys = flag & 1 == 1
    if flag & 0x100 != 0 { interval = try KeyInterval(from: &reader, in: bytes) }
    try reader.end(of: bytes)
  }
}

extension Preview {
  func encode(to bytes: inout [UInt8]) {
    bytes.append(littleEndian: UInt16(end?.count ?? 0))
    bytes.append(contentsOf: end ?? [])
    for field in [through, head, UInt64(commits), UInt64(changes), UInt64(self.bytes)] {
      bytes.append(littleEndian: field)
    }
    bytes.append(littleEndian: UInt32(segments))
    bytes.append(littleEndian: UInt32(keys.count))
    for key in keys {
      bytes.append(key.hash)
      bytes.append(key.isDeletion ? 1 : 0)
      bytes.append(littleEndian: UInt16(key.key.count))
      bytes.append(contentsOf: key.key)
    }
  }

  init(decoding bytes: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    let end = try reader.counted(UInt16.self, atMost: LogLimits.maximumKeyBytes + 1, from: bytes)
    self.end = end.isEmpty ? nil : bytes.copied(end)
    through = try reader.read(UInt64.self, from: bytes)
    head = try reader.read(UInt64.self, from: bytes)
    commits = try reader.count(from: bytes)
    changes = try reader.count(from: bytes)
    self.bytes = try reader.count(from: bytes)
    segments = Int(try reader.read(UInt32.self, from: bytes))
    let count = Int(try reader.read(UInt32.self, from: bytes))
    // The smallest key takes 20 bytes: a count that cannot fit allocates nothing.
    guard count <= reader.remaining(in: bytes) / 20 else { throw LogFormatError(.overLimit, at: reader.offset - 4) }
    keys.reserveCapacity(count)
    for _ in 0..<count {
      let hash = try reader.digest(from: bytes)
      let flag = try reader.read(UInt8.self, from: bytes)
      guard flag <= 1 else { throw LogFormatError(.badValue, at: reader.offset - 1) }
      let key = try reader.counted(UInt16.self, atMost: LogLimits.maximumKeyBytes, from: bytes)
      guard !key.isEmpty else { throw LogFormatError(.badKey, at: key.lowerBound) }
      keys.append(Key(key: bytes.copied(key), hash: hash, isDeletion: flag == 1))
    }
    try reader.end(of: bytes)
  }
}

extension ByteReader {
  /// A number of things, far from overflowing when many are added.
  fileprivate mutating func count(from bytes: RawSpan) throws(LogFormatError) -> Int {
    let count = try read(UInt64.self, from: bytes)
    guard count < 1 << 48 else { throw LogFormatError(.overLimit, at: offset - 8) }
    return Int(count)
  }
}
