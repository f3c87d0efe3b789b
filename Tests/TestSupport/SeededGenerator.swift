// Randomness that can be repeated: the seed is part of every failure's message.

import Foundation

/// SplitMix64: small, and the same on every platform.
package struct SeededGenerator: RandomNumberGenerator, Sendable {
  /// To be named by whatever fails.
  package let seed: UInt64
  private var state: UInt64

  package init(seed: UInt64) {
    self.seed = seed
    state = seed
  }

  /// A seed from the environment variable KVSYNC_SEED, to repeat a failure, or a fresh one. It is printed too: a process
  /// that traps has no other message.
  package init(_ test: String = #function) {
    self.init(seed: Self.givenSeed ?? .random(in: 0 ... .max))
    print("seed \(seed): \(test)")
  }

  package mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }

  package mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &self) }

  package mutating func chance(_ percent: Int) -> Bool { below(100) < percent }

  package mutating func bytes(_ count: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count + 8)
    while bytes.count < count {
      let word = next()
      for shift in stride(from: 0, to: 64, by: 8) { bytes.append(UInt8(truncatingIfNeeded: word >> UInt64(shift))) }
    }
    bytes.removeLast(bytes.count - count)
    return bytes
  }

  /// So many bytes, that number being random too.
  package mutating func bytes(_ counts: ClosedRange<Int>) -> [UInt8] { bytes(Int.random(in: counts, using: &self)) }

  /// The seeds of a test that takes them as its arguments: the one from KVSYNC_SEED, to repeat a failure; else so many
  /// from `first` on, or as many as the environment variable KVSYNC_SEEDS says, and `fresh` ones that are new in every run.
  package static func seeds(_ count: Int, from first: UInt64 = 1, fresh: Int = 0) -> [UInt64] {
    if let givenSeed { return [givenSeed] }
    let count = ProcessInfo.processInfo.environment["KVSYNC_SEEDS"].flatMap { Int($0) } ?? count
    return (0..<UInt64(count)).map { first + $0 } + (0..<fresh).map { _ in .random(in: 1_000...999_999_999) }
  }

  private static let givenSeed = ProcessInfo.processInfo.environment["KVSYNC_SEED"].flatMap { UInt64($0) }
}
