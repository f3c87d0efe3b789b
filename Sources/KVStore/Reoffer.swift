// What is still current of a commit, as a commit to be offered to the hub again, with its time.

import KVLog

struct Reoffer {
  private let time: HybridTime
  private var changes: [(key: [UInt8], value: [UInt8]?)] = []

  /// nil when nothing of the commit is current any more.
  init?(current entry: CommitStream.Entry, in bytes: RawSpan, _ group: some WriteGroup) throws {
    time = entry.header.time
    var cursor = ChangeCursor(entry.view)
    while let change = try cursor.next(in: bytes) {
      let key = bytes.extracting(change.key)
      let isCurrent = try group.withRow(key) { row, value in
        // A key may occur twice in a commit: only its last change is the row.
        row.version == entry.header.version && row.isTombstone == change.isDeletion
          && value.isEqual(to: bytes.extracting(change.value))
      }
      if isCurrent == true {
        changes.append((key.copied(), change.isDeletion ? nil : bytes.extracting(change.value).copied()))
      }
    }
    if changes.isEmpty { return nil }
  }

  var keys: [[UInt8]] { changes.map(\.key) }

  /// Key and value bytes.
  var payloadBytes: Int { changes.reduce(0) { $0 + $1.key.count + ($1.value?.count ?? 0) } }

  /// Gives the version of the commit that it becomes.
  @discardableResult
  func append(to group: some WriteGroup) throws -> Version {
    group.beginCommit(time: time, flags: .reoffer)
    for (key, value) in changes {
      if let value {
        try group.put(key: key.bytes, value: value.bytes)
      } else {
        try group.delete(key: key.bytes)
      }
    }
    return group.endCommit()
  }
}
