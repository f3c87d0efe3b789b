// A store in memory: a log of commits, the rows they add up to, and the counters. What happens to them is decided by the
// rules of KVStore themselves, which run over it as they run over a store's log and LMDB (`CommitLog`, `WriteGroup`).
//
// Invariants
// - It is a value: a copy is what a power cut leaves, a backup, or a second machine's. Of what is no part of the
//   directory, the marks, a copy must get its own: `reopened`.
// - `log[i]` has version `logFloor` + i + 1.

import KVLog
import TestSupport

@testable import KVStore

struct ModelStore {
  struct Change {
    var key: [UInt8]
    var value: [UInt8]?
  }

  /// A commit as it lies in the log.
  struct Logged {
    var record: [UInt8]
    var view: CommitView
    /// The log's digest with it.
    var digest: Digest
  }

  struct HeldRow {
    var row: Row
    var bytes: [UInt8]

    var value: [UInt8]? { row.isTombstone ? nil : bytes }
  }

  var state: StoreState
  private(set) var log: [Logged] = []
  private(set) var logFloor: Version = 0
  /// Of a hub: what its log began with once, for those who look on.
  private(set) var archive: [Logged] = []
  private var floorDigest: Digest
  private(set) var rows: [[UInt8]: HeldRow] = [:]
  /// Tombstones that went with the log: what the store no longer knows, and who reads it has seen.
  private(set) var swept: [[UInt8]: HeldRow] = [:]
  private(set) var voids: [[UInt8]: Version] = [:]
  private(set) var known: [Identity: Version] = [:]
  /// Of a hub: how far it has decided its replicas' commits.
  private(set) var progress: [Identity: ReplicaProgress] = [:]
  private(set) var conflicts: [ConflictRecord] = []
  private(set) var parked: [Version: ParkedRecord] = [:]
  private(set) var marks = CommitMarks()

  var history = ShippedHistory.latest
  var policy = ConflictPolicy.lastWriterWins
  /// The wall clock, in milliseconds.
  var wall: UInt64 = 1_000
  var salts = SeededGenerator(seed: 0)
  /// What is wrong with this store, so that the simulator finds it.
  var bug: DeliberateBug?

  /// `isFed`: it is there from the hub's first commit on, and needs no snapshot.
  init(identity: Identity, isFed: Bool = true) {
    state = StoreState(start: identity)
    if isFed { state.subscription.loaded(KeyInterval(from: [], end: nil)) }
    floorDigest = state.position.digest
  }

  /// As it is after it was opened: a copy, or the same one.
  func reopened() -> ModelStore {
    var store = self
    store.marks = CommitMarks()
    return store
  }

  var identity: Identity { state.incarnation }
  var version: Version { state.version }
  var cursor: Version { state.cursor }
  var hasPending: Bool { state.hasPending }
  var replicaState: ReplicaState { ReplicaState(state) }

  /// Values that lost a conflict.
  var journal: [[UInt8]] { conflicts.map(\.losingValue) }

  /// Runs what a store does in one group of commits. Returns whether that had to be durable. What fails must not have
  /// written anything.
  mutating func perform<Result>(_ body: (ModelGroup) throws -> Result) rethrows -> (Result, isDurable: Bool) {
    let group = ModelGroup(self)
    // What the group holds must be held once, or each of its writes copies everything.
    rows = [:]
    log = []
    defer { self = group.store }
    return (try body(group), group.needsSynchronize)
  }

  /// Gives the log back through what the hub has decided, and the tombstones of that time with it.
  mutating func truncateLog(keeping count: Int) {
    let limit = min(version - min(version, Version(count)), state.neededFrom - 1)
    giveBackLog(through: limit)
  }

  /// A hub keeps its log for as long as it is told to, whoever may need it.
  mutating func lapse(through limit: Version) {
    guard limit > logFloor else { return }
    archive += log.prefix(Int(limit - logFloor))
    giveBackLog(through: limit)
  }

  private mutating func giveBackLog(through limit: Version) {
    guard limit > logFloor else { return }
    floorDigest = log[Int(limit - logFloor) - 1].digest
    log.removeFirst(Int(limit - logFloor))
    logFloor = limit
    for (key, held) in rows where held.row.isTombstone && held.row.version <= limit {
      rows[key] = nil
      // A page may have told of a later one.
      if swept[key].map({ $0.row.time < held.row.time }) ?? true { swept[key] = held }
    }
  }

  /// What the hub had deleted when it read a page: who loads that has seen it.
  mutating func saw(deletions: [[UInt8]: HeldRow]) { swept.merge(deletions) { $1 } }

  /// Takes tombstones away that are to stay.
  mutating func sweepTombstones() { rows = rows.filter { !$0.value.row.isTombstone } }
}

