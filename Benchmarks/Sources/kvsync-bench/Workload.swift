// The keys and values that every contender gets, in the same order.

import Foundation

/// 16-byte random keys and 100-byte values, reproducible from a seed.
struct Workload {
  static let keyBytes = 16
  static let valueBytes = 100

  private var state: UInt64

  init(seed: UInt64 = 1) { state = seed }

  /// SplitMix64.
  mutating func word() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var word = state
    word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
    word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
    return word ^ (word >> 31)
  }

  /// Fills `key` with the next key.
  mutating func fill(_ key: inout [UInt8]) {
    unsafe withUnsafeBytes(of: (word(), word())) { bytes in
      for index in 0..<Workload.keyBytes { key[index] = unsafe bytes[index] }
    }
  }

  static let value = (0..<valueBytes).map { UInt8(truncatingIfNeeded: $0 &* 37) }
}

/// Seconds that `body` takes.
func time(_ body: () throws -> Void) rethrows -> Double {
  let clock = ContinuousClock()
  let start = clock.now
  try body()
  return (clock.now - start) / .seconds(1)
}

func time(_ body: () async throws -> Void) async rethrows -> Double {
  let clock = ContinuousClock()
  let start = clock.now
  try await body()
  return (clock.now - start) / .seconds(1)
}

func median(_ values: [Double]) -> Double {
  let sorted = values.sorted()
  guard !sorted.isEmpty else { return 0 }
  let middle = sorted.count / 2
  return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/// A directory under `base` that goes when `body` is done.
func withScratch<Result>(_ base: String, _ body: (String) async throws -> Result) async throws -> Result {
  let path = "\(base)/kvsync-bench-\(UInt64.random(in: 0...UInt64.max))"
  try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(atPath: path) }
  return try await body(path)
}
