// The running digest of a log, and the checksums everything else uses: XXH3 in 64 and 128 bits.
//
// Invariants:
// - Digest(v) = XXH3-128( Digest(v-1), v, XXH3-128(core of commit v) ): equal digests at a version mean equal logs
//   through it. The origin (before version 1) is the digest of the log's identity, so two stores never share one.
// - Sixteen bytes, most significant first, in files, on the wire and in `description` (XXH3's canonical form).

internal import CXXHash

/// A 128-bit digest: of the commits of a log through a version, or of some bytes.
///
/// It is XXH3-128 (Y. Collet, xxHash 0.8, whose output is stable), chained over the commits. Equal digests at a version
/// mean equal logs through it. It guards against accidents, not against somebody who wants two histories to agree.
public struct Digest: Hashable, Sendable {
  /// The first eight bytes, most significant first.
  public let high: UInt64
  /// The last eight bytes, most significant first.
  public let low: UInt64

  /// The digest that stands for none.
  public static let zero = Digest(high: 0, low: 0)

  @inlinable
  package init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  /// The digest before version 1 of the log of `identity`.
  package static func origin(of identity: Identity) -> Digest {
    checksum128(of: (identity.high.bigEndian, identity.low.bigEndian))
  }

  /// The digest after a commit, from the digest before it.
  package func chained(version: Version, core: RawSpan) -> Digest {
    let content = checksum128(core)
    return checksum128(
      of: (
        high.bigEndian, low.bigEndian, version.littleEndian, content.high.bigEndian, content.low.bigEndian
      ))
  }
}

extension Digest: CustomStringConvertible {
  /// 32 lowercase hexadecimal digits, most significant first.
  public var description: String { Hexadecimal.string(high, low) }

  /// Reads what ``description`` wrote; anything else gives `nil`.
  package init?(_ description: String) {
    guard let (high, low) = Hexadecimal.parse128(description) else { return nil }
    self.init(high: high, low: low)
  }
}

/// XXH3-64 of `bytes`.
package func checksum64(_ bytes: RawSpan, seed: UInt64 = 0) -> UInt64 {
  unsafe bytes.withUnsafeBytes { unsafe XXH3_64bits_withSeed($0.baseAddress, $0.count, seed) }
}

/// XXH3-128 of `bytes`.
package func checksum128(_ bytes: RawSpan) -> Digest {
  let hash = unsafe bytes.withUnsafeBytes { unsafe XXH3_128bits($0.baseAddress, $0.count) }
  return Digest(high: hash.high64, low: hash.low64)
}

/// XXH3-128 of a tuple of words, as they lie in memory.
private func checksum128<Words: BitwiseCopyable>(of words: Words) -> Digest {
  let hash = unsafe withUnsafeBytes(of: words) { unsafe XXH3_128bits($0.baseAddress, $0.count) }
  return Digest(high: hash.high64, low: hash.low64)
}
