// Reads batches of changes out of the log, of one range of keys.
//
// Invariants
// - A batch ends with a commit. It is full with `StoreLimits.changeBatchBytes` or `changeBatchCount` changes, or when
//   `changeBatchLogBytes` of log were read for it, and may go beyond that by its last commit.
// - With `.latest` a batch has one change of a key, the newest, at its own place: none of those left out is newer than the
//   batch's version, so whoever goes on after any version that was handed out misses nothing.

import KVLog

struct ChangeReader: Sendable {
  private var stream: CommitStream
  private let delivery: ChangeDelivery

  /// Behind `version`; throws `LogError`, `.expired` when the log no longer has what follows it.
  init(_ store: Store, after version: Version, through limit: LogPosition, _ delivery: ChangeDelivery) throws {
    stream = try CommitStream(store.configuration, after: version, through: limit)
    self.delivery = delivery
  }

  /// The last commit that was read.
  var version: Version { stream.version }

  /// How much of the segment lies between here and `limit`; nil when that is another segment.
  func distance(to limit: LogPosition) -> UInt64? { stream.distance(to: limit) }

  /// The changes of `range` in the next commits; nothing at or beyond `limit` is read. `state` is the store's now.
  mutating func next(in range: KeyRange, through limit: LogPosition, of state: StoreState) throws -> ChangeBatch {
    var window = Window(ChangeBatch(after: version, state: state), delivery)
    try stream.pass(through: limit) { commit, bytes in
      guard !window.isFull else { return false }
      try window.append(commit, in: range, bytes)
      return true
    }
    return window.finish(at: version)
  }
}

/// A batch in the making.
private struct Window {
  private var batch: ChangeBatch
  private let isCoalescing: Bool
  /// XXH3-64 of a key → where its newest change is. Of two keys with one hash only the later one is known; then the other
  /// is not coalesced.
  private var newest: [UInt64: Int] = [:]
  private var superseded = 0
  private var supersededBytes = 0

  init(_ batch: ChangeBatch, _ delivery: ChangeDelivery) {
    self.batch = batch
    isCoalescing = delivery == .latest
  }

  var isFull: Bool {
    batch.count - superseded >= StoreLimits.changeBatchCount
      || batch.byteCount - supersededBytes >= StoreLimits.changeBatchBytes
      || batch.logBytes >= StoreLimits.changeBatchLogBytes
  }

  mutating func append(_ commit: CommitStream.Entry, in range: KeyRange, _ bytes: RawSpan) throws {
    batch.logBytes += commit.record.count
    var isAppended = false
    var changes = ChangeCursor(commit.view)
    while let change = try changes.next(in: bytes) {
      let key = bytes.extracting(change.key)
      guard range.contains(key) else { continue }
      if !isAppended { batch.append(commit.header) }
      isAppended = true
      if isCoalescing { supersede(key) }
      batch.append(key: change.key, value: change.value, isDeletion: change.isDeletion, in: bytes)
    }
    // What is superseded takes no more room than a batch.
    if superseded >= StoreLimits.changeBatchCount || supersededBytes >= StoreLimits.changeBatchBytes { compact() }
  }

  /// The key's newest change is the one to be appended next.
  private mutating func supersede(_ key: RawSpan) {
    guard let earlier = newest.updateValue(batch.count, forKey: checksum64(key)), batch.hasKey(key, at: earlier) else {
      return
    }
    supersededBytes += batch.supersede(earlier)
    superseded += 1
  }

  private mutating func compact() {
    newest.removeAll(keepingCapacity: true)
    var places = newest
    batch = batch.withoutSuperseded { key, place in places[checksum64(key)] = place }
    newest = places
    superseded = 0
    supersededBytes = 0
  }

  mutating func finish(at version: Version) -> ChangeBatch {
    if superseded > 0 { compact() }
    batch.version = version
    return batch
  }
}
