// One space in memory: the reference for `HubSpace`.
//
// Invariants:
// - `commits[i]` has version i + 1, `digests[i]` is the digest after i commits.
// - `rows` is what the commits add up to; `progress` says which commits of each replica have been decided.

import KVLog
import KVProtocol
import Synchronization

final class InMemorySpace: HubSpace {
  fileprivate struct Commit {
    var origin: Identity
    var mark: Digest
    var record: [UInt8]
    var changeCount: Int
    /// The version it had before the space was restored; 0: its author pushed it.
    var formerVersion: Version
  }

  fileprivate struct Row {
    var version: Version
    /// The version it had before the space was restored; 0: it was written since.
    var formerVersion: Version = 0
    var origin: Identity
    var time: HybridTime
    /// `nil`: deleted.
    var value: [UInt8]?
  }

  fileprivate struct Waiter {
    let id: UInt64
    let version: Version
    let continuation: CheckedContinuation<Version, any Error>
  }

  fileprivate struct Epoch {
    var position: Position
    /// The version at which the next one began.
    var until: Version
  }

  fileprivate struct State {
    var epoch: Identity
    var formerEpochs: [Epoch] = []
    var commits: [Commit] = []
    var digests: [Digest]
    var rows: [[UInt8]: Row] = [:]
    var progress: [Identity: ReplicaProgress] = [:]
    /// Marks of commits that somebody has brought back, or tried to.
    var matched: Set<Digest> = []
    var owners = ReplicaOwners()
    var waiters: [Waiter] = []
    var nextID: UInt64 = 0
    var isClosed = false
    /// What came before is still there, and no longer given to anybody.
    var floor: Version = 0

    var head: Version { Version(commits.count) }
  }

  private let state: Mutex<State>

  init(epoch: Identity) {
    state = Mutex(State(epoch: epoch, digests: [.origin(of: epoch)]))
  }

  /// What a copy of the space made now would be.
  init(copying space: InMemorySpace) {
    var copy = space.state.withLock { $0 }
    copy.waiters = []
    state = Mutex(copy)
  }

  // MARK: Reading

  func head() -> Position {
    state.withLock { Position(identity: $0.epoch, version: $0.head, digest: $0.digests[$0.commits.count]) }
  }

  func retentionFloor() -> Version { state.withLock { $0.floor } }

  /// Forgets the commits through `version`, and the deletions among them that still stand.
  func truncate(through version: Version) {
    state.withLock { state in
      state.floor = max(state.floor, min(version, state.head))
      let floor = state.floor
      state.rows = state.rows.filter { $0.value.value != nil || $0.value.version > floor }
    }
  }

  func formerEpochs() -> [Position] { state.withLock { $0.formerEpochs.map(\.position) } }

  func digest(at version: Version) -> Digest? {
    state.withLock { version >= $0.floor && version <= $0.head ? $0.digests[Int(version)] : nil }
  }

  func progress(of replica: Identity) -> ReplicaProgress? {
    state.withLock { $0.progress[replica] }
  }

  func owner(of replica: Identity, claimedBy principal: String?) throws -> String? {
    try state.withLock { try $0.owners.claim(replica, by: principal).owner }
  }

  func feedAtHand(_ request: FeedRequest, maximumBytes: Int) throws -> CommitSegment?? { nil }

  func feed(_ request: FeedRequest, maximumBytes: Int) throws -> CommitSegment? {
    try state.withLock { state in
      let start = request.after
      let end = min(request.through ?? state.head, state.head)
      guard start < end else { return nil }
      guard start >= state.floor || request.coverage.isEmpty else {
        throw HubStorageError.lapsed(floor: state.floor)
      }
      var feed = CommitSegment(after: start, through: start, digest: .zero, records: [], changeCount: 0)
      for commit in state.commits[Int(start)..<Int(end)] {
        let isPushed = commit.origin == request.replica && commit.formerVersion == 0
        if !isPushed || feed.through < request.ownThrough {
          if !feed.records.isEmpty, feed.records.count + commit.record.count > maximumBytes { break }
          let bytes = commit.record.bytes
          var records = RecordCursor(over: bytes)
          while let record = try records.next(in: bytes) {
            let view = try CommitView(payload: record.payload, in: bytes)
            try feed.append(view, record: record.record, within: request.coverage, in: bytes)
          }
        }
        feed.through += 1
      }
      feed.digest = state.digests[Int(feed.through)]
      return feed
    }
  }

