// A range of keys in byte order.

import KVLog

/// The keys from `lower` (included) to `upper` (excluded), compared byte by byte; nil is no bound.
public struct KeyRange: Sendable, Hashable {
  /// The first key of the range, if there is such a key; nil: from the first of all.
  public var lower: [UInt8]?
  /// The key that ends the range and is not in it; nil: to the last of all.
  public var upper: [UInt8]?

  /// The keys from `lower` to below `upper`; all keys by default, none when the bounds are the wrong way round.
  public init(from lower: [UInt8]? = nil, upTo upper: [UInt8]? = nil) {
    self.lower = lower
    self.upper = upper
  }

  init(_ interval: KeyInterval) {
    lower = interval.from.isEmpty ? nil : interval.from
    upper = interval.end
  }

  /// All keys that begin with `prefix`.
  public init(prefix: some BytesConvertible) {
    let bytes = prefix.withBytes { $0.copied() }
    lower = bytes.isEmpty ? nil : bytes
    upper = KeyRange.successor(ofPrefix: bytes)
  }

  /// The part of the range behind `key`, which is not in it: where a scan in key order goes on whose last key was
  /// `key`.
  public func after(_ key: some BytesConvertible) -> KeyRange {
    var rest = self
    // Nothing lies between a key and the same key with a zero behind it.
    let next = key.withBytes { $0.copied() } + [0]
    rest.lower = lower.map { $0.lexicographicallyPrecedes(next) ? next : $0 } ?? next
    return rest
  }

  /// The part of the range before `key`, which is not in it: where a scan backwards goes on whose last key was `key`.
  public func before(_ key: some BytesConvertible) -> KeyRange {
    var rest = self
    let end = key.withBytes { $0.copied() }
    rest.upper = upper.map { end.lexicographicallyPrecedes($0) ? end : $0 } ?? end
    return rest
  }

  /// Whether `key` lies in the range.
  @inline(__always)
  func contains(_ key: RawSpan) -> Bool {
    if let lower, key.compare(lower.bytes) < 0 { return false }
    if let upper, key.compare(upper.bytes) >= 0 { return false }
    return true
  }

  /// The smallest key greater than every key with the prefix; nil when there is none.
  static func successor(ofPrefix prefix: [UInt8]) -> [UInt8]? {
    guard let last = prefix.lastIndex(where: { $0 != 0xFF }) else { return nil }
    var successor = Array(prefix[...last])
    successor[last] += 1
    return successor
  }
}

/// A key with its value.
public struct KeyValue: Sendable, Hashable {
  /// 1 to 511 bytes.
  public var key: [UInt8]
  /// Up to 16 MiB.
  public var value: [UInt8]

  /// A key with its value.
  public init(key: [UInt8], value: [UInt8]) {
    self.key = key
    self.value = value
  }

  /// The key as text; bytes that are not UTF-8 are repaired.
  public var keyText: String { String(decoding: key, as: UTF8.self) }
  /// The value as text; bytes that are not UTF-8 are repaired.
  public var valueText: String { String(decoding: value, as: UTF8.self) }
}
