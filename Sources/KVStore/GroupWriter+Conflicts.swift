// What the program decides about conflicts, and what leaves the journal, as part of a group.

import KVLog

extension GroupWriter {
  /// Decides a conflict that was left to the program.
  func resolve(_ id: Conflict.ID, with decision: Conflict.Decision) throws -> (version: Version, changes: Int) {
    guard var conflict = try conflict(id), conflict.isOpen else {
      throw StoreError(
        .noSuchEntry, "no conflict \(id) waits for a decision. `kvsync conflicts list` lists those that do.",
        path: core.path)
    }
    var version: Version = 0
    switch decision {
    case .local:
      conflict.decision = .local
      version = try write(conflict.localIsDeletion ? nil : conflict.losingValue, for: conflict.key)
    case .remote: conflict.decision = .remote
    case .value(let value):
      conflict.decision = .value
      version = try write(value, for: conflict.key)
    case .delete:
      conflict.decision = .deletion
      version = try write(nil, for: conflict.key)
    }
    conflict.decidedVersion = version
    try append(DecisionRecord(conflict))
    if version > 0 { try append(successor: version, of: conflict.localVersion) }
    return version == 0 ? (state.version, 0) : (version, 1)
  }

  /// Writes the value that lost.
  func revert(_ id: Conflict.ID) throws -> Version {
    guard var conflict = try conflict(id), !conflict.isOpen, !conflict.isReverted else {
      throw StoreError(
        .noSuchEntry,
        "the journal has no conflict \(id) that was decided and not reverted. `kvsync conflicts list` lists them.",
        path: core.path)
    }
    let lost = conflict.lost
    conflict.decidedVersion = try write(lost.isDeletion ? nil : lost.value, for: conflict.key)
    conflict.isReverted = true
    try append(DecisionRecord(conflict))
    return conflict.decidedVersion
  }

  private func conflict(_ id: Conflict.ID) throws -> ConflictRecord? {
    try withEntry(\.conflicts, id.bytes) { try ConflictRecord(decoding: $0) }
  }

  /// A commit of now: who decides has seen both sides.
  private func write(_ value: [UInt8]?, for key: [UInt8]) throws -> Version {
    beginCommit(flags: .resolution)
    if let value { try put(key: key.bytes, value: value.bytes) } else { try delete(key: key.bytes) }
    return endCommit()
  }

  // MARK: Retention

  /// Takes entries that are no longer to be kept out of the journal, the oldest first, and so many at most that the group
  /// stays short. Which they were is in the log: replaying it needs neither a clock nor the retention.
  func pruneJournal() throws {
    let retention = core.conflictRetention
    let now = HybridClock.wallMilliseconds()
    let age = UInt64(max(0, retention.age / .milliseconds(1)).rounded(.down).clamped(to: 0...Double(now)))
    let oldest = HybridTime(milliseconds: now - age)
    var left = state.journal
    func isBeyond() -> Bool {
      left.entries > UInt64(max(0, retention.count)) || left.bytes > UInt64(max(0, retention.bytes))
    }
    guard isBeyond() || (left.since.rawValue > 0 && left.since < oldest) else { return }
    var record = PruningRecord(floor: left.floor)
    try withCursors(\.conflicts) { cursors in
      var cursor = try MergeCursor(
        cursors, .sealed, range: KeyRange(from: left.floor.bytes), isReversed: false)
      var looked = 0
      while try cursor.advance() {
        let goesOn = try cursor.withEntry { key, entry in
          let count = try Sealed.payloadBytes(entry, key: key, path: core.path)
          let id = try Conflict.ID(bytes: key)
          record.floor = id
          looked += 1
          let isPast = looked > StoreLimits.prunedEntries
          guard count > 0 else { return !isPast }
          let (found, isOpen) = try ConflictRecord.age(in: entry.extracting(0..<count))
          if isOpen { return !isPast }
          record.since = found
          guard !isPast, isBeyond() || found < oldest else { return false }
          record.entries.append(id)
          record.bytes += UInt64(count)
          left.entries -= 1
          left.bytes -= UInt64(count)
          return true
        }
        guard goesOn else { return }
      }
      // Nothing is left that may go.
      record.floor = Conflict.ID(version: state.version, ordinal: .max)
      record.since = HybridTime(rawValue: 0)
    }
    if record.floor != state.journal.floor || record.since != state.journal.since { try append(record) }
  }
}

extension Double {
  fileprivate func clamped(to range: ClosedRange<Double>) -> Double {
    min(max(self, range.lowerBound), range.upperBound)
  }
}
