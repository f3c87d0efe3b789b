// The replica's side of a snapshot: merges a page of the hub's rows into what is here.
//
// Of the keys of a page the store has afterwards what the hub had, and what was written here and is pending. A key that is not
// in the page has no value on the hub: clean here, it is deleted here too; pending, it stays, and is pushed. A pending change
// meets the hub's row as it would meet a change in a feed, unless that row is one that was seen before it was written. Deletions
// come along for those that have something pending, which may meet them; they leave nothing else behind. Who had nothing pending when
// it asked, and has now, asks again.
//
// Invariants
// - Only what differs is recorded: the same page twice changes nothing.
// - A page is applied in key order, in as many groups as its size, and that of what is here, call for; what is covered says how far it has come, in the
//   same durable step as the rows.
// - With no row here in the page's range, the hub's record is taken as it is.

package import KVLog

extension Store {
  /// Applies a page, resolves conflicts with pending changes, and notes what is covered now. Durable when it returns.
  package func load(_ page: SnapshotPage, policy: ConflictPolicy) async throws -> FeedOutcome {
    var total = FeedOutcome()
    let token = lease
    while true {
      let outcome = try await perform { [path] group in
        try group.checkLease(token)
        do {
          return try group.load(page, policy)
        } catch let error as LogFormatError {
          throw StoreError(.replication, "what the hub sent is not a page of rows: \(error).", path: path)
        }
      }
      total.add(outcome)
      if outcome.isComplete { return total }
    }
  }

  /// The hub no longer keeps what follows on what this store has of it: everything is to be loaded again, and merged with what
  /// is here. Durable when it returns. Returns where the store stands.
  package func lapse() async throws -> ReplicaState {
    let token = lease
    try await perform { group in
      try group.checkLease(token)
      group.lapse()
    }
    return replicaState()
  }
}

extension WriteGroup {
  func lapse() {
    var subscription = state.subscription
    subscription.lapse(from: state.cursor)
    append(SubscriptionRecord(subscription))
  }

  func load(_ page: SnapshotPage, _ policy: ConflictPolicy) throws -> FeedOutcome {
    try checkHub(page.position.identity)
    var outcome = FeedOutcome()
    // What an earlier group has recorded of it is covered, and what is no longer wanted is not loaded.
    let rest = Coverage([page.interval]).intersection(state.subscription.missing)
    guard let interval = rest.intervals.first else { return outcome }
    guard page.position.version >= state.cursor else {
      throw StoreError(
        .replication, "the hub sent a page of its version \(page.position.version) that does not fit what is here.")
    }
    outcome.lacksDeletions = state.hasPending && !page.isWithDeletions && page.position.version > 0
    guard !outcome.lacksDeletions else { return outcome }
    var merge = PageMerge(page: page, interval: interval, state: state)
    if try interval == page.interval && page.record.count < StoreLimits.feedBytes && !state.hasPending
      && !page.hasDeletions && !hasRows(in: interval)
    {
      try takeAsItIs(page, &outcome)
    } else {
      // An empty page has nothing to say of what is pending: an empty hub takes a backlog, however long, at once.
      if !(page.record.isEmpty && state.hasNothingButPending) {
        try merge.run(self, policy)
        try record(&merge, policy, &outcome)
      }
      outcome.isComplete = merge.isComplete && rest.intervals.count == 1
    }
    append(CursorRecord(page.position))
    var subscription = state.subscription
    subscription.loaded(KeyInterval(from: interval.from, end: merge.end))
    append(SubscriptionRecord(subscription))
    try pruneJournal()
    return outcome
  }

  private func takeAsItIs(_ page: SnapshotPage, _ outcome: inout FeedOutcome) throws {
    guard let commit = try page.commit() else { return }
    try append(rows: commit, in: page.record.bytes, serverVersion: page.position.version)
    outcome.changes = commit.header.changeCount
    outcome.bytes = commit.payloadBytes
  }

  private func record(_ merge: inout PageMerge, _ policy: ConflictPolicy, _ outcome: inout FeedOutcome) throws {
    guard !merge.rows.isEmpty else { return }
    let record = merge.rows.record(of: merge.page.position)
    let bytes = record.bytes
    let taken = SnapshotPage(position: merge.page.position, interval: merge.interval, record: record)
    guard let commit = try taken.commit() else { return }
    let header = try append(rows: commit, in: bytes, serverVersion: merge.page.position.version)
    outcome.changes = header.changeCount
    outcome.bytes = commit.payloadBytes
    try resolve(&merge.contests.all, policy)
    outcome.conflicts = merge.contests.all.count { $0.outcome.isJournaled }
    outcome.resolutions = merge.contests.all.count { $0.resolution != nil }
  }

  private func hasRows(in interval: KeyInterval) throws -> Bool {
    try withRows(in: KeyRange(interval)) { try $0.advance() }
  }

