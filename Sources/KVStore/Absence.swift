// What proves that a table does not have a key: nobody is told that there is no row, or is given an older one in its
// place, because the row lies under a damaged key.
//
// A key that is damaged where it lies is not found, but what the search then stands beside is that very entry: pages are
// searched by halves, and a search goes astray only next to what is out of place. The checksum of each entry covers its
// key. So where nothing is found, the entries on both sides have to be whole; that the pages hide none between them is
// seen to by the layer below.

import KVLog
import LMDB

/// Where the entries of a table have their checksum.
enum EntryKind {
  case rows
  case sealed

  @inline(__always)
  func check(_ entry: RawSpan, key: RawSpan, path: String) throws {
    switch self {
    case .rows: _ = try Row.isLive(entry, key: key)
    case .sealed: _ = try Sealed.payloadBytes(entry, key: key, path: path)
    }
  }
}

extension Source {
  /// Throws when the row of `key`, which was not found, may be there all the same.
  func checkAbsence(ofRow key: RawSpan) throws { try reader.checkAbsence(of: key, in: tables.rows, .rows) }
}

extension LMDBReader {
  func checkAbsence(of key: RawSpan, in table: Table, _ kind: EntryKind) throws {
    try forEachNeighbour(of: key, in: table) { try kind.check($1, key: $0, path: environment.path) }
  }
}

extension LMDBWriter {
  /// As a reader's, in what the transaction sees. What its pages hide it does not find out: liblmdb reads them.
  func checkAbsence(of key: RawSpan, in table: Table, _ kind: EntryKind) throws {
    let path = session.environment.path
    let cursor = try cursor(table)
    if try cursor.seek(atOrAfter: key) { try cursor.withEntry { try kind.check($1, key: $0, path: path) } }
    if try cursor.previous() { try cursor.withEntry { try kind.check($1, key: $0, path: path) } }
  }
}
