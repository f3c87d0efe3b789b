import KVLog
import KVProtocol
import TestSupport
import Testing

@Suite struct SegmentCheckTests {
  let replica = Identity(high: 1, low: 2)

  /// Commits 4 and 6 of `replica`, as its log holds them: two changes each.
  func segment() -> CommitSegment {
    var builder = BlockBuilder()
    var records: [UInt8] = []
    var digest = Digest.origin(of: replica)
    for before in [Version(3), 5] {
      builder.reset(after: before, digest: digest, origin: replica)
      _ = builder.beginCommit(time: HybridTime(rawValue: 99))
      unsafe builder.append(key: [1].span.bytes, value: [2, 3].span.bytes)
      unsafe builder.appendDeletion(key: [4].span.bytes)
      builder.endCommit()
      builder.withRecords { records.append($0) }
      digest = builder.digest
    }
    return CommitSegment(after: 3, through: 7, digest: digest, records: records, changeCount: 4)
  }

  @Test func `a run of the replica's own commits in order passes`() throws {
    try segment().check(pushedBy: replica)
    try segment().checkFed()
  }

  @Test func `commits of somebody else are not pushed`() {
    #expect(throws: ProtocolError.self) { try segment().check(pushedBy: Identity(high: 1, low: 3)) }
  }

  @Test func `commits outside the run, out of order or miscounted do not pass`() {
    var late = segment()
    late.after = 4
    var early = segment()
    early.through = 5
    var empty = segment()
    empty.through = 3
    var miscounted = segment()
    miscounted.changeCount = 3
    var twice = segment()
    twice.records += twice.records
    twice.changeCount = 8
    for (name, segment) in [
      ("late", late), ("early", early), ("empty", empty), ("miscounted", miscounted), ("twice", twice),
    ] {
      #expect(throws: ProtocolError.self, "\(name)") { try segment.check(pushedBy: replica) }
      #expect(throws: ProtocolError.self, "\(name)") { try segment.checkFed() }
    }
  }

  @Test func `rows are no commits that travel, and only a feed has excerpts`() throws {
    var excerpt = segment()
    var records = excerpt.records
    // Flags lie behind a record's head, versions, origin, its version and the time.
    records[8 + 48] |= UInt8(CommitFlags.excerpt.rawValue)
    excerpt.records = records
    try excerpt.checkFed()
    #expect(throws: ProtocolError.self) { try excerpt.check(pushedBy: replica) }
    #expect(throws: ProtocolError.self) { try excerpt.checkRestored() }
    var rows = RowsBuilder()
    let key: [UInt8] = [1]
    rows.append(
      key: key.bytes, value: key.bytes, isDeletion: false,
      RowOrigin(serverVersion: 1, time: HybridTime(rawValue: 1), author: replica))
    let forged = CommitSegment(
      after: 3, through: 4, digest: .zero,
      records: rows.record(of: Position(identity: replica, version: 4, digest: .zero)), changeCount: 1)
    #expect(throws: ProtocolError.self) { try forged.check(pushedBy: replica) }
    #expect(throws: ProtocolError.self) { try forged.checkRestored() }
    #expect(throws: ProtocolError.self) { try forged.checkFed() }
  }

  @Test func `a commit that claims to be a part of one, or that has no changes, does not pass`() throws {
    let whole = segment()
    var isFirst = true
    var records = unsafe RecordCursor(over: whole.records.span.bytes)
    while let record = try unsafe records.next(in: whole.records.span.bytes) {
      var part = whole
      // Flags lie behind versions, origin, its version and the time.
      part.records[record.payload.lowerBound + 48] |= UInt8(CommitFlags.partial.rawValue)
      #expect(throws: ProtocolError.self) { try part.check(pushedBy: replica) }
      #expect(throws: ProtocolError.self) { try part.checkFed() }
      isFirst = false
    }
    #expect(!isFirst)
    var builder = BlockBuilder()
    builder.reset(after: 6, digest: whole.digest, origin: replica)
    _ = builder.beginCommit(time: HybridTime(rawValue: 100))
    builder.endCommit()
    var hollow = whole
    builder.withRecords { hollow.records.append($0) }
    #expect(throws: ProtocolError.self) { try hollow.check(pushedBy: replica) }
    #expect(throws: ProtocolError.self) { try hollow.checkFed() }
  }

  @Test func `damaged records never trap and cut records never pass`() {
    var random = SeededGenerator()
    let whole = segment()
    for count in 0..<whole.records.count {
      var cut = whole
      cut.records = Array(whole.records[..<count])
      #expect(throws: ProtocolError.self) { try cut.check(pushedBy: replica) }
    }
    for _ in 0..<5_000 {
      var damaged = whole
      damaged.records[Int.random(in: 0..<damaged.records.count, using: &random)] ^= UInt8.random(
        in: 1...255, using: &random)
      try? damaged.check(pushedBy: replica)
    }
  }
}
