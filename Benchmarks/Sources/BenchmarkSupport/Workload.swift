// The keys and values that every contender gets, in the same order.
//
// Invariants
// - Change `n` is a function of the seed and `n` alone: threads share the work without sharing state, and a reader names
//   keys that exist without a list of them.
// - Values do not compress: a peer that compresses gains nothing that real data would not give it.

/// 16-byte keys and 100-byte values, reproducible from a seed.
public struct Workload: Sendable {
  public enum Order: String, Sendable {
    /// Keys are random bytes.
    case random
    /// Keys begin with a time that grows, as UUIDs of version 7 do.
    case timeOrdered
  }

  public static let keyBytes = 16
  public static let valueBytes = 100
  public static let changeBytes = keyBytes + valueBytes

  private let seed: UInt64
  private let order: Order

  public init(seed: Int, order: Order = .random) {
    self.seed = mixed(UInt64(truncatingIfNeeded: seed) &+ 0x5851_F42D_4C95_7F2D)
    self.order = order
  }

  /// Puts the key and the value of change `index` into `change`.
  @inline(__always)
  public func fill(_ change: inout Change, _ index: Int) {
    fillKey(&change, index)
    unsafe change.value.withUnsafeMutableBytes { bytes in
      for offset in stride(from: 0, to: Workload.valueBytes - 7, by: 8) {
        unsafe bytes.storeBytes(of: word(index, 2 + offset / 8), toByteOffset: offset, as: UInt64.self)
      }
      unsafe bytes.storeBytes(
        of: UInt32(truncatingIfNeeded: word(index, 14)), toByteOffset: Workload.valueBytes - 4, as: UInt32.self)
    }
  }

  /// Puts the key of change `index` into `change`.
  @inline(__always)
  public func fillKey(_ change: inout Change, _ index: Int) {
    unsafe change.key.withUnsafeMutableBytes { bytes in
      let first = order == .random ? word(index, 0) : (0x0190_0000_0000_0000 + UInt64(index)).bigEndian
      unsafe bytes.storeBytes(of: first, toByteOffset: 0, as: UInt64.self)
      unsafe bytes.storeBytes(of: word(index, 1), toByteOffset: 8, as: UInt64.self)
    }
  }

  /// An index below `count`, random but the same for every contender.
  @inline(__always)
  public func pick(_ step: Int, below count: Int) -> Int {
    Int(
      truncatingIfNeeded: mixed(seed &+ UInt64(truncatingIfNeeded: step) &* 0xD134_2543_DE82_EF95)
        .multipliedFullWidth(by: UInt64(count)).high)
  }

  @inline(__always)
  private func word(_ index: Int, _ place: Int) -> UInt64 {
    mixed(seed &+ UInt64(truncatingIfNeeded: index << 4 | place) &* 0x9E37_79B9_7F4A_7C15)
  }
}

/// The finalizer of SplitMix64.
@inline(__always)
private func mixed(_ word: UInt64) -> UInt64 {
  var word = word
  word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
  word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
  return word ^ (word >> 31)
}

/// Room for one key and its value, filled again and again.
public struct Change: Sendable {
  public var key = [UInt8](repeating: 0, count: Workload.keyBytes)
  public var value = [UInt8](repeating: 0, count: Workload.valueBytes)

  public init() {}
}
