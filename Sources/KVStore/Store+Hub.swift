// What a hub asks of the store that holds one of its spaces. The store's local version is the space's server version.

package import KVLog

/// Rows in key order, as digests, for comparing a replica with the hub.
package struct RowsPage: Sendable, Equatable {
  package struct Entry: Sendable, Equatable {
    package var key: [UInt8]
    /// XXH3-128 of the value.
    package var hash: Digest
  }

  package var version: Version
  package var digest: Digest
  package var rows: [Entry]
  package var isLast: Bool
}

extension Store {
  /// The newest published position.
  package func head() -> Position {
    let state = state
    return Position(identity: state.incarnation, version: state.version, digest: state.position.digest)
  }

  /// The oldest version after which the log can be read.
  package func floor() throws -> Version {
    let core = try core()
    return try published { try core.log.firstVersion - 1 }
  }

  /// What is published of a replica's progress; nil: never heard of it.
  package func progress(of replica: Identity) throws -> ReplicaProgress? {
    try read { snapshot in
      try snapshot.bytes(\.state, Tables.progress(of: replica)).map { try ReplicaProgress(decoding: $0.bytes) }
    }
  }

  /// Takes a replica's push, exactly once, durably when it returns. Throws ``AdmissionError`` or ``StoreError``.
  package func admit(
    _ push: PushSegment, from replica: Identity, confirmed: Version
  ) async throws -> Acknowledgement {
    try await perform { try $0.admit(push, from: replica, confirmed: confirmed) }
  }

  /// Published commits after `after` and not beyond `end`, as far as they lie within `coverage`, those left out that `replica`
  /// pushed after `ownThrough`; about `maximumBytes` at most unless one commit is larger. `through` covers what was left out
  /// too. nil at the end. Throws ``AdmissionError`` where the log begins later, or ``StoreError``.
  package func feedSegment(
    after: Version, through end: Version? = nil, excluding replica: Identity, after ownThrough: Version = 0,
    within coverage: Coverage = .all, maximumBytes: Int
  ) throws -> CommitSegment? {
    try shipOnlyDurable()
    let state = state
    let end = min(end ?? state.version, state.version)
    guard after < end else { return nil }
    let floor = try floor()
    guard after >= floor || coverage.isEmpty else { throw AdmissionError.lapsed(floor: floor) }
    return try feedSegment(state, after, end, replica, ownThrough, coverage, maximumBytes) {
      try withStream(after: after, through: state.position, $0)
    }
  }

  /// The same, if it is in memory; nil: it is not, and `feedSegment` may have to wait for a disk.
  package func feedSegmentAtHand(
    after: Version, through end: Version? = nil, excluding replica: Identity, after ownThrough: Version = 0,
    within coverage: Coverage = .all, maximumBytes: Int
  ) throws -> CommitSegment?? {
    guard let state = stateAtHand else { return nil }
    let end = min(end ?? state.version, state.version)
    guard after < end else { return .some(nil) }
    guard var stream = streamAtHand(after: after, state) else { return nil }
    let feed = try feedSegment(state, after, end, replica, ownThrough, coverage, maximumBytes) { try $0(&stream) }
    streams.put(stream)
    return feed
  }

  private func feedSegment(
    _ state: StoreState, _ after: Version, _ end: Version, _ replica: Identity, _ ownThrough: Version,
    _ coverage: Coverage, _ maximumBytes: Int, with lend: ((inout CommitStream) throws -> Void) throws -> Void
  ) throws -> CommitSegment {
    var feed = CommitSegment(after: after, through: after, digest: .zero, records: [], changeCount: 0)
    guard !coverage.isEmpty || end < state.version else {
      // Nothing of it is wanted, and the log need not have it.
      feed.through = state.version
      feed.digest = state.position.digest
      return feed
    }
    try published {
      try lend { stream in
        try stream.pass(through: state.position, to: end) { entry, bytes in
          let header = entry.header
          // What others brought back of the replica's, it may not know that the hub has.
          let isPushed = header.origin == replica && header.serverVersion == 0
          guard !isPushed || header.version <= ownThrough else { return true }
          if !feed.records.isEmpty, feed.records.count + entry.record.count > maximumBytes { return false }
          try feed.append(entry.view, record: entry.record, within: coverage, in: bytes)
          return true
        }
        feed.through = stream.version
        feed.digest = try stream.digest
      }
    }
    return feed
  }

  /// The versions of the newest changes of these keys, deletions too; nil where there is none.
  package func versions(of keys: [[UInt8]]) throws -> [Version?] {
    try read { snapshot in try keys.map { try snapshot.row(of: $0.bytes)?.version } }
  }

  /// The rows from the beginning of `interval` on, as of the newest version: about `maximumBytes` of them, at least one.
  package func page(
    of interval: KeyInterval, for replica: Identity, deletions: Bool = false, maximumBytes: Int
  ) throws -> SnapshotPage {
    try shipOnlyDurable()
    return try read { snapshot in
      let state = try snapshot.state
      let position = Position(identity: state.incarnation, version: state.version, digest: state.position.digest)
      let progress = try snapshot.bytes(\.state, Tables.progress(of: replica)).map { bytes in
        try ReplicaProgress(decoding: bytes.bytes)
      }
      var page = SnapshotPage(
        position: position, applied: progress?.lastApplied ?? 0, interval: interval, record: [])
      var rows = RowsBuilder()
      try snapshot.forEachRow(in: KeyRange(interval)) { key, row, value in
        guard deletions || !row.isTombstone else { return true }
        if rows.byteCount >= maximumBytes || rows.isFull {
          page.interval.end = key.copied()
          return false
        }
        rows.append(
          key: key, value: value, isDeletion: row.isTombstone,
          RowOrigin(serverVersion: row.version, time: row.time, author: row.origin))
        return true
      }
      if !rows.isEmpty { page.record = rows.record(of: position) }
      return page
    }
  }

  /// Live rows after `key` in key order.
  package func rowsPage(after key: [UInt8]?, maximumBytes: Int) throws -> RowsPage {
    try read { snapshot in
      let state = try snapshot.state
      var page = RowsPage(version: state.version, digest: state.position.digest, rows: [], isLast: true)
      var bytes = 0
      try snapshot.forEach(in: KeyRange(from: key.map { $0 + [0] })) { key, value in
        if bytes >= maximumBytes {
          page.isLast = false
          return false
        }
        page.rows.append(RowsPage.Entry(key: key.copied(), hash: checksum128(value)))
        bytes += key.byteCount + 18
        return true
      }
      return page
    }
  }
}
