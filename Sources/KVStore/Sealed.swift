// A checksum for the entries of the small tables: counters, conflicts, what a hub knows of its replicas. Rows have their own.
//
//   sealed = payload | checksum u64          XXH3-64 of the payload, seeded with the XXH3-64 of the key

import KVLog
import LMDB

enum Sealed {
  static let checksumBytes = 8

  static func checksum(_ payload: RawSpan, key: RawSpan) -> UInt64 { checksum64(payload, seed: checksum64(key)) }

  /// How many of the entry's bytes are payload; throws when they are not what was written under the key.
  static func payloadBytes(_ entry: RawSpan, key: RawSpan, path: String) throws(StoreError) -> Int {
    let count = entry.byteCount - checksumBytes
    guard count >= 0, checksum(entry.extracting(0..<count), key: key) == entry.load(UInt64.self, at: count) else {
      throw StoreError(
        .corrupt,
        "an entry of the index fails its checksum. Run `kvsync verify`, and restore from a backup or the hub.",
        path: path)
    }
    return count
  }
}

extension LMDBWriter {
  mutating func putSealed(_ table: Table, key: RawSpan, _ payload: RawSpan) throws(LMDBError) {
    let count = payload.byteCount
    try put(table, key: key, reservingBytes: count + Sealed.checksumBytes) { target in
      unsafe target.withUnsafeMutableBytes { target in
        unsafe payload.withUnsafeBytes { payload in
          unsafe UnsafeMutableRawBufferPointer(rebasing: target[..<payload.count]).copyMemory(from: payload)
        }
      }
      let checksum = Sealed.checksum(payload, key: key)
      target.storeBytes(of: checksum.littleEndian, toByteOffset: count, as: UInt64.self)
    }
  }

  /// Lends the payload under the key; nil when there is none.
  func getSealed<Result>(_ table: Table, key: RawSpan, _ body: (RawSpan) throws -> Result) throws -> Result? {
    let found = try get(table, key: key) { entry in
      let count = try Sealed.payloadBytes(entry, key: key, path: session.environment.path)
      return try body(entry.extracting(0..<count))
    }
    if found == nil { try checkAbsence(of: key, in: table, .sealed) }
    return found
  }
}

extension Source {
  /// Lends the payload under the key; nil when there is none, of which the entries beside its place are the witnesses.
  func getSealed<Result>(_ table: Table, key: RawSpan, _ body: (RawSpan) throws -> Result) throws -> Result? {
    let found = try reader.get(table, key: key) { entry in
      let count = try Sealed.payloadBytes(entry, key: key, path: reader.environment.path)
      return try body(entry.extracting(0..<count))
    }
    if found == nil { try reader.checkAbsence(of: key, in: table, .sealed) }
    return found
  }
}
