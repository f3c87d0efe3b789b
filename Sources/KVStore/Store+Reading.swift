// Reading: synchronous, on the calling thread, from a consistent snapshot.

import KVLog
import LMDB

extension Store {
  /// The value of `key`, copied, or nil.
  ///
  /// Throws ``StoreError``: `keyEmpty`, `keyTooLong`, `corrupt`, `closed`, `system`. A store that is `poisoned` can still be
  /// read.
  public func value(for key: some BytesConvertible) throws -> [UInt8]? {
    try key.withBytes { try value(at: $0) }
  }

  private func value(at key: RawSpan) throws -> [UInt8]? {
    try read { try $0.value(at: key) }
  }

  /// Calls `body` with the value of `key` without copying it; nil when the key is absent. The span is valid only until
  /// `body` returns. Throws what `body` throws, or ``StoreError`` as ``value(for:)`` does.
  public func withValue<Result>(for key: some BytesConvertible, _ body: (RawSpan) throws -> Result) throws -> Result? {
    try read { try $0.withValue(for: key, body) }
  }

  /// Whether `key` has a value. Throws ``StoreError`` as ``value(for:)`` does.
  public func contains(_ key: some BytesConvertible) throws -> Bool {
    try read { try $0.contains(key) }
  }

  /// Calls `body` with a snapshot, on the calling thread. All that it reads is of one version, and durable.
  ///
  /// Throws what `body` throws, or ``StoreError``: `corrupt` (also for damage that a scan met), `closed`, `system`.
  public func read<Result>(_ body: (Snapshot) throws -> Result) throws -> Result {
    let backing = try backing()
    do {
      switch backing {
      case .writable(let core): return try core.read(body)
      case .readOnly(let store): return try store.read { try $0.run(body) }
      }
    } catch {
      throw StoreError.published(error, path: path)
    }
  }

  /// Where the store stands; O(1). Of a closed store, where it stood at its end.
  public func counters() -> Counters { Counters(state) }

  /// The store's full description. Counting keys looks at each row of the tail, so this takes up to a second in a
  /// store that is being written at full speed. Throws ``StoreError``: `corrupt`, `closed`, `notAllowed`, `system`.
  public func information() throws -> StoreInformation {
    let (keys, state) = try read { (try $0.liveKeys(), try $0.state) }
    let segments = try published { try SegmentDirectory.segments(configuration) }
    let (indexBytes, tailBytes, oldestReader) =
      switch try backing() {
      case .writable(let core):
        (core.index.usedBytes, core.tail.diskBytes, try published { try core.oldestReader() })
      case .readOnly(let store): (store.index.usedBytes, 0, try published { try store.oldestReader() })
      }
    return StoreInformation(
      path: path, identity: identity, incarnation: incarnation,
      hubEpoch: state.hubEpoch == .zero ? nil : state.hubEpoch,
      counters: Counters(state), keys: keys, logBytes: segments.reduce(0) { $0 + Int($1.bytes) },
      logSegments: segments.count, firstLogVersion: segments.first?.firstVersion ?? 1, indexBytes: indexBytes,
      tailBytes: tailBytes, oldestReader: oldestReader)
  }

  /// Up to `limit` entries of the conflict journal after `id`, oldest first. The journal grows with every conflict and
  /// each entry holds a value: read it in pages. Throws ``StoreError``: `corrupt`, `closed`, `system`.
  public func conflicts(after id: Conflict.ID? = nil, limit: Int = .max) throws -> [Conflict] {
    try read { try $0.conflicts(after: id, limit: limit) }
  }
}

extension StoreCore {
  func read<Result>(_ body: (Snapshot) throws -> Result) throws -> Result {
    let snapshot = try idleSnapshots.take() ?? snapshot()
    let result = try snapshot.run(body)
    if idleSnapshots.giveBack(snapshot) { watch.need(memory) }
    return result
  }

  private func snapshot() throws -> Snapshot {
    let era = idleSnapshots.era
    return Snapshot(sources: try sources(live: true), start: StoreState(start: identity), path: path, era: era)
  }
}

extension Snapshot {
  /// Keys that have a value: the index's count, corrected by each row of the tail.
  func liveKeys() throws -> Int {
    let index = sources[sources.count - 1]
    var keys = try Index.liveKeys(index)
    guard sources.count > 1 else { return keys }
    let cursors = try sources.dropLast().map { try $0.reader.cursor($0.tables.rows) }
    var cursor = try MergeCursor(cursors, range: KeyRange(), isReversed: false)
    while try cursor.advance() {
      try cursor.withEntry { key, bytes in
        let isLive = !Row(unchecked: bytes).isTombstone
        let wasLive = try index.reader.get(index.tables.rows, key: key) { !Row(unchecked: $0).isTombstone } ?? false
        keys += (isLive ? 1 : 0) - (wasLive ? 1 : 0)
      }
    }
    return keys
  }

  func conflicts(after id: Conflict.ID?, limit: Int) throws -> [Conflict] {
    var conflicts: [Conflict] = []
    let first = id.map { ConflictRecord.identifier($0.version, $0.ordinal) + [0] }
    let cursors = try sources.map { try $0.reader.cursor($0.tables.conflicts) }
    var cursor = try MergeCursor(cursors, range: KeyRange(from: first), isReversed: false)
    while conflicts.count < limit, try cursor.advance() {
      try cursor.withEntry { key, bytes in
        let count = try Sealed.payloadBytes(bytes, key: key, path: path)
        conflicts.append(Conflict(try ConflictRecord(decoding: bytes.extracting(0..<count))))
      }
    }
    return conflicts
  }
}
