// A value with what the store knows of it.

public import KVLog

/// The value of a key, and which change it comes from.
public struct StoreEntry: Sendable, Hashable {
  /// Up to 16 MiB.
  public var value: [UInt8]
  /// The commit here that wrote it.
  public var version: Version
  /// The hub's version of that commit, 0 for one that was not pulled from it.
  public var serverVersion: Version
  /// When its commit was made, by the clock of the store that made it.
  public var time: HybridTime
  /// The store that wrote it.
  public var origin: Identity

  /// The value as text; bytes that are not UTF-8 are repaired.
  public var valueText: String { String(decoding: value, as: UTF8.self) }

  /// Nil of a tombstone.
  init?(_ row: Row, _ value: RawSpan) {
    if row.isTombstone { return nil }
    self.value = value.copied()
    version = row.version
    serverVersion = ServerVersion.told(row.serverVersion)
    time = row.time
    origin = row.origin
  }
}
