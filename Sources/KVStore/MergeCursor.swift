// Walks several key-ordered sources as one. Where sources have the same key, the newest one's row counts.
//
// Invariants
// - Each cursor stands on its next key not yet passed, or is exhausted.
// - Keys come in strictly ascending (or descending) order, each once, tombstones included.
// - Each entry that a cursor stands on was found whole when the cursor came there, and so was the one before the range.
//   Otherwise an entry under a damaged key would be passed over, or end the walk, and an older source's row show in its
//   place. Exempt is the one source that is walked alone, entry by entry, by a caller who checks each.

import KVLog
import LMDB

struct MergeCursor {
  private let cursors: [RowCursor]
  private let kind: EntryKind
  private var isLive: [Bool]
  private let range: KeyRange
  private let isReversed: Bool
  private var current: Int?

  /// Cursors come newest source first.
  init(_ cursors: [RowCursor], _ kind: EntryKind = .rows, range: KeyRange, isReversed: Bool) throws {
    self.cursors = cursors
    self.kind = kind
    self.range = range
    self.isReversed = isReversed
    isLive = []
    isLive.reserveCapacity(cursors.count)
    for cursor in cursors { isLive.append(try start(cursor)) }
  }

  init(_ cursors: [LMDBCursor], _ kind: EntryKind = .rows, range: KeyRange, isReversed: Bool) throws {
    try self.init(cursors.map { RowCursor.reader($0) }, kind, range: range, isReversed: isReversed)
  }

  /// Moves to the next key; false at the end of the range.
  @inline(__always)
  mutating func advance() throws -> Bool {
    if let current {
      if cursors.count > 1 { try skipHidden(by: current) }
      isLive[current] = try step(cursors[current])
    }
    current = cursors.count == 1 ? (isLive[0] ? 0 : nil) : try winner()
    guard let current else { return false }
    return try isWithinRange(cursors[current])
  }

  /// Calls `body` with the current entry.
  @inline(__always)
  func withEntry<Result>(_ body: (_ key: RawSpan, _ row: RawSpan) throws -> Result) throws -> Result {
    guard let current else { preconditionFailure("the cursor stands on no entry") }
    return try cursors[current].withEntry(body)
  }

  /// Calls `body`, which checks it, with each entry, until it returns false; for a merge that was not advanced before.
  ///
  /// The source with the first key is walked for as long as its keys come before those of the others, so that most of
  /// an index goes by without a thought for the few rows of a tail.
  mutating func forEach(_ body: (_ key: RawSpan, _ row: RawSpan) throws -> Bool) throws {
    precondition(current == nil, "a merge is either walked or advanced")
    while let first = try winner() {
      try skipHidden(by: first)
      let isWanted =
        if let second = try winner(butNot: first) {
          try cursors[second].withKey { try walk(first, before: $0, body) }
        } else {
          try walk(first, before: nil, body)
        }
      guard isWanted else { return }
    }
  }

  /// Lends the entries of one source whose keys come before `other`; false when no more are wanted.
  private mutating func walk(
    _ index: Int, before other: RawSpan?, _ body: (_ key: RawSpan, _ row: RawSpan) throws -> Bool
  ) throws -> Bool {
    var isWanted = true
    var isOvertaken = false
    let bound = isReversed ? range.lower : range.upper
    try cursors[index].walk(backwards: isReversed) { key, row in
      if let other {
        let order = key.compare(other)
        isOvertaken = isReversed ? order <= 0 : order >= 0
        if isOvertaken {
          try check(key, row)
          return false
        }
      }
      if let bound {
        let order = key.compare(bound.bytes)
        isWanted = isReversed ? order >= 0 : order < 0
        if !isWanted {
          try check(key, row)
          return false
        }
      }
      isWanted = try body(key, row)
      return isWanted
    }
    isLive[index] = isOvertaken
    return isWanted
  }

  @inline(__always)
  private func step(_ cursor: RowCursor) throws -> Bool {
    guard isReversed ? try cursor.previous() : try cursor.next() else { return false }
    try check(cursor)
    return true
  }

  @inline(__always)
  private func check(_ cursor: RowCursor) throws { try cursor.withEntry { try check($0, $1) } }

  @inline(__always)
  private func check(_ key: RawSpan, _ entry: RawSpan) throws { try kind.check(entry, key: key, path: "") }

  /// The live cursor with the first key in order; of equal keys, the newest source's.
  private func winner(butNot other: Int? = nil) throws -> Int? {
    var best: Int?
    for index in cursors.indices where isLive[index] && index != other {
      guard let candidate = best else {
        best = index
        continue
      }
      let order = try cursors[index].withKey { key in try cursors[candidate].withKey { key.compare($0) } }
      if isReversed ? order > 0 : order < 0 { best = index }
    }
    return best
  }

  /// Older sources' rows of the current key are passed over.
  private mutating func skipHidden(by current: Int) throws {
    for index in cursors.indices where index != current && isLive[index] {
      let same = try cursors[index].withKey { key in try cursors[current].withKey { key.compare($0) == 0 } }
      if same { isLive[index] = try step(cursors[index]) }
    }
  }

  @inline(__always)
  private func isWithinRange(_ cursor: RowCursor) throws -> Bool {
    guard let bound = isReversed ? range.lower : range.upper else { return true }
    return try cursor.withKey { key in
      let order = key.compare(bound.bytes)
      return isReversed ? order >= 0 : order < 0
    }
  }

  /// To the first entry of the range. The one before it may be one of the range whose key is damaged.
  private func start(_ cursor: RowCursor) throws -> Bool {
    guard let bound = isReversed ? range.upper : range.lower else {
      guard isReversed ? try cursor.last() : try cursor.first() else { return false }
      try check(cursor)
      return true
    }
    let isBehind = try cursor.seek(atOrAfter: bound.bytes)
    if isBehind { try check(cursor) }
    guard try cursor.previous() else { return isReversed ? false : try cursor.next() }
    try check(cursor)
    return isReversed ? true : try cursor.next()
  }
}
