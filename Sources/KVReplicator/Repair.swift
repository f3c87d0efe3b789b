// What was wrong between a store and its hub, and was mended without asking anybody.
//
// grammar (little-endian)
//   repair = kind u8 (1 hub restored, 2 new incarnation, 3 lapsed) | zero 7 | time u64 (milliseconds since 1970) | 4 u64
//     of 1: the first and the last local version, the first and the last of the hub's; 0: none. Of 2: the incarnation. Of 3: zero

public import KVLog
import KVStore

/// What a replicator has mended by itself: the hub or the store was restored or copied. Nothing is asked of anybody; it is
/// good to know.
public struct Repair: Sendable, Hashable {
  /// What had happened. More causes may come: switch with a `default`.
  public enum Cause: Sendable, Hashable {
    /// The hub was restored to an older state; what it lost is offered to it again.
    case hubRestored(HubRestoration)
    /// This store was restored to an older state, or is a copy: it goes on under this incarnation.
    case becameNewIncarnation(Identity)
    /// This replica was away for longer than the hub keeps its history: everything was loaded anew.
    case lapsed

    /// The cause without what belongs to it, as a word.
    public var name: String {
      switch self {
      case .hubRestored: "hubRestored"
      case .becameNewIncarnation: "becameNewIncarnation"
      case .lapsed: "lapsed"
      }
    }
  }

  /// What had happened.
  public var cause: Cause
  /// When it was found, by this machine's clock.
  public var time: HybridTime

  /// A repair of that time.
  public init(_ cause: Cause, time: HybridTime) {
    self.cause = cause
    self.time = time
  }
}

extension Repair {
  /// Found now; nil: what the notice tells of is no repair.
  init?(_ notice: SessionNotice) {
    switch notice {
    case .hubRestored(let restoration): cause = .hubRestored(restoration)
    case .becameNewIncarnation(let incarnation): cause = .becameNewIncarnation(incarnation)
    case .lapsed: cause = .lapsed
    case .parked, .adoptedSpace, .loadingSnapshot, .lapseWarning: return nil
    }
    time = HybridTime(milliseconds: Store.clockMilliseconds)
  }

  func append(to bytes: inout [UInt8]) {
    var words: [UInt64] = [0, 0, 0, 0]
    let kind: UInt64
    switch cause {
    case .hubRestored(let lost):
      kind = 1
      words = [
        lost.local?.lowerBound ?? 0, lost.local?.upperBound ?? 0, lost.server?.lowerBound ?? 0,
        lost.server?.upperBound ?? 0,
      ]
    case .becameNewIncarnation(let incarnation):
      kind = 2
      words[0] = incarnation.high
      words[1] = incarnation.low
    case .lapsed: kind = 3
    }
    for word in [kind, time.milliseconds] + words { bytes.append(littleEndian: word) }
  }

  init(_ reader: inout ByteReader, from bytes: RawSpan) throws(LogFormatError) {
    let start = reader.offset
    let kind = try reader.read(UInt64.self, from: bytes)
    time = HybridTime(milliseconds: try reader.read(UInt64.self, from: bytes))
    var words: [UInt64] = []
    for _ in 0..<4 { words.append(try reader.read(UInt64.self, from: bytes)) }
    switch kind {
    case 1:
      guard words[0] <= words[1], words[2] <= words[3] else { throw LogFormatError(.badValue, at: start) }
      cause = .hubRestored(
        HubRestoration(
          local: words[1] > 0 ? words[0]...words[1] : nil, server: words[3] > 0 ? words[2]...words[3] : nil))
    case 2: cause = .becameNewIncarnation(Identity(high: words[0], low: words[1]))
    case 3: cause = .lapsed
    default: throw LogFormatError(.badValue, at: start)
    }
  }
}

extension [Repair] {
  /// Of each cause the latest one stays.
  mutating func note(_ repair: Repair) {
    removeAll { $0.cause.name == repair.cause.name }
    append(repair)
  }
}
