// A short list that is kept as it is encoded: the counters, of which it is a part, are written with every group of commits.
//
// grammar: bytes u16 | *entry, little-endian

import KVLog

protocol EncodedList {
  /// The size of an entry.
  static var entryBytes: Int { get }
  /// How many entries there are at most: with their sizes 64 KiB at most.
  static var maximumCount: Int { get }
  /// The entries, one after the other.
  var bytes: [UInt8] { get set }
  /// An empty list.
  init()
}

extension EncodedList {
  var count: Int { bytes.count / Self.entryBytes }

  func encode(to bytes: inout [UInt8]) {
    bytes.append(littleEndian: UInt16(self.bytes.count))
    bytes.append(contentsOf: self.bytes)
  }

  init(from reader: inout ByteReader, in bytes: RawSpan) throws(LogFormatError) {
    let entries = try reader.counted(UInt16.self, atMost: Self.maximumCount * Self.entryBytes, from: bytes)
    guard entries.count % Self.entryBytes == 0 else { throw LogFormatError(.badValue, at: entries.lowerBound) }
    self.init()
    self.bytes = bytes.extracting(entries).copied()
  }
}