  func page(of interval: KeyInterval, for replica: Identity, deletions: Bool, maximumBytes: Int) -> SnapshotPage {
    state.withLock { state in
      let position = Position(identity: state.epoch, version: state.head, digest: state.digests[state.commits.count])
      var page = SnapshotPage(
        position: position, applied: state.progress[replica]?.lastApplied ?? 0, interval: interval, record: [])
      let range = Coverage([interval])
      var rows = RowsBuilder()
      let live = state.rows.filter { row in
        guard deletions || row.value.value != nil else { return false }
        let key = row.key
        return range.contains(key.bytes)
      }
      for (key, row) in live.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
        guard rows.byteCount < maximumBytes else { break }
        let value = row.value ?? []
        rows.append(
          key: key.bytes, value: value.bytes, isDeletion: row.value == nil,
          RowOrigin(serverVersion: row.version, time: row.time, author: row.origin))
        page.interval.end = key + [0]
      }
      if rows.count == live.count { page.interval.end = interval.end }
      if !rows.isEmpty { page.record = rows.record(of: position) }
      return page
    }
  }

  func rows(after key: [UInt8]?, maximumBytes: Int) -> Rows {
    state.withLock { state in
      var page = Rows(
        version: state.head, digest: state.digests[state.commits.count], rows: [], isLast: true)
      var bytes = 0
      let live = state.rows.filter { row in
        row.value.value != nil && key.map { $0.lexicographicallyPrecedes(row.key) } ?? true
      }
      for (key, row) in live.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
        guard bytes < maximumBytes else {
          page.isLast = false
          break
        }
        let value = row.value ?? []
        page.rows.append(RowHash(key: key, hash: unsafe checksum128(value.span.bytes)))
        bytes += RowHash.byteCount(keyBytes: key.count)
      }
      return page
    }
  }

  func versions(of keys: [[UInt8]]) -> [Version?] {
    state.withLock { state in keys.map { state.rows[$0]?.version } }
  }

  // MARK: Waiting

  func advance(beyond version: Version) async throws -> Version {
    let id = state.withLock { state in
      state.nextID += 1
      return state.nextID
    }
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Version, any Error>) in
        state.withLock { state in
          if state.isClosed {
            continuation.resume(throwing: HubStorageError.closed)
          } else if Task.isCancelled {
            continuation.resume(throwing: CancellationError())
          } else if state.head > version {
            continuation.resume(returning: state.head)
          } else {
            state.waiters.append(Waiter(id: id, version: version, continuation: continuation))
          }
        }
      }
    } onCancel: {
      state.withLock { state in
        guard let index = state.waiters.firstIndex(where: { $0.id == id }) else { return }
        state.waiters.remove(at: index).continuation.resume(throwing: CancellationError())
      }
    }
  }

  func close() {
    state.withLock { state in
      state.isClosed = true
      for waiter in state.waiters { waiter.continuation.resume(throwing: HubStorageError.closed) }
      state.waiters = []
    }
  }

  // MARK: Admission

  func admit(
    _ push: PushSegment, from replica: Identity, confirmed: Version
  ) throws -> Acknowledgement {
    try state.withLock { state in
      guard !state.isClosed else { throw HubStorageError.closed }
      var progress = state.progress[replica] ?? ReplicaProgress(of: replica)
      guard push.segment.after <= progress.lastApplied,
        progress.digestKind == .log || push.segment.after == progress.lastApplied
      else {
        throw HubStorageError.gap(expected: progress.lastApplied)
      }
      guard !push.hasLapsed(floor: state.floor) else {
        throw HubStorageError.lapsed(floor: state.floor)
      }
      do throws(ProtocolError) {
        try push.segment.check(pushedBy: replica)
      } catch {
        throw HubStorageError.malformed("\(error)")
      }
      progress.confirm(through: confirmed)
      if push.segment.through > progress.lastApplied {
        try state.decide(push, &progress)
        progress.decided(push)
      }
      state.progress[replica] = progress
      state.wake()
      return Acknowledgement(
        through: progress.lastApplied, exceptions: progress.unconfirmed, head: state.head)
    }
  }
}

