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

  init(identity: Identity) {
    state = StoreState(start: identity)
    // It is there from the hub's first commit on, and is fed every one of them.
    state.subscription.loaded(KeyInterval(from: [], end: nil))
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
  var replicaState: ReplicaState { ReplicaState(state, firstLogVersion: logFloor + 1) }

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
    guard limit > logFloor else { return }
    floorDigest = log[Int(limit - logFloor) - 1].digest
    log.removeFirst(Int(limit - logFloor))
    logFloor = limit
    for (key, held) in rows where held.row.isTombstone && held.row.version <= limit {
      rows[key] = nil
      swept[key] = held
    }
  }

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
    ) throws -> CommitStream.Taken {
      guard version < limit.version else { return .end }
      let logged = log[Int(version - floor)]
      guard try take(.init(view: logged.view, record: 0..<logged.record.count), logged.record.bytes) else {
        return .declined
      }
      version += 1
      return .passed
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

// MARK: - What a replica's sessions ask for

extension ModelStore {
  /// A program's transaction.
  @discardableResult
  mutating func write(_ changes: [Change], clock: UInt64? = nil) -> Version {
    if let clock { wall = clock }
    return perform { group in
      group.beginCommit(time: nil, flags: [])
      for change in changes { group.change(change.key, change.value) }
      return group.endCommit()
    }.0
  }

  mutating func pushSegment(after: Version, maximumBytes: Int) throws -> PushSegment? {
    let rows = ScreenedRows(self)
    let screen = CommitScreen(rows: rows, state: state, history: history, current: nil)
    return try push(after: after, state, screen, maximumBytes: maximumBytes, readBytes: StoreLimits.pushReadBytes)
  }

  mutating func acknowledge(
    _ ack: Acknowledgement, digest: Digest, localChanges: Int, localBytes: Int = 0, epoch: Identity
  ) throws -> (Acknowledged, isDurable: Bool) {
    var total = Acknowledged()
    var left = Decided(acknowledgement: ack, digest: digest, localChanges: localChanges, localBytes: localBytes)
    left.acknowledgement.exceptions.removeAll { exception in
      switch exception.reason {
      case .stale: bug == .reofferForgotten
      case .refused: bug == .parkedForgotten
      }
    }
    var isDurable = false
    while true {
      let ((outcome, rest), needsSynchronize) = try perform { group in
        try group.checkHub(epoch)
        return try Acknowledging(log: group.log, group: group).record(left, epoch: epoch)
      }
      isDurable = isDurable || needsSynchronize
      total.reoffered += outcome.reoffered
      total.holdUntil = max(total.holdUntil, outcome.holdUntil)
      total.parked += outcome.parked
      guard let rest else { return (total, isDurable) }
      left = rest
    }
  }

  mutating func apply(_ feed: CommitSegment, epoch: Identity) throws -> (FeedOutcome, isDurable: Bool) {
    let policy = policy
    var total = FeedOutcome()
    var isDurable = false
    while true {
      let (outcome, needsSynchronize) = try perform { try $0.apply(feed, epoch: epoch, policy: policy) }
      isDurable = isDurable || needsSynchronize
      total.commits += outcome.commits
      total.changes += outcome.changes
      total.bytes += outcome.bytes
      total.conflicts += outcome.conflicts
      total.resolutions += outcome.resolutions
      if outcome.isComplete { return (total, isDurable) }
    }
  }

  /// Returns how many rows had to be offered, as the log no longer has their commits.
  @discardableResult
  mutating func rollBack(to cursor: Position, in space: Identity, shipped: Version, digest: Digest) throws -> Int {
    let lost = try LostHistory(after: cursor.version, shipped: shipped, state, in: self)
    var wanted: [OfferedRow] = []
    if lost.needsRows {
      wanted = rows.filter { lost.isInRowsOnly($0.value.row) }.map { key, held in
        OfferedRow(
          key: key, version: held.row.version, time: held.row.time, value: held.value,
          isOwn: held.row.serverVersion == 0)
      }
      wanted.sort { $0.key.lexicographicallyPrecedes($1.key) }
    }
    let offered = wanted
    _ = try perform { group in
      try group.offer(offered)
    }
    _ = perform { $0.append(lost.rollback(to: cursor, in: space, digest: digest, $0.state)) }
    return offered.count
  }

  mutating func becomeNewIncarnation(_ incarnation: Identity, restores: Bool) throws {
    _ = try perform { try $0.becomeNewIncarnation(incarnation, restores: restores) }
  }

  mutating func recordRestored(through version: Version?, declined: [Version]) throws {
    _ = try perform { try $0.recordRestored(through: version, declined: declined, from: $0.log) }
  }

  /// Takes a commit off the list of those that were refused: a new one has what was in it.
  mutating func retried(_ version: Version) throws {
    guard let record = parked[version] else { return }
    _ = try perform {
      try $0.append(UnparkedRecord(version: version, bytes: UInt64(record.payloadBytes), fate: .retried))
    }
  }
}

// For scripts in which nothing can fail.
extension ModelStore {
  /// The space and its epoch are new here.
  mutating func follow(_ cursor: Position, in space: Identity, shipped: Version) {
    do { try rollBack(to: cursor, in: space, shipped: shipped, digest: state.shippedDigest) } catch {
      preconditionFailure("\(error)")
    }
  }

  mutating func nextPush(after: Version, maximumBytes: Int) -> PushSegment? {
    do { return try pushSegment(after: after, maximumBytes: maximumBytes) } catch { preconditionFailure("\(error)") }
  }
}

/// Rows for finding out what of a commit travels.
private final class ScreenedRows: RowLookup {
  private let store: ModelStore

  init(_ store: ModelStore) { self.store = store }

  func row(of key: RawSpan) -> Row? { store.rows[key.copied()]?.row }

  func voidThrough(of key: [UInt8]) -> Version {
    store.bug == .voidChangeShipped ? 0 : store.voids[key] ?? 0
  }
}

// MARK: - Writing

/// The log behind a group: what the group adds lies beyond the limit that its readers state.
struct GroupLog: CommitLog {
  fileprivate let group: ModelGroup

  func floor() -> Version { group.store.logFloor }

  func withStream<Result>(
    after version: Version, through limit: LogPosition, _ body: (inout ModelStore.Reader) throws -> Result
  ) throws -> Result {
    try group.store.withStream(after: group.hidesLog ? limit.version : version, through: limit, body)
  }
}

/// A group of commits on its way into a model store.
final class ModelGroup: WriteGroup {
  fileprivate(set) var store: ModelStore
  let published: StoreState
  private(set) var needsSynchronize = false
  private(set) var byteCount = 0
  private var open: (header: CommitHeader, changes: [UInt8])?
  /// Bugs: what was decided of a replica is not stored with its effects.
  var forgetsProgress = false
  /// What is in the log is not compared with what comes.
  var hidesLog = false

  fileprivate init(_ store: ModelStore) {
    self.store = store
    published = store.state
  }

  var path: String { "simulation" }
  var state: StoreState { store.state }
  var log: GroupLog { GroupLog(group: self) }
  var marks: CommitMarks { store.marks }
  var byteCountOfOpenCommit: Int? { open.map { $0.changes.count + CommitView.coreHeaderByteCount } }

  func now() -> HybridTime {
    HybridClock.next(
      after: state.lastTime, wall: store.wall, salt: UInt64(store.salts.below(Int(HybridClock.saltBound))))
  }

  // MARK: Commits

  func beginCommit(time: HybridTime?, flags: CommitFlags) {
    open = (
      CommitHeader(
        version: state.version + 1, serverVersion: 0, origin: state.incarnation, originVersion: state.version + 1,
        time: time ?? now(), flags: flags, changeCount: 0), []
    )
  }

  func put(key: RawSpan, value: RawSpan) throws { change(key.copied(), value.copied()) }

  func delete(key: RawSpan) throws { change(key.copied(), nil) }

  fileprivate func change(_ key: [UInt8], _ value: [UInt8]?) {
    guard var commit = open else { preconditionFailure("a change belongs to an open commit") }
    commit.changes.append(value == nil ? 1 : 0)
    commit.changes.append(littleEndian: UInt16(key.count))
    commit.changes.append(littleEndian: UInt32(value?.count ?? 0))
    commit.changes += key
    commit.changes += value ?? []
    commit.header.changeCount += 1
    open = commit
    store.set(key, value ?? [], Row(commit.header, isTombstone: value == nil))
  }

  @discardableResult
  func endCommit() -> Version {
    guard let commit = open, commit.header.changeCount > 0 else { return state.version }
    open = nil
    let header = commit.header
    var core: [UInt8] = []
    core.append(header.origin)
    core.append(littleEndian: header.originVersion)
    core.append(littleEndian: header.time.rawValue)
    core.append(littleEndian: header.flags.rawValue)
    core.append(littleEndian: UInt16(0))
    core.append(littleEndian: UInt32(header.changeCount))
    core += commit.changes
    append(header, core, payloadBytes: commit.changes.count - header.changeCount * ChangeEncoding.headerByteCount)
    return header.version
  }

  func append(core bytes: RawSpan, of header: CommitHeader, serverVersion: Version, payloadBytes: Int) -> CommitHeader {
    var own = header
    own.version = state.version + 1
    own.serverVersion = serverVersion
    append(own, bytes.copied(), payloadBytes: payloadBytes)
    return own
  }

  private func append(_ header: CommitHeader, _ core: [UInt8], payloadBytes: Int) {
    store.append(header, core, payloadBytes)
    byteCount += core.count
    needsSynchronize = true
  }

  func putRow(_ key: RawSpan, _ value: RawSpan, isDeletion: Bool, of header: CommitHeader) throws {
    store.set(key.copied(), value.copied(), Row(header, isTombstone: isDeletion))
  }

  func putKnown(_ version: Version, of author: Identity) throws { store.setKnown(version, of: author) }

  func known(of author: Identity) throws -> Version { store.known[author] ?? 0 }

  // MARK: Records

  func append(_ record: some StoreRecord) throws {
    try record.apply(to: &store.state)
    store.keep(record)
    needsSynchronize = true
  }

  func append(_ record: AcknowledgementRecord, durably: Bool) {
    store.state.acknowledged(record)
    needsSynchronize = needsSynchronize || durably
  }

  func append(_ record: SuccessionRecord) throws { store.state.succeeded(record) }

  func append(_ record: CursorRecord) { store.state.advanced(record) }

  func append(_ progress: ReplicaProgress) throws {
    if !forgetsProgress { store.keep(progress) }
    needsSynchronize = true
  }

  func append(_ record: IncarnationRecord) throws {
    store.setKnown(record.through, of: state.incarnation)
    store.state.began(record)
    needsSynchronize = true
  }

  func append(_ record: RollbackRecord) {
    store.state.rolledBack(record)
    needsSynchronize = true
  }

  func append(_ record: SubscriptionRecord) {
    store.state.subscribed(record)
    needsSynchronize = true
  }

  func append(_ record: RestoredRecord) {
    store.state.restored(through: record.through)
    needsSynchronize = true
  }

  func pruneJournal() throws {}

  // MARK: Reading

  /// The rows are not looked at: nothing is stale.
  var isBlind = false

  func withRow<Result>(_ key: RawSpan, _ body: (Row, _ value: RawSpan) throws -> Result) throws -> Result? {
    guard !isBlind, let held = store.rows[key.copied()] else { return nil }
    return try body(held.row, held.bytes.bytes)
  }

  func row(of key: RawSpan) throws -> Row? { isBlind ? nil : store.rows[key.copied()]?.row }

  func voidThrough(of key: [UInt8]) throws -> Version { store.voids[key] ?? 0 }

  func progress(of replica: Identity) throws -> ReplicaProgress? { hidesLog ? nil : store.progress[replica] }

  func isParked(_ version: Version) throws -> Bool { store.parked[version] != nil }

  func mergeBases(of contests: [Contest]) throws -> [[UInt8]: MergeBase] { [:] }
}

extension ModelStore {
  fileprivate mutating func set(_ key: [UInt8], _ bytes: [UInt8], _ row: Row) {
    rows[key] = HeldRow(row: row, bytes: bytes)
  }

  fileprivate mutating func setKnown(_ version: Version, of author: Identity) { known[author] = version }

  fileprivate mutating func keep(_ replica: ReplicaProgress) { progress[replica.replica] = replica }

  fileprivate mutating func keep(_ record: some StoreRecord) {
    switch record {
    case let conflict as ConflictRecord:
      if conflict.voidThrough > 0 { voids[conflict.key] = conflict.voidThrough }
      if bug != .conflictUnrecorded { conflicts.append(conflict) }
    case let record as ParkedRecord: parked[record.version] = record
    case let record as UnparkedRecord: parked[record.version] = nil
    default: preconditionFailure("no such record is written here")
    }
  }

  fileprivate mutating func append(_ header: CommitHeader, _ core: [UInt8], _ payloadBytes: Int) {
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
