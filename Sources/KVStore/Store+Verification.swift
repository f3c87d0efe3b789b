// Verification: every checksum, the log's chain, and the log against the rows.
//
// What is checked
// - The index's file: every page and the free list, without liblmdb, which answers damage by aborting.
// - The log: each block's checksum, contiguous versions, each link of the digest chain, from the oldest segment on.
// - The rows: each row's checksum, order of keys, the count of live keys.
// - Conflict journal, parked commits, counters, progress of replicas: the checksum of each entry, and that it reads as what it is.
// - Log against rows: the newest change of each key that the log still has is the key's row, and no row claims a version
//   of the retained log that the log does not have for it.

public import KVLog
import LMDB

/// What ``Store/verify(at:options:progress:)`` looked at, all as of one version.
public struct VerificationReport: Sendable, Equatable {
  /// Commits in the log.
  public var commits = 0
  /// Their changes.
  public var changes = 0
  /// Files of the log.
  public var logSegments = 0
  /// Their bytes, pre-written space included.
  public var logBytes = 0
  /// Keys that have a value.
  public var keys = 0
  /// Rows of keys that were deleted and whose deletion is still in the log.
  public var tombstones = 0
  /// The oldest version that the log still holds.
  public var firstVersion: Version = 0
  /// The newest version.
  public var lastVersion: Version = 0
  /// The log's digest at `lastVersion`.
  public var digest: Digest = .zero

  /// Creates a report of an empty store.
  public init() {}
}

extension Store {
  /// Checks a store without changing its data, beside other processes that write to it; in the process that has it open it
  /// throws `inUse`. Like opening read-only it takes a reader's slot in `index.mdb-lock` and needs write permission to
  /// that one file, except on a read-only mount. Memory does not grow with the store.
  ///
  /// Blocks the calling thread for as long as reading the whole store takes. `progress` is called on it now and then with
  /// the number of changes and rows checked. Of `options` only what concerns reading counts.
  ///
  /// Throws ``StoreError``: `corrupt` with what is wrong and where, or what ``open(at:options:)`` throws.
  public static func verify(
    at path: String, options: Options = Options(), progress: (Int) -> Void = { _ in }
  ) throws -> VerificationReport {
    do {
      let directory = StoreDirectory(path: path)
      guard try directory.content() == .store else { throw noStore(path) }
      return try verify(directory, directory.readManifest(), options, progress)
    } catch {
      throw StoreError.published(error, path: path)
    }
  }

  /// What `progress` throws ends it.
  static func verify(
    _ directory: StoreDirectory, _ manifest: StoreManifest, _ options: Options, _ progress: (Int) throws -> Void
  ) throws -> VerificationReport {
    try directory.checkParts(manifest)
    try checkPages(directory)
    let store = try view(directory, manifest, options)
    return try store.read { snapshot in
      var verifier = try Verifier(store: store, snapshot: snapshot)
      try verifier.checkRows(progress)
      try verifier.checkHiddenRows()
      try verifier.checkEntries()
      try verifier.checkLog(progress)
      return verifier.report
    }
  }

  private static func checkPages(_ directory: StoreDirectory) throws {
    var options = LMDBEnvironment.Options(mapSizeBytes: StoreLimits.indexMapBytes)
    options.mapGrows = true
    options.readOnly = true
    _ = try LMDBEnvironment(path: directory.index, options: options).verify()
  }
}

private struct Verifier {
  let store: Store
  let snapshot: Snapshot
  let state: StoreState
  var report = VerificationReport()
  private var checked = 0
  /// Rows of versions that the retained log must have.
  private var rowsInLog = 0

  init(store: Store, snapshot: Snapshot) throws {
    self.store = store
    self.snapshot = snapshot
    state = try snapshot.state
    let segments = try SegmentDirectory.segments(store.configuration)
    report.logSegments = segments.count
    report.logBytes = segments.reduce(0) { $0 + Int($1.bytes) }
    report.firstVersion = segments.first?.firstVersion ?? 1
    report.lastVersion = state.version
    report.digest = state.position.digest
  }

  mutating func checkRows(_ progress: (Int) throws -> Void) throws {
    var previous: [UInt8] = []
    try snapshot.forEachRow { key, row, _ in
      guard previous.isEmpty || previous.bytes.compare(key) < 0 else {
        throw corrupt("keys are out of order at \(text(key))")
      }
      previous = key.copied()
      guard row.version > 0, row.version <= state.version else {
        throw corrupt("the row of key \(text(key)) has version \(row.version), and the log ends at \(state.version)")
      }
      if row.version >= report.firstVersion { rowsInLog += 1 }
      if row.isTombstone { report.tombstones += 1 } else { report.keys += 1 }
      try step(progress)
      return true
    }
    let counted = try snapshot.liveKeys()
    guard counted == report.keys else {
      throw corrupt("\(report.keys) keys have a value, but \(counted) are counted")
    }
  }

  /// What a newer row of the log hides in the index is not read, but it must be whole: folding and counting look at it.
  func checkHiddenRows() throws {
    guard snapshot.sources.count > 1, let index = snapshot.sources.last else { return }
    let folded = Snapshot(sources: [index], start: state, path: store.path)
    try folded.forEachRow { _, _, _ in true }
  }