  /// Appends rows that the hub had at its version `serverVersion`, and writes them; returns the commit under its own version.
  @discardableResult
  func append(rows commit: CommitView, in bytes: RawSpan, serverVersion: Version) throws -> CommitHeader {
    let header = append(
      core: bytes.extracting(commit.core), of: commit.header, serverVersion: serverVersion,
      payloadBytes: commit.payloadBytes)
    var changes = ChangeCursor(commit)
    var origins = RowOriginCursor(commit, in: bytes)
    while let change = try changes.next(in: bytes) {
      let own = header.ofRow(try origins.next(in: bytes))
      try putRow(bytes.extracting(change.key), bytes.extracting(change.value), isDeletion: change.isDeletion, of: own)
    }
    return header
  }
}

/// Goes along the rows of a page and the rows that are here, in key order.
private struct PageMerge {
  let page: SnapshotPage
  /// The part of the page that is not covered yet.
  let interval: KeyInterval
  let state: StoreState
  /// The page has this store's commits through there, under whatever name.
  private let applied: Version
  /// What is to be recorded.
  var rows = RowsBuilder()
  var contests = Contests()
  /// Where the part ends that was gone through; nil: with the last of all keys.
  var end: [UInt8]?
  var isComplete = true
  /// Rows here that are not in the page and were gone through.
  private var passed = 0

  init(page: SnapshotPage, interval: KeyInterval, state: StoreState) {
    self.page = page
    self.interval = interval
    self.state = state
    applied = max(page.applied, state.lineage.map(\.through).max() ?? 0)
    end = interval.end
  }

  mutating func run(_ group: some WriteGroup, _ policy: ConflictPolicy) throws {
    let page = page
    try group.withRows(in: KeyRange(interval)) { local in
      var isAtRow = try local.advance()
      let bytes = page.record.bytes
      let range = Coverage([interval])
      if let commit = try page.commit() {
        var changes = ChangeCursor(commit)
        var origins = RowOriginCursor(commit, in: bytes)
        while let change = try changes.next(in: bytes) {
          let origin = try origins.next(in: bytes)
          let key = bytes.extracting(change.key)
          guard isComplete, range.contains(key) else { continue }
          // The rows here that come before it are not on the hub.
          while isAtRow, isComplete {
            guard try local.compare(with: key) < 0 else { break }
            try local.withRow { own, row in try passLocal(own, row, group) }
            isAtRow = try local.advance()
          }
          guard isComplete else { continue }
          if try isAtRow && local.compare(with: key) == 0 {
            let row = try local.withRow { _, row in row }
            try meet(change, origin, in: bytes, row, group, policy) { try local.value() }
            isAtRow = try local.advance()
          } else if !change.isDeletion {
            rows.append(key: key, value: bytes.extracting(change.value), isDeletion: false, origin)
          }
          closeIfFull(after: key)
        }
      }
      while isAtRow, isComplete {
        try local.withRow { own, row in try passLocal(own, row, group) }
        isAtRow = try local.advance()
      }
    }
  }

  private mutating func closeIfFull(after key: RawSpan) {
    guard
      rows.byteCount + contests.bytes >= StoreLimits.feedBytes || rows.isFull || passed >= StoreLimits.lookedAtPerPage
    else { return }
    isComplete = false
    end = key.copied() + [0]
  }

  /// Whether the hub took this store's change after it had read the page: nobody else's was there to stand against it.
  private func isLater(_ row: Row, _ group: some WriteGroup) throws -> Bool {
    try row.serverVersion == 0 && row.version > applied && !group.isParked(row.version)
  }

  /// A key that has no value on the hub.
  private mutating func passLocal(_ key: RawSpan, _ row: Row, _ group: some WriteGroup) throws {
    passed += 1
    if !row.isTombstone, !state.isPending(row), try !isLater(row, group) {
      rows.append(
        key: key, value: RawSpan(), isDeletion: true,
        RowOrigin(serverVersion: page.position.version, time: row.time, author: page.position.identity))
    }
    closeIfFull(after: key)
  }

  /// A key that has a row on both sides.
  private mutating func meet(
    _ change: ChangeView, _ origin: RowOrigin, in bytes: RawSpan, _ row: Row, _ group: some WriteGroup,
    _ policy: ConflictPolicy, localValue: () throws -> [UInt8]
  ) throws {
    let key = bytes.extracting(change.key)
    let value = bytes.extracting(change.value)
    guard state.isPending(row) else {
      if try isLater(row, group) { return }
      let isSame =
        row.isTombstone == change.isDeletion
        && (row.isTombstone || row.serverVersion == origin.serverVersion && row.time == origin.time)
      if !isSame { rows.append(key: key, value: value, isDeletion: change.isDeletion, origin) }
      return
    }
    // What was written here follows on what this store has pushed, and on what it had seen.
    guard origin.author != state.incarnation, !state.subscription.hasSeen(key, at: origin.serverVersion) else { return }
    let header = CommitHeader(
      version: state.version + 1, serverVersion: origin.serverVersion, origin: origin.author, originVersion: 0,
      time: origin.time, flags: [], changeCount: 1)
    contests.add(
      Contest(change, of: header, isEarlier: false, in: bytes, local: row, localValue: try localValue()), policy)
    rows.append(key: key, value: value, isDeletion: change.isDeletion, origin)
  }
}