// MARK: - Reading the log

extension ModelStore: CommitLog {
  struct Reader: CommitReading {
    private let log: [Logged]
    private let floor: Version
    private let floorDigest: Digest
    private(set) var version: Version

    fileprivate init(_ store: ModelStore, after version: Version) {
      log = store.log
      floor = store.logFloor
      floorDigest = store.floorDigest
      self.version = version
    }

    var digest: Digest { version == floor ? floorDigest : log[Int(version - floor) - 1].digest }

    mutating func next(
      through limit: LogPosition, _ take: (CommitStream.Entry, _ bytes: RawSpan) throws -> Bool
    ) throws -> Bool {
      guard version < limit.version else { return false }
      let logged = log[Int(version - floor)]
      guard try take(.init(view: logged.view, record: 0..<logged.record.count), logged.record.bytes) else {
        return false
      }
      version += 1
      return true
    }
  }

  func floor() -> Version { logFloor }

  func withStream<Result>(
    after version: Version, through limit: LogPosition, _ body: (inout Reader) throws -> Result
  ) throws -> Result {
    guard version >= logFloor, version <= self.version else {
      throw Simulation.Failure("version \(version) is asked for, and the log is \(logFloor)...\(self.version)")
    }
    var reader = Reader(self, after: version)
    return try body(&reader)
  }

  /// The log's digest; nil beyond its end or before its beginning.
  func digest(at version: Version) -> Digest? {
    if version == state.shipped { return state.shippedDigest }
    if version == 0 { return .origin(of: state.incarnation) }
    guard version <= self.version, version >= logFloor else { return nil }
    return Reader(self, after: version).digest
  }
}

// MARK: - What a group of commits writes

extension ModelStore {
  mutating func set(_ key: [UInt8], _ bytes: [UInt8], _ row: Row) {
    rows[key] = HeldRow(row: row, bytes: bytes)
  }

  mutating func setKnown(_ version: Version, of author: Identity) { known[author] = version }

  mutating func keep(_ replica: ReplicaProgress) { progress[replica.replica] = replica }

  mutating func keep(_ record: some StoreRecord) {
    switch record {
    case let conflict as ConflictRecord:
      if conflict.voidThrough > 0 { voids[conflict.key] = conflict.voidThrough }
      if bug != .conflictUnrecorded { conflicts.append(conflict) }
    case let record as ParkedRecord: parked[record.version] = record
    case let record as UnparkedRecord: parked[record.version] = nil
    default: preconditionFailure("no such record is written here")
    }
  }

  mutating func append(_ header: CommitHeader, _ core: [UInt8], _ payloadBytes: Int) {
    var record: [UInt8] = []
    record.reserveCapacity(RecordView.headerByteCount + CommitView.envelopeByteCount + core.count)
    record.append(littleEndian: UInt32(CommitView.envelopeByteCount + core.count))
    record.append(littleEndian: UInt32(RecordKind.commit.rawValue))
    record.append(littleEndian: header.version)
    record.append(littleEndian: header.serverVersion)
    record += core
    let digest = state.position.digest.chained(version: header.version, core: core.bytes)
    // What comes from elsewhere was read by the rules before, and what was written here is well formed.
    guard let view = try? CommitView(payload: RecordView.headerByteCount..<record.count, in: record.bytes) else {
      preconditionFailure("a commit of the model can be read")
    }
    log.append(Logged(record: record, view: view, digest: digest))
    state.committed(header, bytes: payloadBytes, digest: digest)
  }
}

// MARK: - Reading commits

extension ModelStore {
  struct Commit {
    var version: Version
    var origin: Identity
    var originVersion: Version
    var time: HybridTime
    var flags: CommitFlags
    var changes: [Change]
  }

  /// The commits that are in the log.
  func commits() throws -> [Commit] { try log.flatMap { try ModelStore.commits(in: $0.record) } }

  static func commits(in records: [UInt8]) throws -> [Commit] {
    let bytes = records.bytes
    var cursor = RecordCursor(over: bytes)
    var commits: [Commit] = []
    while let record = try cursor.next(in: bytes) {
      let view = try CommitView(payload: record.payload, in: bytes)
      var changes: [Change] = []
      var changeCursor = ChangeCursor(view)
      while let change = try changeCursor.next(in: bytes) {
        changes.append(
          Change(key: Array(records[change.key]), value: change.isDeletion ? nil : Array(records[change.value])))
      }
      commits.append(
        Commit(
          version: view.header.version, origin: view.header.origin, originVersion: view.header.originVersion,
          time: view.header.time, flags: view.header.flags, changes: changes))
    }
    return commits
  }
}
