// What the rules of replication ask of a group of writes. The rules are extensions of this protocol and of `CommitLog`: a
// store's writer follows them with its log and LMDB, a simulator's with arrays and dictionaries.
//
// Invariants
// - Whoever conforms decides nothing: what a change leads to is said by the rules, what a record does to the counters by
//   `StoreState`, what it does to the tables by the record.

import KVLog

/// The group's own writes included, where it is read.
protocol WriteGroup: RowLookup {
  associatedtype Log: CommitLog
  associatedtype Rows: RowWalk

  /// For errors.
  var path: String { get }
  /// The published state plus what this group has added.
  var state: StoreState { get }
  var published: StoreState { get }
  /// As published: without what this group has added.
  var log: Log { get }
  var marks: CommitMarks { get }
  /// Of the group so far, and of the open commit; nil when none is open.
  var byteCount: Int { get }
  var byteCountOfOpenCommit: Int? { get }
  /// A time for a commit of now.
  func now() -> HybridTime

  // Local commits; without a time, of now.
  func beginCommit(time: HybridTime?, flags: CommitFlags)
  func put(key: RawSpan, value: RawSpan) throws
  func delete(key: RawSpan) throws
  @discardableResult func endCommit() -> Version

  // Commits from elsewhere.
  func append(core bytes: RawSpan, of header: CommitHeader, serverVersion: Version, payloadBytes: Int) -> CommitHeader
  func putRow(_ key: RawSpan, _ value: RawSpan, isDeletion: Bool, of header: CommitHeader) throws
  func putKnown(_ version: Version, of author: Identity) throws
  func known(of author: Identity) throws -> Version

  // Records.
  func append(_ record: some StoreRecord) throws
  func append(_ record: AcknowledgementRecord, durably: Bool)
  func append(_ record: SuccessionRecord) throws
  func append(_ record: CursorRecord)
  func append(_ record: SubscriptionRecord)
  func append(_ progress: ReplicaProgress) throws
  func append(_ record: IncarnationRecord) throws
  func append(_ record: RollbackRecord)
  func append(_ record: RestoredRecord)
  func pruneJournal() throws

  func withRow<Result>(_ key: RawSpan, _ body: (Row, _ value: RawSpan) throws -> Result) throws -> Result?
  /// To be done with before the next write.
  func withRows<Result>(in range: KeyRange, _ body: (inout Rows) throws -> Result) throws -> Result
  func progress(of replica: Identity) throws -> ReplicaProgress?
  /// Whether this store's commit of the version is parked.
  func isParked(_ version: Version) throws -> Bool
  func mergeBases(of contests: [Contest]) throws -> [[UInt8]: MergeBase]
}

/// The rows of a range in key order, tombstones too: before the first of them to begin with.
protocol RowWalk {
  /// Moves to the next row; false at the end of the range.
  mutating func advance() throws -> Bool
  /// Below zero: the row's key comes before `key`.
  func compare(with key: RawSpan) throws -> Int
  func withRow<Result>(_ body: (_ key: RawSpan, Row) throws -> Result) throws -> Result
  func value() throws -> [UInt8]
}

extension GroupWriter: WriteGroup {
  /// The published log of the store.
  struct PublishedLog: CommitLog {
    let core: StoreCore

    func floor() throws -> Version { try core.log.firstVersion - 1 }

    func withStream<Result>(
      after version: Version, through limit: LogPosition, _ body: (inout CommitStream) throws -> Result
    ) throws -> Result {
      var stream = try CommitStream(core.log.configuration, after: version, through: limit)
      return try body(&stream)
    }
  }

  struct Rows: RowWalk {
    fileprivate var cursor: MergeCursor
    fileprivate let home: Identity

    mutating func advance() throws -> Bool { try cursor.advance() }

    func compare(with key: RawSpan) throws -> Int { try cursor.withEntry { own, _ in own.compare(key) } }

    func withRow<Result>(_ body: (_ key: RawSpan, Row) throws -> Result) throws -> Result {
      try cursor.withEntry { key, bytes in try body(key, Row(bytes, key: key, home: home)) }
    }

    func value() throws -> [UInt8] { try cursor.withEntry { key, bytes in try Row.value(bytes, key: key).copied() } }
  }

  func withRows<Result>(in range: KeyRange, _ body: (inout Rows) throws -> Result) throws -> Result {
    try withCursors { cursors in
      var rows = Rows(cursor: try MergeCursor(cursors, range: range, isReversed: false), home: home)
      return try body(&rows)
    }
  }

  var path: String { core.path }
  var log: PublishedLog { PublishedLog(core: core) }
  var marks: CommitMarks { core.marks }

  func now() -> HybridTime { HybridClock.next(after: state.lastTime) }

  func isParked(_ version: Version) throws -> Bool {
    guard state.parkedCommits > 0 else { return false }
    return try withEntry(\.parked, ParkedRecord.identifier(version)) { _ in true } ?? false
  }

  func voidThrough(of key: [UInt8]) throws -> Version {
    try withEntry(\.voids, key) { $0.load(UInt64.self, at: 0) } ?? 0
  }
}
