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
    var record: [UInt8]
    var changeCount: Int
  }

  fileprivate struct Row {
    var version: Version
    var origin: Identity
    /// `nil`: deleted.
    var value: [UInt8]?
  }

  fileprivate struct Waiter {
    let id: UInt64
    let version: Version
    let continuation: CheckedContinuation<Version, any Error>
  }

  fileprivate struct State {
    var commits: [Commit] = []
    var digests: [Digest]
    var rows: [[UInt8]: Row] = [:]
    var progress: [Identity: ReplicaProgress] = [:]
    var waiters: [Waiter] = []
    var nextID: UInt64 = 0
    var isClosed = false

    var head: Version { Version(commits.count) }
  }

  private let epoch: Identity
  private let state: Mutex<State>

  init(epoch: Identity) {
    self.epoch = epoch
    state = Mutex(State(digests: [.origin(of: epoch)]))
  }

  // MARK: Reading

  func head() -> Position {
    state.withLock { Position(identity: epoch, version: $0.head, digest: $0.digests[$0.commits.count]) }
  }

  func retentionFloor() -> Version { 0 }

  func digest(at version: Version) -> Digest? {
    state.withLock { version <= $0.head ? $0.digests[Int(version)] : nil }
  }

  func progress(of replica: Identity) -> ReplicaProgress? {
    state.withLock { $0.progress[replica] }
  }

  func feed(after version: Version, excluding replica: Identity, maximumBytes: Int) -> CommitSegment? {
    state.withLock { state in
      guard version < state.head else { return nil }
      var feed = CommitSegment(after: version, through: version, digest: .zero, records: [], changeCount: 0)
      for commit in state.commits[Int(version)...] {
        if commit.origin != replica {
          if !feed.records.isEmpty, feed.records.count + commit.record.count > maximumBytes { break }
          feed.records.append(contentsOf: commit.record)
          feed.changeCount += commit.changeCount
        }
        feed.through += 1
      }
      feed.digest = state.digests[Int(feed.through)]
      return feed
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
    _ push: PushSegment, from replica: Identity, incarnation: Identity, confirmed: Version
  ) throws -> Acknowledgement {
    try state.withLock { state in
      guard !state.isClosed else { throw HubStorageError.closed }
      var progress =
        state.progress[replica]
        ?? ReplicaProgress(
          replica: replica, incarnation: incarnation, lastApplied: 0, digest: .origin(of: replica), unconfirmed: [])
      guard progress.incarnation == incarnation else { throw HubStorageError.incarnationChanged }
      guard push.segment.after <= progress.lastApplied else {
        throw HubStorageError.gap(expected: progress.lastApplied)
      }
      do throws(ProtocolError) {
        try push.segment.check(pushedBy: replica)
      } catch {
        throw HubStorageError.malformed("\(error)")
      }
      progress.unconfirmed.removeAll { $0.version <= confirmed }
      if push.segment.through > progress.lastApplied {
        try state.decide(push, &progress)
        progress.lastApplied = push.segment.through
        progress.digest = push.segment.digest
      }
      state.progress[replica] = progress
      state.wake()
      return Acknowledgement(
        through: progress.lastApplied, exceptions: progress.unconfirmed, head: state.head)
    }
  }
}

extension InMemorySpace.State {
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
      var changes: [(key: [UInt8], value: [UInt8]?)] = []
      var cursor = ChangeCursor(commit)
      while let change = try cursor.next(in: bytes) {
        changes.append(
          (Array(push.segment.records[change.key]), change.isDeletion ? nil : Array(push.segment.records[change.value]))
        )
      }
      let newer = changes.compactMap { change -> Version? in
        guard let row = rows[change.key], row.origin != progress.replica, row.version > push.cursor else { return nil }
        return row.version
      }
      if let newest = newer.max() {
        progress.unconfirmed.append(
          CommitException(version: commit.header.version, reason: .stale(hubVersion: newest)))
        continue
      }
      append(commit, core: Array(push.segment.records[commit.core]))
      for change in changes {
        rows[change.key] = InMemorySpace.Row(version: head, origin: progress.replica, value: change.value)
      }
    }
  }

  /// Stores the commit under the next version: the same core in an envelope of this space.
  private mutating func append(_ commit: CommitView, core: [UInt8]) {
    let version = head + 1
    var record: [UInt8] = []
    record.append(littleEndian: UInt32(16 + core.count))
    record.append(littleEndian: UInt32(RecordKind.commit.rawValue))
    record.append(littleEndian: version)
    record.append(littleEndian: Version(0))
    record.append(contentsOf: core)
    digests.append(unsafe digests[commits.count].chained(version: version, core: core.span.bytes))
    commits.append(
      InMemorySpace.Commit(origin: commit.header.origin, record: record, changeCount: commit.header.changeCount))
  }

  fileprivate mutating func wake() {
    let head = head
    let woken = waiters.filter { $0.version < head }
    waiters.removeAll { $0.version < head }
    for waiter in woken { waiter.continuation.resume(returning: head) }
  }
}
