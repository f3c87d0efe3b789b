// The conflict journal: reading it, deciding what was left to the program, and reverting.

import KVLog

extension Store {
  /// Up to `limit` entries of the conflict journal after `id`, oldest first. Each entry holds a value, and there may be
  /// more than memory: read it in pages. Throws ``StoreError``: `corrupt`, `closed`, `system`.
  public func conflicts(after id: Conflict.ID? = nil, limit: Int = .max) throws -> [Conflict] {
    try read { try $0.conflicts(after: id, limit: limit) }
  }

  /// An entry of the conflict journal; nil: there is none, or no longer. Throws ``StoreError``: `corrupt`, `closed`,
  /// `system`.
  public func conflict(_ id: Conflict.ID) throws -> Conflict? {
    try read { try $0.conflict(id.bytes) }
  }

  /// Up to `limit` conflicts after `id` that wait for the program's decision, oldest first, with both values; found without
  /// looking at the others. Throws ``StoreError``: `corrupt`, `closed`, `system`.
  public func unresolvedConflicts(after id: Conflict.ID? = nil, limit: Int = .max) throws -> [Conflict] {
    try read { snapshot in
      var conflicts: [Conflict] = []
      guard limit > 0 else { return conflicts }
      try snapshot.forEachEntry(\.unresolved, from: id.map { $0.bytes + [0] }) { key, _ in
        if let conflict = try snapshot.conflict(key.copied()) { conflicts.append(conflict) }
        return conflicts.count < limit
      }
      return conflicts
    }
  }

  /// Decides a conflict that was left to the program, whatever was written to its key since. What is decided is written as
  /// a new commit, of now, which is shipped like any other; ``Conflict/Decision/remote`` writes nothing. Durable when it
  /// returns; the receipt of a decision that wrote nothing has no changes.
  ///
  /// Throws ``StoreError``: `noSuchEntry` (no such conflict waits), `valueTooLong`, `full`, `corrupt`, `closed`,
  /// `readOnly`, `system`, `poisoned`.
  @discardableResult
  public func resolveConflict(_ id: Conflict.ID, with decision: Conflict.Decision) async throws -> Receipt {
    try await perform { group in
      let (version, changes) = try group.resolve(id, with: decision)
      return Receipt(version: version, changes: changes, publication: group.core.publication)
    }
  }

  /// Writes the value that lost a conflict, in a new commit, of now, whatever was written to its key since; the journal
  /// says from then on that it was reverted. Durable when it returns.
  ///
  /// Throws ``StoreError`` as ``resolveConflict(_:with:)`` does; `noSuchEntry` also for a conflict that waits for a
  /// decision, or was reverted before.
  @discardableResult
  public func revertConflict(_ id: Conflict.ID) async throws -> Receipt {
    try await perform { group in
      Receipt(version: try group.revert(id), changes: 1, publication: group.core.publication)
    }
  }
}

extension Snapshot {
  func conflict(_ identifier: [UInt8]) throws -> Conflict? {
    try withEntry(\.conflicts, identifier) { Conflict(try ConflictRecord(decoding: $0)) }
  }

  func conflicts(after id: Conflict.ID?, limit: Int) throws -> [Conflict] {
    var conflicts: [Conflict] = []
    guard limit > 0 else { return conflicts }
    try forEachEntry(\.conflicts, from: id.map { $0.bytes + [0] }) { _, payload in
      conflicts.append(Conflict(try ConflictRecord(decoding: payload)))
      return conflicts.count < limit
    }
    return conflicts
  }
}
