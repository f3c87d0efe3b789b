// The list of parked commits: reading it, and deciding what becomes of them.
//
// Invariants
// - A page of the list and a step of a decision about all take bounded memory, however many commits are parked.
// - What is made of a parked commit and that it is parked no more become durable in one block.

import KVLog

extension Store {
  /// Up to `limit` parked commits after `id`, in the order of their versions, without their changes. Throws
  /// ``StoreError``: `corrupt`, `closed`, `system`.
  public func parkedCommits(after id: ParkedCommit.ID? = nil, limit: Int = .max) throws -> [ParkedCommit] {
    try read { try $0.parkedCommits(after: id, limit: limit) }
  }

  /// A parked commit; nil when there is none of that version. Throws ``StoreError``: `corrupt`, `closed`, `system`.
  public func parkedCommit(_ id: ParkedCommit.ID) throws -> ParkedCommit? {
    try read { snapshot in
      try snapshot.withEntry(\.parked, ParkedRecord.identifier(id)) { ParkedCommit(try ParkedHead(decoding: $0)) }
    }
  }

  /// The changes of a parked commit, copied, in their order: up to 64 MiB. Those that had lost a conflict before the
  /// commit was parked are not among them. Throws ``StoreError``: `noSuchEntry`, `corrupt`, `closed`, `system`.
  public func parkedChanges(of id: ParkedCommit.ID) throws -> [ParkedChange] {
    try read { snapshot in
      let changes = try snapshot.withEntry(\.parked, ParkedRecord.identifier(id)) { bytes in
        try ParkedHead(decoding: bytes).changes(in: bytes) { try snapshot.row(of: $0) }
      }
      guard let changes else { throw StoreError.notParked(id, path: path) }
      return changes
    }
  }

  /// Offers a parked commit again: what it wrote becomes a new local commit, of now, and it is parked no more. Keys that
  /// were written again since get the value of the parked commit; to write others, edit it
  /// (``retryParked(_:editing:)``). Durable when it returns.
  ///
  /// Throws ``StoreError``: `noSuchEntry`, `full`, `corrupt`, `closed`, `readOnly`, `system`, `poisoned`.
  @discardableResult
  public func retryParked(_ id: ParkedCommit.ID) async throws -> Receipt {
    try await retryParked(id, editing: Store.rewrite)
  }

  /// Offers a parked commit again as something else: what `edit` writes becomes a new local commit, and the old one is
  /// parked no more. `edit` is told what the commit wrote; it runs as a transaction's closure does, and when it throws, all
  /// stays as it was. If it writes nothing, the commit is gone.
  ///
  /// Throws what `edit` throws, or as ``retryParked(_:)``.
  @discardableResult
  public func retryParked(
    _ id: ParkedCommit.ID, editing edit: @escaping @Sendable (inout Transaction, [ParkedChange]) throws -> Void
  ) async throws -> Receipt {
    try await perform { group in
      let (version, changes) = try group.retry(id, edit)
      return Receipt(version: version, changes: changes, publication: group.core.publication)
    }
  }

  /// Takes a parked commit off the list, for good. Its rows stay as they are here (<doc:Parked>). Durable when it
  /// returns.
  ///
  /// Throws ``StoreError`` as ``retryParked(_:)`` does.
  @discardableResult
  public func dropParked(_ id: ParkedCommit.ID) async throws -> DroppedCommits {
    try await perform { DroppedCommits(commits: 1, rowsLeft: try $0.drop(id)) }
  }

  /// Offers all commits again that are parked now, or those of them with a code, each as ``retryParked(_:)`` does and in
  /// the order in which they were made. In steps, each durable: what was done stays done when it throws. Returns how many
  /// there were. Throws ``StoreError`` as ``retryParked(_:)`` does, but `noSuchEntry`.
  @discardableResult
  public func retryAllParked(withCode code: UInt16? = nil) async throws -> Int {
    var count = 0
    try await decideParked(code) { group, id in
      try group.retry(id, Store.rewrite).changes
    } done: { commits, _ in
      count += commits
    }
    return count
  }

  /// Drops all commits that are parked now, or those of them with a code, as ``dropParked(_:)`` does each. In steps, as
  /// ``retryAllParked(withCode:)``; throws the same.
  @discardableResult
  public func dropAllParked(withCode code: UInt16? = nil) async throws -> DroppedCommits {
    var total = DroppedCommits()
    try await decideParked(code) { group, id in
      try group.drop(id)
    } done: { commits, rowsLeft in
      total.commits += commits
      total.rowsLeft += rowsLeft
    }
    return total
  }

  @Sendable
  private static func rewrite(_ transaction: inout Transaction, _ changes: [ParkedChange]) throws {
    for change in changes {
      if let value = change.value {
        try transaction.put(value, for: change.key)
      } else {
        try transaction.delete(change.key)
      }
    }
  }

  /// Has `decide` decide each parked commit, a page of them in one durable step. What is parked meanwhile is left alone.
  private func decideParked(
    _ code: UInt16?, _ decide: @escaping @Sendable (GroupWriter, Version) throws -> Int,
    done: (_ commits: Int, _ sum: Int) -> Void
  ) async throws {
    let end = state.version
    var last: Version?
    while true {
      let page = try parkedCommits(after: last, limit: StoreLimits.parkedPerStep).filter { $0.id <= end }
      guard let final = page.last else { return }
      last = final.id
      var rest = page.filter { code == nil || $0.code == code }.map { ($0.id, $0.byteCount) }[...]
      while !rest.isEmpty {
        // As many as are a group of commits, at least one.
        var bytes = 0
        let step = rest.prefix { entry in
          defer { bytes += entry.1 }
          return bytes < StoreLimits.groupBytes
        }.map(\.0)
        rest = rest.dropFirst(step.count)
        let (count, sum) = try await perform { group in
          var (count, sum) = (0, 0)
          for id in step {
            // Somebody else may have decided about it.
            do { sum += try decide(group, id) } catch let error as StoreError where error.code == .noSuchEntry {
              continue
            }
            count += 1
          }
          return (count, sum)
        }
        done(count, sum)
      }
    }
  }
}

extension Snapshot {
  func parkedCommits(after id: Version?, limit: Int) throws -> [ParkedCommit] {
    var commits: [ParkedCommit] = []
    guard limit > 0 else { return commits }
    try forEachEntry(\.parked, from: id.map { ParkedRecord.identifier($0) + [0] }) { _, payload in
      commits.append(ParkedCommit(try ParkedHead(decoding: payload)))
      return commits.count < limit
    }
    return commits
  }
}
