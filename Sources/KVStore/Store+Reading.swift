// Reading: synchronous, on the calling thread, from a consistent snapshot.

public import KVLog
import LMDB

extension Store {
  /// The value of `key`, copied, or nil.
  ///
  /// Throws ``StoreError``: `keyEmpty`, `keyTooLong`, `corrupt`, `closed`, `system`. A store that is `poisoned` can
  /// still be read.
  @inlinable
  public func value(for key: some BytesConvertible) throws -> [UInt8]? {
    try withValue(for: key) { [UInt8](copying: $0) }
  }

  /// Calls `body` with the value of `key` without copying it; nil when the key is absent. The span is valid only until
  /// `body` returns. Throws what `body` throws, or ``StoreError`` as ``value(for:)`` does.
  @inlinable
  public func withValue<Result>(for key: some BytesConvertible, _ body: (RawSpan) throws -> Result) throws -> Result? {
    var result: Result?
    try key.withBytes { key in
      try withSnapshot { snapshot in _ = try snapshot.find(key) { result = try body($0) } }
    }
    return result
  }

  /// Whether `key` has a value; the value itself is not read. Throws ``StoreError`` as ``value(for:)`` does.
  public func contains(_ key: some BytesConvertible) throws -> Bool {
    try read { try $0.contains(key) }
  }

  /// The version of the commit that wrote the value of `key`; nil when it has none. What ``WriteCondition`` takes.
  /// Throws ``StoreError`` as ``value(for:)`` does.
  public func version(of key: some BytesConvertible) throws -> Version? {
    try read { try $0.version(of: key) }
  }

  /// The value of `key`, copied, with the version, time and origin of the change it comes from; nil when the key is
  /// absent. Throws ``StoreError`` as ``value(for:)`` does.
  public func entry(for key: some BytesConvertible) throws -> StoreEntry? {
    try read { try $0.entry(for: key) }
  }

  /// How many keys that begin with `prefix` have a value, as ``Snapshot/count(prefix:)`` says. Throws ``StoreError``:
  /// `corrupt`, `closed`, `system`.
  public func count(prefix: some BytesConvertible = "") throws -> Int {
    try read { try $0.count(prefix: prefix) }
  }

  /// How many keys of a range have a value, as ``Snapshot/count(in:)`` says. Throws ``StoreError``: `corrupt`,
  /// `closed`, `system`.
  public func count(in range: KeyRange) throws -> Int {
    try read { try $0.count(in: range) }
  }

  /// Calls `body` with a snapshot, on the calling thread. All that it reads is of one version, and durable.
  ///
  /// Throws what `body` throws, or ``StoreError``: `corrupt` (also for damage that a scan met), `closed`, `system`.
  @inlinable
  public func read<Result>(_ body: (Snapshot) throws -> Result) throws -> Result {
    var result: Result?
    try withSnapshot { result = try body($0) }
    guard let result else { preconditionFailure("a read calls its body once") }
    return result
  }

  /// Not generic, so that what other modules inline of a read is its shell.
  @usableFromInline
  func withSnapshot(_ body: (Snapshot) throws -> Void) throws {
    do {
      if !isForked, let snapshot = idleSnapshots?.take() { return try run(body, snapshot) }
      switch try backing() {
      case .writable(let core): try run(body, try core.snapshot())
      case .readOnly(let store): try store.read { try $0.run(body) }
      }
    } catch {
      throw StoreError.published(error, path: path)
    }
  }

  private func run(_ body: (Snapshot) throws -> Void, _ snapshot: consuming Snapshot) throws {
    try snapshot.run(body)
    idleSnapshots?.giveBack(snapshot)
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
      path: path, identity: identity, incarnation: state.incarnation,
      hubEpoch: state.hubEpoch == .zero ? nil : state.hubEpoch,
      counters: Counters(state), keys: keys, logBytes: segments.reduce(0) { $0 + Int($1.bytes) },
      logSegments: segments.count, firstLogVersion: segments.first?.firstVersion ?? 1, indexBytes: indexBytes,
      tailBytes: tailBytes, oldestReader: oldestReader)
  }
}

extension StoreCore {
  func snapshot() throws -> Snapshot {
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
        let isLive = try Row.isLive(bytes, key: key)
        let wasLive = try index.reader.get(index.tables.rows, key: key) { Row.isLive(unchecked: $0) }
        if wasLive == nil { try index.checkAbsence(ofRow: key) }
        keys += (isLive ? 1 : 0) - (wasLive == true ? 1 : 0)
      }
    }
    return keys
  }
}
