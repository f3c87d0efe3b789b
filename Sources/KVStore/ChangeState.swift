// What has become of a change with respect to the hub, decided for a whole batch at once.
//
// Invariants
// - A state is a function of the log up to the moment it is decided: the same for every reader that asks then.
// - O(1) for a change: a comparison of versions. Only where something is void or in the journal is there anything to look
//   up, and one view of the store serves the batch.

import KVLog
import LMDB

extension StoreChange {
  /// What has become of a change with respect to the hub.
  public enum State: String, Sendable, Hashable {
    /// Written here, and the hub has not decided it yet.
    case pending
    /// The hub has decided its commit, or it came from there.
    case acknowledged
    /// It met a change of the other side that was made without knowing of it. One that came from the hub is that as long as
    /// the conflict journal has it (``Store/conflicts(after:limit:)``). One that was written here will not be shipped: what stands is
    /// the change from the hub or a resolution, later in the log; once the hub has decided its commit it counts as
    /// acknowledged.
    case conflicted
  }
}

/// Decides states as of one state of the store.
struct ChangeStates {
  let state: StoreState

  /// The state of a commit's changes, as far as it does not depend on their keys.
  func state(of commit: CommitHeader) -> StoreChange.State {
    isPending(commit) ? .pending : .acknowledged
  }

  private func isPending(_ commit: CommitHeader) -> Bool {
    state.isLocal(commit) && commit.version > state.acknowledged
  }

  /// Whether a change of the commit may have met one of the other side.
  func mayConflict(_ commit: CommitHeader) -> Bool {
    if state.isLocal(commit) { return isPending(commit) && commit.version <= state.voidThrough }
    return state.conflicts > 0
  }

  /// Whether a change of the commit met one of the other side. `journaled` tells whether the journal has an entry for the
  /// key at the commit's version.
  func isConflicted(
    _ commit: CommitHeader, _ key: [UInt8], _ snapshot: Snapshot, journaled: () throws -> Bool
  ) throws -> Bool {
    guard mayConflict(commit) else { return false }
    guard state.isLocal(commit) else { return try journaled() }
    let voidThrough = try snapshot.bytes(\.voids, key).map { $0.bytes.load(UInt64.self, at: 0) } ?? 0
    return commit.version <= voidThrough
  }

  /// The state of the change that made a row.
  func state(of row: Row, key: RawSpan, _ snapshot: Snapshot) throws -> StoreChange.State {
    let commit = CommitHeader(
      version: row.version, serverVersion: row.serverVersion, origin: row.origin, originVersion: 0, time: row.time,
      flags: [], changeCount: 1)
    guard mayConflict(commit) else { return state(of: commit) }
    let bytes = key.copied()
    let isConflicted = try isConflicted(commit, bytes, snapshot) {
      try snapshot.journaledKeys(row.version...row.version)[row.version]?.contains(bytes) ?? false
    }
    return isConflicted ? .conflicted : state(of: commit)
  }
}

extension Store {
  /// Decides the states of a batch's changes as of now.
  func decideStates(of batch: inout ChangeBatch) throws {
    let states = ChangeStates(state: state)
    if !batch.decide({ states.state(of: $0) }, isOpen: { states.mayConflict($0) }) { return }
    try read { snapshot in
      let states = ChangeStates(state: try snapshot.state)
      _ = batch.decide({ states.state(of: $0) }, isOpen: { _ in false })
      let journaled = try snapshot.journaledKeys(batch.versions)
      try batch.markConflicted { commit, key in
        try states.isConflicted(commit, key, snapshot) { journaled[commit.version]?.contains(key) ?? false }
      }
    }
  }

  /// What has become of the newest change of `key`, which may be its deletion; nil when the store knows of none.
  ///
  /// A resolution and a change that was offered again are changes of this store: pending, then acknowledged. Throws
  /// ``StoreError``: `keyEmpty`, `keyTooLong`, `corrupt`, `closed`, `system`.
  public func changeState(of key: some BytesConvertible) throws -> StoreChange.State? {
    try read { snapshot in
      let states = ChangeStates(state: try snapshot.state)
      return try key.withBytes { key in
        guard let row = try snapshot.withRow(key, { row, _ in row }) else { return nil }
        return try states.state(of: row, key: key, snapshot)
      }
    }
  }
}

extension Snapshot {
  /// The keys that the conflict journal has for remote commits of these versions of the store.
  func journaledKeys(_ versions: ClosedRange<Version>) throws -> [Version: Set<[UInt8]>] {
    var keys: [Version: Set<[UInt8]>] = [:]
    try forEachEntry(\.conflicts, from: Conflict.ID(version: versions.lowerBound, ordinal: 0).bytes) { _, payload in
      let place = try ConflictRecord.place(in: payload)
      guard place.commitVersion <= versions.upperBound else { return false }
      keys[place.commitVersion, default: []].insert(place.key)
      return true
    }
    return keys
  }
}
