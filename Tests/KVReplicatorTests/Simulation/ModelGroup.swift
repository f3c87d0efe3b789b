// A group of commits on its way into a model store: what the rules of KVStore write through.
//
// Invariants
// - It holds the store while it is open, and the store takes back what the group made of it (`ModelStore.perform`).
// - What the group adds to the log lies beyond the limit that the readers of that log state.

import KVLog
import TestSupport

@testable import KVStore

/// The log behind a group: what the group adds lies beyond the limit that its readers state.
struct GroupLog: CommitLog {
  let group: ModelGroup

  func floor() -> Version { group.store.logFloor }

  func withStream<Result>(
    after version: Version, through limit: LogPosition, _ body: (inout ModelStore.Reader) throws -> Result
  ) throws -> Result {
    try group.store.withStream(after: group.hidesLog ? limit.version : version, through: limit, body)
  }
}

/// A range of a model store's rows, in key order.
struct ModelRows: RowWalk {
  private let rows: [(key: [UInt8], held: ModelStore.HeldRow)]
  private var index = -1

  init(_ rows: [[UInt8]: ModelStore.HeldRow], in range: KeyRange) {
    self.rows = rows.filter { row in
      row.key.lexicographicallyPrecedes(range.lower ?? []) == false
        && range.upper.map { row.key.lexicographicallyPrecedes($0) } ?? true
    }.map { (key: $0.key, held: $0.value) }.sorted { $0.key.lexicographicallyPrecedes($1.key) }
  }

  var current: (key: [UInt8], held: ModelStore.HeldRow) { rows[index] }

  mutating func advance() -> Bool {
    index += 1
    return index < rows.count
  }

  func compare(with key: RawSpan) -> Int {
    let own = rows[index].key
    return own.bytes.compare(key)
  }

  func withRow<Result>(_ body: (_ key: RawSpan, Row) throws -> Result) throws -> Result {
    let key = rows[index].key
    return try body(key.bytes, rows[index].held.row)
  }

  func value() -> [UInt8] { rows[index].held.bytes }
}

/// A group of commits on its way into a model store.
final class ModelGroup: WriteGroup {
  private(set) var store: ModelStore
  let published: StoreState
  private(set) var needsSynchronize = false
  private(set) var byteCount = 0
  private var open: (header: CommitHeader, changes: [UInt8])?
  /// Bugs: what was decided of a replica is not stored with its effects.
  var forgetsProgress = false
  /// What is in the log is not compared with what comes.
  var hidesLog = false

  init(_ store: ModelStore) {
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

  func change(_ key: [UInt8], _ value: [UInt8]?) {
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
    store.state.restored(record)
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

  func withRows<Result>(in range: KeyRange, _ body: (inout ModelRows) throws -> Result) throws -> Result {
    var rows = ModelRows(store.rows, in: range)
    return try body(&rows)
  }

  func row(of key: RawSpan) throws -> Row? { isBlind ? nil : store.rows[key.copied()]?.row }

  func voidThrough(of key: [UInt8]) throws -> Version { store.voids[key] ?? 0 }

  func progress(of replica: Identity) throws -> ReplicaProgress? { hidesLog ? nil : store.progress[replica] }

  func isParked(_ version: Version) throws -> Bool { store.parked[version] != nil }

  func mergeBases(of contests: [Contest]) throws -> [[UInt8]: MergeBase] { [:] }
}