// MARK: - Restoration

extension InMemorySpace {
  func beginEpoch(after epoch: Identity, through version: Version) {
    beginEpoch(after: epoch, through: version, as: .random())
  }

  func beginEpoch(after epoch: Identity, through version: Version, as next: Identity) {
    state.withLock { state in
      guard state.epoch == epoch else { return }
      state.formerEpochs.append(
        Epoch(position: Position(identity: epoch, version: version, digest: .zero), until: state.head))
      state.epoch = next
    }
  }

  func restore(_ restoration: Restoration) throws -> RestorationOutcome {
    try state.withLock { state in
      guard !state.isClosed else { throw HubStorageError.closed }
      var outcome = RestorationOutcome(through: restoration.segment.through, declined: [], head: 0)
      try state.restore(restoration, &outcome)
      outcome.head = state.head
      state.wake()
      return outcome
    }
  }

  /// What the space loses when it is restored to `version`: everything after it.
  func rewind(to version: Version, _ progress: [Identity: ReplicaProgress]) {
    state.withLock { state in
      let lost = state.commits.count - Int(version)
      guard lost > 0 else { return }
      state.commits.removeLast(lost)
      state.digests.removeLast(lost)
      state.progress = progress
      state.rows = [:]
      state.replayRows()
    }
  }
}

extension InMemorySpace.State {
  fileprivate mutating func restore(_ restoration: Restoration, _ outcome: inout RestorationOutcome) throws {
    let bytes = unsafe restoration.segment.records.span.bytes
    var records = RecordCursor(over: bytes)
    var declined: Set<Identity> = []
    while let record = try records.next(in: bytes) {
      let commit = try CommitView(payload: record.payload, in: bytes)
      let header = commit.header
      var author = progress[header.origin] ?? ReplicaProgress(of: header.origin)
      let later = commits[min(Int(restoration.cursor), commits.count)...].filter { $0.origin == header.origin }
      // Not only among the later ones: who goes on under another name brings back what was never lost as well.
      let here = commits.filter { $0.mark == commit.mark(in: bytes) }
      if !here.isEmpty {
        matched.insert(commit.mark(in: bytes))
        let isWhole = here.contains { $0.changeCount >= header.changeCount }
        if !isWhole { outcome.declined.append(header.version) }
        continue
      }
      let lastMark = author.digestKind == .commit ? author.digest : later.last?.mark
      let isOfTheAuthor =
        header.originVersion > author.lastApplied && (later.isEmpty || lastMark.map(matched.contains) ?? false)
      let changes = try changes(of: commit, in: restoration.segment.records)
      let epochBegan = formerEpochs.last?.until ?? 0
      let isUnknown = changes.contains { change in
        guard let row = rows[change.key], row.origin != header.origin else { return false }
        let isOlder =
          row.version > epochBegan && row.formerVersion > 0 && row.formerVersion < header.serverVersion
        return row.time >= header.time || row.version > restoration.cursor && !isOlder
      }
      let isWanted = !declined.contains(header.origin) && !restoration.declined.contains(header.version)
      guard isOfTheAuthor, isWanted, !isUnknown else {
        declined.insert(header.origin)
        outcome.declined.append(header.version)
        continue
      }
      // Its author's copy brings it without: nobody pushes it, so everybody is fed it.
      let formerVersion = header.serverVersion > 0 ? header.serverVersion : ServerVersion.forgotten
      append(
        commit, core: Array(restoration.segment.records[commit.core]), mark: commit.mark(in: bytes),
        formerVersion: formerVersion)
      for change in changes {
        rows[change.key] = InMemorySpace.Row(
          version: head, formerVersion: formerVersion, origin: header.origin, time: header.time,
          value: change.value)
      }
      author.lastApplied = header.originVersion
      author.digest = commit.mark(in: bytes)
      author.digestKind = .commit
      matched.insert(author.digest)
      progress[header.origin] = author
    }
  }

