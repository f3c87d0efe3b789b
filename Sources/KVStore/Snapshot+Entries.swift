// Reading the smaller tables: the conflict journal, parked commits, what is void.

import KVLog
import LMDB

extension Snapshot {
  /// Calls `body` with an entry of one of the smaller tables; nil when there is none, or it is gone.
  func withEntry<Result>(
    _ table: KeyPath<Tables, Table>, _ key: [UInt8], _ body: (RawSpan) throws -> Result
  ) throws -> Result? {
    for source in sources {
      let found = try source.getSealed(source.tables[keyPath: table], key: key.bytes) { entry -> Result? in
        entry.byteCount > 0 ? try body(entry) : nil
      }
      if let found { return found }
    }
    return nil
  }

  /// Calls `body` with the entries of one of the smaller tables from `key` on, in order, until it returns false.
  func forEachEntry(
    _ table: KeyPath<Tables, Table>, from key: [UInt8]?, _ body: (_ key: RawSpan, _ payload: RawSpan) throws -> Bool
  ) throws {
    let cursors = try sources.map { try $0.reader.cursor($0.tables[keyPath: table]) }
    var cursor = try MergeCursor(cursors, .sealed, range: KeyRange(from: key), isReversed: false)
    var isWanted = true
    while isWanted, try cursor.advance() {
      try cursor.withEntry { key, bytes in
        let count = try Sealed.payloadBytes(bytes, key: key, path: path)
        // One that is gone.
        guard count > 0 else { return }
        isWanted = try body(key, bytes.extracting(0..<count))
      }
    }
  }
}
