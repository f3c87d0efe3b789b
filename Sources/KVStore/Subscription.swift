// Which keys a replica wants of its hub, and which of them it has.
//
//     subscription = everything u8 | count u16 | *(u16 count | bytes) | coverage | seen coverage | seenThrough u64 |
//                    met coverage | left coverage | leftThrough u64
//
// Invariants
// - Of the keys in `coverage`, and of no others, the store has everything up to its pull cursor. They are wanted.
// - What is wanted and not covered is loaded from a snapshot, in key order.

import KVLog

struct Subscription: Sendable, Equatable {
  /// The key prefixes that are wanted, in order; nil: everything.
  private(set) var scopes: [[UInt8]]?
  private(set) var coverage = Coverage.none
  /// Of these keys the store once had everything, up to that version: what the snapshot has of them from before that is
  /// no news to what was written here since.
  private(set) var seen = Coverage.none
  private(set) var seenThrough: Version = 0
  /// Keys outside of the scopes where this store's writes met those of others: they are wanted too, one by one, so that what
  /// is on the hub can be resolved against.
  private(set) var met = Coverage.none
  /// Of these keys, which left the scopes, the store had everything up to that version, and still has it: what is written here knows
  /// of what the hub had by then.
  private(set) var left = Coverage.none
  private(set) var leftThrough: Version = 0
  /// What is wanted and not covered.
  private(set) var missing = Coverage.all

  init() {}

  var wanted: Coverage { scopes.map { Coverage(prefixes: $0).union(met) } ?? .all }

  /// Whether the hub brings what happens to the key.
  func isWanted(_ key: [UInt8]) -> Bool {
    scopes == nil || coverage.contains(key.bytes) || missing.contains(key.bytes)
  }

  /// Wants these keys as well. Returns false, and wants nothing more, when that is beyond what a store may ask for.
  mutating func meet(_ keys: [[UInt8]]) -> Bool {
    let more = met.union(Coverage(keys.map { KeyInterval(from: $0, end: $0 + [0]) }))
    let all = wanted.union(more)
    guard all.intervals.count <= StoreLimits.maximumScopes, all.encodedByteCount <= StoreLimits.scopesBytes else {
      return false
    }
    met = more
    refresh()
    return true
  }

  /// Wants other keys from `cursor` on.
  mutating func want(_ scopes: [[UInt8]]?, at cursor: Version) {
    self.scopes = scopes.map { prefixes in
      let sorted = Set(prefixes).sorted { $0.lexicographicallyPrecedes($1) }
      // Within another one, a prefix adds nothing.
      return sorted.filter { prefix in !sorted.contains { $0 != prefix && prefix.starts(with: $0) } }
    }
    // Single keys among those of a scope would make for more ranges than a hello takes.
    coverage = coverage.subtracting(met)
    met = .none
    let leaving = coverage.subtracting(wanted)
    if !leaving.isEmpty {
      leftThrough = left.isEmpty ? cursor : min(leftThrough, cursor)
      left = left.union(leaving)
      // The state is written often, and has to stay small. To forget costs a conflict at worst.
      if left.encodedByteCount > StoreLimits.leftScopesBytes { left = .none }
    }
    coverage = coverage.intersection(wanted)
    seen = seen.intersection(wanted)
    refresh()
  }

  /// The keys of the range came in with a page.
  mutating func loaded(_ interval: KeyInterval) {
    coverage.insert(interval)
    left.remove(interval)
    refresh()
  }

  /// What lay in the range outside of the scopes is given up.
  mutating func evicted(_ interval: KeyInterval) { left.remove(interval) }

  /// What the hub had after `cursor` never was.
  mutating func wentBack(to cursor: Version) {
    seenThrough = min(seenThrough, cursor)
    leftThrough = min(leftThrough, cursor)
  }

  /// Whether what the hub had of the key at `version` was known here before anything was written that is pending now.
  func hasSeen(_ key: RawSpan, at version: Version) -> Bool {
    version <= seenThrough && seen.contains(key) || version <= leftThrough && left.contains(key)
  }

  /// The hub can no longer go on from `cursor`: everything is to be loaded again.
  mutating func lapse(from cursor: Version) {
    // Loading had not come far enough for a new mark to hold for all of it.
    if seen.isEmpty { seenThrough = cursor } else { seenThrough = min(seenThrough, cursor) }
    seen = seen.union(coverage)
    coverage = .none
    refresh()
  }

  /// Nothing of the hub is known here.
  mutating func forget() {
    coverage = .none
    seen = .none
    left = .none
    refresh()
  }

  private mutating func refresh() {
    missing = wanted.subtracting(coverage)
    if missing.isEmpty {
      seen = .none
      seenThrough = 0
    }
  }

  // MARK: Bytes

  func encode(to bytes: inout [UInt8]) {
    bytes.append(scopes == nil ? 1 : 0)
    bytes.append(littleEndian: UInt16(scopes?.count ?? 0))
    for scope in scopes ?? [] {
      bytes.append(littleEndian: UInt16(scope.count))
      bytes.append(contentsOf: scope)
    }
    coverage.encode(to: &bytes)
    seen.encode(to: &bytes)
    bytes.append(littleEndian: seenThrough)
    met.encode(to: &bytes)
    left.encode(to: &bytes)
    bytes.append(littleEndian: leftThrough)
  }

  init(from reader: inout ByteReader, in bytes: RawSpan) throws(LogFormatError) {
    let everything = try reader.read(UInt8.self, from: bytes)
    var scopes: [[UInt8]] = []
    for _ in 0..<(try reader.read(UInt16.self, from: bytes)) {
      let scope = try reader.counted(UInt16.self, atMost: LogLimits.maximumKeyBytes, from: bytes)
      scopes.append(bytes.extracting(scope).copied())
    }
    self.scopes = everything == 1 ? nil : scopes
    coverage = try Coverage(from: &reader, in: bytes)
    seen = try Coverage(from: &reader, in: bytes)
    seenThrough = try reader.read(UInt64.self, from: bytes)
    met = try Coverage(from: &reader, in: bytes)
    left = try Coverage(from: &reader, in: bytes)
    leftThrough = try reader.read(UInt64.self, from: bytes)
    missing = wanted.subtracting(coverage)
  }
}

/// What the store wants, and has, from here on.
struct SubscriptionRecord {
  var subscription: Subscription

  func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    subscription.encode(to: &bytes)
    return bytes
  }

  init(_ subscription: Subscription) { self.subscription = subscription }

  init(decoding span: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    subscription = try Subscription(from: &reader, in: span)
    try reader.end(of: span)
  }
}