  private func changes(of commit: CommitView, in records: [UInt8]) throws -> [(key: [UInt8], value: [UInt8]?)] {
    let bytes = unsafe records.span.bytes
    var changes: [(key: [UInt8], value: [UInt8]?)] = []
    var cursor = ChangeCursor(commit)
    while let change = try cursor.next(in: bytes) {
      changes.append((Array(records[change.key]), change.isDeletion ? nil : Array(records[change.value])))
    }
    return changes
  }

  fileprivate mutating func replayRows() {
    for (index, commit) in commits.enumerated() {
      let bytes = unsafe commit.record.span.bytes
      var records = RecordCursor(over: bytes)
      guard let record = try? records.next(in: bytes), let view = try? CommitView(payload: record.payload, in: bytes),
        let changes = try? changes(of: view, in: commit.record)
      else { preconditionFailure("a commit of the space can be read") }
      for change in changes {
        rows[change.key] = InMemorySpace.Row(
          version: Version(index + 1), origin: commit.origin, time: view.header.time, value: change.value)
      }
    }
  }

  fileprivate mutating func decide(_ push: PushSegment, _ progress: inout ReplicaProgress) throws {
    let bytes = unsafe push.segment.records.span.bytes
    var records = RecordCursor(over: bytes)
    var refusals = RefusalCursor(push.refusals)
    var messageRoom = progress.messageRoom
    while let record = try records.next(in: bytes) {
      let commit = try CommitView(payload: record.payload, in: bytes)
      // Decided before, and sent again.
      guard commit.header.version > progress.lastApplied else { continue }
      if let refusal = refusals.next(for: commit.header.version) {
        progress.refuse(refusal, messageRoom: &messageRoom)
        continue
      }
      let changes = try changes(of: commit, in: push.segment.records)
      let addsNothing =
        commit.header.flags.mayComeAgain
        && changes.allSatisfy { change in
          rows[change.key].map { $0.time == commit.header.time && $0.value == change.value } ?? false
        }
      if addsNothing { continue }
      let newer = changes.compactMap { change -> Version? in
        let key = change.key
        let seen = push.coverage.contains(key.bytes) ? push.cursor : 0
        guard let row = rows[change.key], row.origin != progress.replica, row.version > seen else { return nil }
        return row.version
      }
      if let newest = newer.max() {
        progress.unconfirmed.append(
          CommitException(version: commit.header.version, reason: .stale(hubVersion: newest)))
        continue
      }
      append(commit, core: Array(push.segment.records[commit.core]), mark: commit.mark(in: bytes))
      for change in changes {
        rows[change.key] = InMemorySpace.Row(
          version: head, origin: progress.replica, time: commit.header.time, value: change.value)
      }
    }
  }

  /// Stores the commit under the next version: the same core in an envelope of this space.
  private mutating func append(_ commit: CommitView, core: [UInt8], mark: Digest, formerVersion: Version = 0) {
    let version = head + 1
    var record: [UInt8] = []
    record.append(littleEndian: UInt32(16 + core.count))
    record.append(littleEndian: UInt32(RecordKind.commit.rawValue))
    record.append(littleEndian: version)
    record.append(littleEndian: Version(0))
    record.append(contentsOf: core)
    digests.append(unsafe digests[commits.count].chained(version: version, core: core.span.bytes))
    commits.append(
      InMemorySpace.Commit(
        origin: commit.header.origin, mark: mark, record: record, changeCount: commit.header.changeCount,
        formerVersion: formerVersion))
  }

  fileprivate mutating func wake() {
    let head = head
    let woken = waiters.filter { $0.version < head }
    waiters.removeAll { $0.version < head }
    for waiter in woken { waiter.continuation.resume(returning: head) }
  }
}
