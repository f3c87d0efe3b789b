// The 128-bit name of a store, an incarnation or a hub epoch.
//
// Invariants:
// - Sixteen bytes in a fixed order: `description`, the bytes in files and on the wire, and `Comparable` all agree
//   on it (most significant byte first), so every replica breaks a tie between two identities the same way.

/// A random 128-bit name: of a store, of an incarnation of it, or of a hub's epoch.
public struct Identity: Hashable, Sendable {
  /// The first eight bytes, most significant first.
  public let high: UInt64
  /// The last eight bytes, most significant first.
  public let low: UInt64

  /// The identity that names nothing; never drawn by ``random()``.
  public static let zero = Identity(high: 0, low: 0)

  @inlinable
  package init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  /// A new identity from the system's random numbers.
  public static func random() -> Identity {
    while true {
      let identity = Identity(high: .random(in: 0...UInt64.max), low: .random(in: 0...UInt64.max))
      if identity != .zero { return identity }
    }
  }

  /// Reads what ``description`` wrote: exactly 32 lowercase hexadecimal digits; anything else gives `nil`.
  public init?(_ description: String) {
    guard let (high, low) = Hexadecimal.parse128(description) else { return nil }
    self.init(high: high, low: low)
  }
}

extension Identity: Comparable {
  /// The order of the sixteen bytes, the same on every replica: it breaks ties between concurrent edits.
  @inlinable
  public static func < (left: Identity, right: Identity) -> Bool {
    (left.high, left.low) < (right.high, right.low)
  }
}

extension Identity: CustomStringConvertible {
  /// 32 lowercase hexadecimal digits, most significant first.
  public var description: String { Hexadecimal.string(high, low) }
}
