// A cursor over the rows of one source: of a reader, or of the writer whose transaction is under way.

import LMDB

enum RowCursor {
  case reader(LMDBCursor)
  case writer(LMDBWriterCursor)

  func first() throws(LMDBError) -> Bool {
    switch self {
    case .reader(let cursor): try cursor.first()
    case .writer(let cursor): try cursor.first()
    }
  }

  func last() throws(LMDBError) -> Bool {
    switch self {
    case .reader(let cursor): try cursor.last()
    case .writer(let cursor): try cursor.last()
    }
  }

  @inline(__always)
  func next() throws(LMDBError) -> Bool {
    switch self {
    case .reader(let cursor): try cursor.next()
    case .writer(let cursor): try cursor.next()
    }
  }

  @inline(__always)
  func previous() throws(LMDBError) -> Bool {
    switch self {
    case .reader(let cursor): try cursor.previous()
    case .writer(let cursor): try cursor.previous()
    }
  }

  func seek(atOrAfter key: RawSpan) throws(LMDBError) -> Bool {
    switch self {
    case .reader(let cursor): try cursor.seek(atOrAfter: key)
    case .writer(let cursor): try cursor.seek(atOrAfter: key)
    }
  }

  @inline(__always)
  func withEntry<Result>(_ body: (_ key: RawSpan, _ row: RawSpan) throws -> Result) throws -> Result {
    switch self {
    case .reader(let cursor): try cursor.withEntry(body)
    case .writer(let cursor): try cursor.withEntry(body)
    }
  }

  @inline(__always)
  func withKey<Result>(_ body: (RawSpan) throws -> Result) throws -> Result {
    switch self {
    case .reader(let cursor): try cursor.withKey(body)
    case .writer(let cursor): try cursor.withKey(body)
    }
  }

  /// Lends the entry it stands on and each further one, until `body` returns false or there is none left.
  func walk(backwards: Bool, _ body: (_ key: RawSpan, _ row: RawSpan) throws -> Bool) throws {
    switch self {
    case .reader(let cursor): try cursor.walk(backwards: backwards, body)
    case .writer(let cursor):
      while try cursor.withEntry(body) { guard try backwards ? cursor.previous() : cursor.next() else { return } }
    }
  }
}
