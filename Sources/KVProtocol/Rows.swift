// Comparing what a replica and a hub hold, row by row in key order, without sending values.
//
//     rowsRequest = maximumBytes u32 | after (u16 count | key)          no key: from the first row
//     rows        = version u64 | digest 16 | last u8 | zero 3 | count u32 | *row
//     row         = hash 16 | key (u16 count | key)                     hash: XXH3-128 of the value
//
// Deleted rows are not listed. A page is one consistent view at `version`; a comparison starts over when the version
// changes between pages.

package import KVLog

package struct RowsRequest: Hashable, Sendable {
  /// The last key of the page before; `nil` for the first page.
  package var after: [UInt8]?
  package var maximumBytes: Int

  package init(after: [UInt8]?, maximumBytes: Int = ProtocolLimits.rowsPageBytes) {
    self.after = after
    self.maximumBytes = maximumBytes
  }
}

package struct RowHash: Hashable, Sendable {
  package var key: [UInt8]
  package var hash: Digest

  package init(key: [UInt8], hash: Digest) {
    self.key = key
    self.hash = hash
  }

  /// What the row takes in a message.
  package static func byteCount(keyBytes: Int) -> Int { 18 + keyBytes }
}

package struct Rows: Hashable, Sendable {
  /// The hub's version and digest that the rows were read at.
  package var version: Version
  package var digest: Digest
  package var rows: [RowHash]
  package var isLast: Bool

  package init(version: Version, digest: Digest, rows: [RowHash], isLast: Bool) {
    self.version = version
    self.digest = digest
    self.rows = rows
    self.isLast = isLast
  }
}

extension RowsRequest {
  func encode(to bytes: inout [UInt8]) {
    bytes.append(littleEndian: UInt32(clamping: maximumBytes))
    bytes.append(littleEndian: UInt16(after?.count ?? 0))
    if let after { bytes.append(contentsOf: after) }
  }

  init(decoding bytes: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    maximumBytes = Int(try reader.read(UInt32.self, from: bytes))
    let key = try reader.counted(UInt16.self, atMost: LogLimits.maximumKeyBytes, from: bytes)
    after = key.isEmpty ? nil : bytes.copied(key)
    try reader.end(of: bytes)
  }
}

extension Rows {
  func encode(to bytes: inout [UInt8]) {
    bytes.append(littleEndian: version)
    bytes.append(digest)
    bytes.append(littleEndian: UInt32(isLast ? 1 : 0))
    bytes.append(littleEndian: UInt32(rows.count))
    for row in rows {
      bytes.append(row.hash)
      bytes.append(littleEndian: UInt16(row.key.count))
      bytes.append(contentsOf: row.key)
    }
  }

  init(decoding bytes: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    version = try reader.read(UInt64.self, from: bytes)
    digest = try reader.digest(from: bytes)
    let last = try reader.read(UInt32.self, from: bytes)
    guard last <= 1 else { throw LogFormatError(.badValue, at: reader.offset - 4) }
    isLast = last == 1
    let count = Int(try reader.read(UInt32.self, from: bytes))
    // The smallest row has a key of one byte: a count that cannot fit allocates nothing.
    guard count <= reader.remaining(in: bytes) / RowHash.byteCount(keyBytes: 1) else {
      throw LogFormatError(.overLimit, at: reader.offset - 4)
    }
    rows = []
    rows.reserveCapacity(count)
    for _ in 0..<count {
      let hash = try reader.digest(from: bytes)
      let key = try reader.counted(UInt16.self, atMost: LogLimits.maximumKeyBytes, from: bytes)
      guard !key.isEmpty else { throw LogFormatError(.badKey, at: key.lowerBound) }
      rows.append(RowHash(key: bytes.copied(key), hash: hash))
    }
    try reader.end(of: bytes)
  }
}
