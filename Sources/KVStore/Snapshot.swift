// A consistent view of the store: everything up to one version and nothing after it.
//
// Invariants
// - Its readers, newest source first, were taken together (`Tail.withSources`) and never move.
// - It belongs to one thread at a time; it is given up when the last scan that uses it is gone.

public import KVLog
import LMDB

/// The store as it was at one version. Reads never block writes, and writes never change a snapshot.
///
/// A snapshot is handed to the closure of ``Store/read(_:)``. While it lives it keeps disk pages from being reused, so
/// use it and let it go; do not keep one across a network wait. It shows only what is durable, and is used by one
/// thread at a time.
public final class Snapshot {
  let sources: [Source]
  let path: String
  /// The state of a store that no source knows one of.
  private let start: StoreState
  /// The first error of a scan, which as a `Sequence` cannot throw; `Store.read` throws it when its closure ends.
  @exclusivity(unchecked) private var failure: (any Error)?
  /// See `IdleSnapshots`.
  let era: UInt64

  init(sources: [Source], start: StoreState, path: String, era: UInt64 = 0) {
    self.sources = sources
    self.era = era
    self.start = start
    self.path = path
  }

  /// The newest version that the snapshot contains. Throws ``StoreError``: `corrupt`, `system`.
  public var version: Version {
    get throws { try state.version }
  }

  /// Counters that belong to exactly this version. Throws ``StoreError``: `corrupt`, `system`.
  public var counters: Counters {
    get throws { Counters(try state) }
  }

  /// The state as of the newest source.
  package var state: StoreState {
    get throws {
      for source in sources {
        if let state = try Index.state(source) { return state }
      }
      return start
    }
  }

  /// Calls `body`, and throws what a scan in it has met.
  func run<Result>(_ body: (Snapshot) throws -> Result) throws -> Result {
    let result = try body(self)
    if let failure = unsafe failure { throw failure }
    return result
  }

  func fail(_ error: any Error) {
    if unsafe failure == nil { unsafe failure = error }
  }
}

// MARK: - Single keys

extension Snapshot {
  /// The value of `key`, copied, or nil. Throws ``StoreError``: `keyEmpty`, `keyTooLong`, `corrupt`, `system`.
  @inlinable
  public func value(for key: some BytesConvertible) throws -> [UInt8]? {
    try withValue(for: key) { [UInt8](copying: $0) }
  }

  /// Calls `body` with the value of `key` without copying it; returns nil when the key is absent. The span is valid
  /// only until `body` returns. Throws what `body` throws, or as ``value(for:)`` does.
  @inlinable
  public func withValue<Result>(for key: some BytesConvertible, _ body: (RawSpan) throws -> Result) throws -> Result? {
    var result: Result?
    try key.withBytes { key in _ = try find(key) { result = try body($0) } }
    return result
  }

  /// Whether `key` has a value; the value itself is not read. Throws as ``value(for:)`` does.
  public func contains(_ key: some BytesConvertible) throws -> Bool {
    try key.withBytes { key in try withRowBytes(key) { try Row.isLive($0, key: key) } ?? false }
  }

  /// The version of the commit that wrote the value of `key`; nil when it has none. The value itself is not read.
  /// Throws as ``value(for:)`` does.
  public func version(of key: some BytesConvertible) throws -> Version? {
    try key.withBytes { try row(of: $0).flatMap { $0.isTombstone ? nil : $0.version } }
  }

  /// The value of `key`, copied, with the version, time and origin of the change it comes from; nil when the key is
  /// absent. Throws as ``value(for:)`` does.
  public func entry(for key: some BytesConvertible) throws -> StoreEntry? {
    try key.withBytes { try withRow($0) { row, value in StoreEntry(row, value) } ?? nil }
  }

  /// Calls `body` with the value of `key`; false when there is none. Not generic, so that what other modules inline of
  /// a look-up is its shell.
  @usableFromInline
  func find(_ key: RawSpan, _ body: (RawSpan) throws -> Void) throws -> Bool {
    try withRowBytes(key) { bytes in
      guard let value = try Row.liveValue(bytes, key: key) else { return false }
      try body(value)
      return true
    } ?? false
  }

  /// Calls `body` with the newest row of `key`, be it a tombstone.
  @inline(__always)
  package func withRow<Result>(_ key: RawSpan, _ body: (Row, _ value: RawSpan) throws -> Result) throws -> Result? {
    try withRowBytes(key) { try body(Row($0, key: key, home: home), Row.value($0, key: key)) }
  }

  /// The newest row of `key`, be it a tombstone.
  func row(of key: RawSpan) throws -> Row? { try withRowBytes(key) { try Row($0, key: key, home: home) } }

  /// Calls `body` with the newest row of `key` as it is stored; nil when there is none.
  @inline(__always)
  private func withRowBytes<Result>(_ key: RawSpan, _ body: (RawSpan) throws -> Result) throws -> Result? {
    try StoreLimits.check(key: key)
    let hash = sources.count > 1 ? checksum64(key) : 0
    var missed = 0
    for source in sources {
      if source.mayHave(hash), let bytes = unsafe try source.reader.value(source.tables.rows, key) {
        defer { withExtendedLifetime(source.reader) {} }
        if missed > 0 { try checkAbsence(of: key, hash, inFirst: missed) }
        return unsafe try body(bytes.bytes)
      }
      missed += 1
    }
    try checkAbsence(of: key, hash, inFirst: missed)
    return nil
  }

  /// A row of an older source counts, and so does that there is none, only if no newer one has lost its own to damage.
  @inline(never)
  private func checkAbsence(of key: RawSpan, _ hash: UInt64, inFirst count: Int) throws {
    for source in sources[..<count] where source.mayHave(hash) { try source.checkAbsence(ofRow: key) }
  }

  /// The same in all of them.
  var home: Identity { sources[sources.count - 1].tables.home }

  /// The bytes under `key` in one of the tables that all sources have.
  func bytes(_ table: (Tables) -> Table, _ key: [UInt8]) throws -> [UInt8]? {
    for source in sources {
      if let found = try source.getSealed(table(source.tables), key: key.bytes, { $0.copied() }) { return found }
    }
    return nil
  }
}
