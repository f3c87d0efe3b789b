// What becomes of parked commits, as part of a group.

import KVLog

extension GroupWriter {
  /// Appends the commit again, with what `edit` makes of its changes, and takes it off the list. A commit that nothing is
  /// left of leaves no trace.
  func retry(
    _ version: Version, _ edit: (inout Transaction, [ParkedChange]) throws -> Void
  ) throws -> (version: Version, changes: Int) {
    let parked = try parked(version)
    beginCommit()
    var transaction = Transaction(self)
    try edit(&transaction, parked.changes)
    let changes = openChangeCount
    let retried = endCommit()
    try append(UnparkedRecord(version: version, bytes: UInt64(parked.bytes), fate: .retried))
    try append(successor: changes > 0 ? retried : version, of: version)
    return (retried, changes)
  }

  /// Takes the commit off the list. Returns how many of its rows are still there.
  func drop(_ version: Version) throws -> Int {
    let parked = try parked(version)
    try append(UnparkedRecord(version: version, bytes: UInt64(parked.bytes), fate: .dropped))
    try append(successor: version, of: version)
    return parked.changes.count(where: \.isCurrent)
  }

  private func parked(_ version: Version) throws -> (changes: [ParkedChange], bytes: Int) {
    let found = try withEntry(\.parked, ParkedRecord.identifier(version)) { bytes in
      let head = try ParkedHead(decoding: bytes)
      return (try head.changes(in: bytes) { try row(of: $0) }, head.view.payloadBytes)
    }
    guard let found else { throw StoreError.notParked(version, path: core.path) }
    return found
  }
}

extension ParkedHead {
  /// The changes, copied; `row` gives the newest row of a key.
  func changes(in span: RawSpan, row: (RawSpan) throws -> Row?) throws -> [ParkedChange] {
    var changes: [ParkedChange] = []
    changes.reserveCapacity(view.header.changeCount)
    var cursor = ChangeCursor(view)
    while let change = try cursor.next(in: span) {
      let key = span.extracting(change.key)
      let row = try row(key)
      changes.append(
        ParkedChange(
          key: key.copied(), value: change.isDeletion ? nil : span.extracting(change.value).copied(),
          isCurrent: row?.version == version && row?.isTombstone == change.isDeletion))
    }
    return changes
  }
}

extension StoreError {
  static func notParked(_ version: Version, path: String) -> StoreError {
    StoreError(
      .noSuchEntry, "no commit of version \(version) is parked. `kvsync parked list` lists those that are.", path: path)
  }
}
