// Scopes: the part of its space that a replica takes part in.

import KVLog

extension Store {
  /// The key prefixes that this store gets from its hub, in order; nil: everything, which is the default.
  public var scopes: [[UInt8]]? { state.subscription.scopes }

  /// Gets what begins with `prefix` from the hub, from the next session on; one that is under way begins anew for it. It comes
  /// as a snapshot, and stays up to date afterwards. The first scope limits a store that got everything: what is here besides
  /// stays as it is, and is no longer brought up to date (``evict()``). What is written outside of the scopes is pushed all
  /// the same; where it meets what somebody else wrote, those keys come here too, until the scopes change, and the conflict is
  /// resolved as any other.
  ///
  /// Durable when it returns. Throws ``StoreError``: `keyTooLong`, `keyEmpty`, `tooManyScopes` (256, or 8 KiB together),
  /// `readOnly`, `full`, `poisoned`, `closed`, `system`.
  public func addScope(_ prefix: some BytesConvertible) async throws {
    let prefix = prefix.withBytes { $0.copied() }
    try prefix.withBytes { try StoreLimits.check(key: $0) }
    try await subscribe { ($0 ?? []) + [prefix] }
  }

  /// Gets everything from the hub, as a store does by default. Durable, and throws, as with ``addScope(_:)``.
  public func removeAllScopes() async throws {
    try await subscribe { _ in nil }
  }

  /// Gets nothing more of what begins with `prefix`, which is one of ``scopes``; without the last one, nothing at all. What
  /// is here stays, and can be given up with ``evict()``. Nothing is deleted on the hub.
  ///
  /// Durable when it returns. Throws ``StoreError``: `noSuchEntry` (it is none), `readOnly`, `full`, `poisoned`, `closed`,
  /// `system`.
  public func removeScope(_ prefix: some BytesConvertible) async throws {
    let prefix = prefix.withBytes { $0.copied() }
    try await subscribe { [path] scopes in
      guard let scopes, scopes.contains(prefix) else {
        throw StoreError(
          .noSuchEntry,
          "\"\(String(decoding: prefix, as: UTF8.self))\" is no scope of this store. `kvsync scopes list` lists them.",
          path: path)
      }
      return scopes.filter { $0 != prefix }
    }
  }

  private func subscribe(
    _ change: @escaping @Sendable ([[UInt8]]?) throws -> [[UInt8]]?
  ) async throws {
    try await perform { [path] group in
      var subscription = group.state.subscription
      let scopes = try change(subscription.scopes)
      subscription.want(scopes, at: group.state.cursor)
      let wanted = Coverage(prefixes: subscription.scopes ?? [])
      guard subscription.scopes?.count ?? 0 <= StoreLimits.maximumScopes,
        wanted.encodedByteCount <= StoreLimits.scopesBytes
      else {
        throw StoreError(
          .tooManyScopes, "a store has at most \(StoreLimits.maximumScopes) scopes, of 8 KiB together.", path: path)
      }
      guard subscription != group.state.subscription else { return }
      group.append(SubscriptionRecord(subscription))
    }
  }

  /// Gives up what lies outside of the scopes and is on the hub; what is pending stays. Nothing is deleted on the hub. Returns
  /// the number of keys that were given up. In steps, each of which is durable; throws as writing does.
  @discardableResult
  public func evict() async throws -> Int {
    var count = 0
    let wanted = state.subscription.wanted
    for interval in Coverage.all.subtracting(wanted).intervals {
      var rest: KeyInterval? = interval
      while let interval = rest {
        let (evicted, end) = try await perform { try $0.evict(interval) }
        count += evicted
        rest = end.map { KeyInterval(from: $0, end: interval.end) }
        if rest?.isEmpty ?? false { rest = nil }
      }
    }
    return count
  }
}

extension GroupWriter {
  /// Takes the rows of the interval away that the hub has; gives their number, and where to go on.
  fileprivate func evict(_ interval: KeyInterval) throws -> (count: Int, end: [UInt8]?) {
    guard state.hubEpoch != .zero, Coverage([interval]).intersection(state.subscription.wanted).isEmpty else {
      return (0, nil)
    }
    let position = Position(identity: state.hubEpoch, version: max(1, state.cursor), digest: state.cursorDigest)
    var rows = RowsBuilder()
    var end: [UInt8]?
    let home = home
    try withCursors { cursors in
      var cursor = try MergeCursor(cursors, range: KeyRange(interval), isReversed: false)
      var looked = 0
      while try cursor.advance() {
        looked += 1
        let isFull = rows.byteCount >= StoreLimits.feedBytes || looked > StoreLimits.lookedAtPerPage
        try cursor.withEntry { key, bytes in
          if isFull {
            end = key.copied()
            return
          }
          let row = try Row(bytes, key: key, home: home)
          guard !row.isTombstone, !state.isPending(row) else { return }
          rows.append(
            key: key, value: RawSpan(), isDeletion: true,
            RowOrigin(serverVersion: position.version, time: row.time, author: position.identity))
        }
        if isFull { break }
      }
    }
    guard !rows.isEmpty else { return (0, end) }
    let page = SnapshotPage(position: position, interval: interval, record: rows.record(of: position))
    guard let commit = try page.commit() else { return (0, end) }
    try append(rows: commit, in: page.record.bytes, serverVersion: position.version)
    var subscription = state.subscription
    subscription.evicted(KeyInterval(from: interval.from, end: end ?? interval.end))
    append(SubscriptionRecord(subscription))
    return (rows.count, end)
  }
}