  func checkEntries() throws {
    try checkJournal()
    var parked: (commits: UInt64, bytes: UInt64) = (0, 0)
    try checkEntries(\.parked) { key, payload in
      let head = try ParkedHead(decoding: payload)
      guard ParkedRecord.identifier(head.version) == key.copied(), head.version <= state.version else {
        throw corrupt("a commit of version \(head.version) is parked in another's place")
      }
      try head.checkChanges(in: payload)
      parked.commits += 1
      parked.bytes += UInt64(head.view.payloadBytes)
    }
    guard parked == (state.parkedCommits, state.parkedBytes) else {
      throw corrupt(
        "\(parked.commits) commits with \(parked.bytes) bytes are parked, but \(state.parkedCommits) with "
          + "\(state.parkedBytes) are counted")
    }
    try checkEntries(\.voids) { key, payload in
      guard payload.byteCount == 8, payload.load(UInt64.self, at: 0) <= state.version else {
        throw corrupt("what is void of key \(text(key)) is no version")
      }
    }
    try checkEntries(\.state) { key, payload in
      if let step = SuccessionRecord.Step(key: key), step.version > step.successor || step.successor > state.version {
        throw corrupt("commit \(step.version) is said to be carried on by \(step.successor)")
      }
      guard key.copied().starts(with: Tables.progress) else { return }
      let progress = try ReplicaProgress(decoding: payload)
      guard Tables.progress(of: progress.replica) == key.copied() else {
        throw corrupt("what is known of replica \(progress.replica) lies in another's place")
      }
    }
  }

  private func checkJournal() throws {
    var (entries, bytes, open): (UInt64, UInt64, UInt64) = (0, 0, 0)
    try checkEntries(\.conflicts) { key, payload in
      let record = try ConflictRecord(decoding: payload)
      guard record.identifier == key.copied(), record.commitVersion <= state.version else {
        throw corrupt("the conflict journal has an entry of version \(record.commitVersion) in another's place")
      }
      if record.isOpen {
        open += 1
        guard try snapshot.withEntry(\.unresolved, record.identifier, { _ in true }) == true else {
          throw corrupt("the conflict at version \(record.commitVersion) is not listed among those that wait")
        }
      } else {
        entries += 1
        bytes += UInt64(payload.byteCount)
      }
    }
    var listed: UInt64 = 0
    try checkEntries(\.unresolved) { _, _ in listed += 1 }
    guard entries == state.journal.entries, bytes == state.journal.bytes, open == state.unresolvedConflicts,
      listed == open
    else {
      throw corrupt(
        "the journal has \(entries) entries of \(bytes) bytes, and \(open) that wait for a decision; "
          + "\(state.journal.entries) of \(state.journal.bytes) are counted, and \(state.unresolvedConflicts)")
    }
  }

  private func checkEntries(
    _ table: KeyPath<Tables, Table>, _ check: (_ key: RawSpan, _ payload: RawSpan) throws -> Void
  ) throws {
    let cursors = try snapshot.sources.map { try $0.reader.cursor($0.tables[keyPath: table]) }
    var cursor = try MergeCursor(cursors, .sealed, range: KeyRange(), isReversed: false)
    while try cursor.advance() {
      try cursor.withEntry { key, entry in
        let count = try Sealed.payloadBytes(entry, key: key, path: store.path)
        // Where entries can go, an empty one is gone.
        if count > 0 || table == \.state { try check(key, entry.extracting(0..<count)) }
      }
    }
  }

  mutating func checkLog(_ progress: (Int) throws -> Void) throws {
    _ = try LogVerification.run(store.configuration)
    var stream = try CommitStream(
      store.configuration, after: report.firstVersion - 1, through: state.position)
    var current = 0
    try stream.pass(through: state.position) { entry, bytes in
      report.commits += 1
      report.changes += entry.header.changeCount
      current += try checkCommit(entry, in: bytes)
      try step(progress)
      return true
    }
    let digest = try stream.digest
    guard stream.version == state.version, digest == state.position.digest else {
      throw corrupt(
        "the log's digest at version \(stream.version) is \(digest); the store recorded \(state.position.digest) at \(state.version)"
      )
    }
    guard current == rowsInLog else {
      throw corrupt("\(rowsInLog) rows name a version of the log, and the log confirms \(current) of them")
    }
  }

  /// Returns how many rows the commit accounts for.
  private func checkCommit(_ entry: CommitStream.Entry, in bytes: RawSpan) throws -> Int {
    var accounted = 0
    var changes = ChangeCursor(entry.view)
    /// A key that occurs twice in the commit has its last change as the row.
    var mismatched: [[UInt8]: Bool] = [:]
    while let change = try changes.next(in: bytes) {
      let key = bytes.extracting(change.key)
      let version = entry.header.version
      let verdict = try snapshot.withRow(key) { row, value -> Bool? in
        if row.version > version { return nil }
        guard row.version == version else {
          throw corrupt("key \(text(key)) has version \(row.version), and the log has a newer change at \(version)")
        }
        return row.isTombstone == change.isDeletion && value.isEqual(to: bytes.extracting(change.value))
      }
      switch verdict {
      case .none:
        // A deletion may have been swept with the log that other replicas needed it for.
        if !change.isDeletion { throw corrupt("key \(text(key)), written at version \(version), is missing") }
      case .some(.none): break
      case .some(.some(true)):
        if mismatched.updateValue(true, forKey: key.copied()) != true { accounted += 1 }
      case .some(.some(false)):
        if mismatched[key.copied()] == nil { mismatched[key.copied()] = false }
      }
    }
    if let key = mismatched.first(where: { !$0.value })?.key {
      throw corrupt("key \(text(key.bytes)) has another value than the log at version \(entry.header.version)")
    }
    return accounted
  }

  private mutating func step(_ progress: (Int) throws -> Void) throws {
    checked += 1
    if checked & 0xFFFF == 0 { try progress(checked) }
  }

  private func text(_ key: RawSpan) -> String {
    "\"\(String(decoding: key.copied().prefix(64), as: UTF8.self))\""
  }

  private func corrupt(_ what: String) -> StoreError {
    StoreError(.corrupt, "\(what). Restore from a backup, or from the hub.", path: store.path)
  }
}
