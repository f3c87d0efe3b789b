// Walks several key-ordered sources as one. Where sources have the same key, the newest one's row counts.
//
// Invariants
// - Each cursor stands on its next key not yet passed, or is exhausted.
// - Keys come in strictly ascending (or descending) order, each once, tombstones included.

import KVLog
import LMDB

struct MergeCursor {
  private let cursors: [LMDBCursor]
  private var isLive: [Bool]
  private let range: KeyRange
  private let isReversed: Bool
  private var current: Int?

  /// Cursors come newest source first.
  init(_ cursors: [LMDBCursor], range: KeyRange, isReversed: Bool) throws {
    self.cursors = cursors
    self.range = range
    self.isReversed = isReversed
    isLive = []
    isLive.reserveCapacity(cursors.count)
    for cursor in cursors { isLive.append(try MergeCursor.start(cursor, range, isReversed)) }
  }

  /// Moves to the next key; false at the end of the range.
  @inline(__always)
  mutating func advance() throws -> Bool {
    if let current {
      if cursors.count > 1 { try skipHidden(by: current) }
      isLive[current] = try step(cursors[current])
    }
    current = cursors.count == 1 ? (isLive[0] ? 0 : nil) : winner()
    guard let current else { return false }
    return isWithinRange(cursors[current])
  }

  /// Calls `body` with the current entry.
  @inline(__always)
  func withEntry<Result>(_ body: (_ key: RawSpan, _ row: RawSpan) throws -> Result) throws -> Result {
    guard let current else { preconditionFailure("the cursor stands on no entry") }
    return try cursors[current].withEntry(body)
  }

  /// Calls `body` with each entry that is left, until it returns false.
  @inline(__always)
  mutating func forEach(_ body: (_ key: RawSpan, _ row: RawSpan) throws -> Bool) throws {
    if cursors.count == 1, current == nil {
      // A store that is folded: nothing to choose between.
      let cursor = cursors[0]
      var more = isLive[0]
      while more, isWithinRange(cursor) {
        more = try cursor.withEntry(body)
        if more { more = try step(cursor) }
      }
    } else {
      var more = true
      while more, try advance() { more = try withEntry(body) }
    }
  }

  @inline(__always)
  private func step(_ cursor: LMDBCursor) throws(LMDBError) -> Bool {
    isReversed ? try cursor.previous() : try cursor.next()
  }

  /// The live cursor with the first key in order; of equal keys, the newest source's.
  private func winner() -> Int? {
    var best: Int?
    for index in cursors.indices where isLive[index] {
      guard let candidate = best else {
        best = index
        continue
      }
      let order = cursors[index].withKey { key in cursors[candidate].withKey { key.compare($0) } }
      if isReversed ? order > 0 : order < 0 { best = index }
    }
    return best
  }

  /// Older sources' rows of the current key are passed over.
  private mutating func skipHidden(by current: Int) throws {
    for index in cursors.indices where index != current && isLive[index] {
      let same = cursors[index].withKey { key in cursors[current].withKey { key.compare($0) == 0 } }
      if same { isLive[index] = try step(cursors[index]) }
    }
  }

  @inline(__always)
  private func isWithinRange(_ cursor: LMDBCursor) -> Bool {
    guard let bound = isReversed ? range.lower : range.upper else { return true }
    return cursor.withKey { key in
      let order = key.compare(bound.bytes)
      return isReversed ? order >= 0 : order < 0
    }
  }

  private static func start(_ cursor: LMDBCursor, _ range: KeyRange, _ isReversed: Bool) throws(LMDBError) -> Bool {
    if isReversed {
      guard let upper = range.upper else { return try cursor.last() }
      // The first key at or after the bound is one too far.
      return try cursor.seek(atOrAfter: upper.bytes) ? try cursor.previous() : try cursor.last()
    }
    guard let lower = range.lower else { return try cursor.first() }
    return try cursor.seek(atOrAfter: lower.bytes)
  }
}
