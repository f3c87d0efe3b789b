// One token: what it grants, and what is kept of it.

public import KVHub

/// A token that a hub knows. The secret itself is not among what is kept: only its holder has it.
public struct HubToken: Sendable, Hashable, Codable, Identifiable {
  /// Names the token where it is listed and revoked; also the second part of its text. Not a secret.
  public let id: String
  /// Whose it is: see ``KVHub/Hub/Grant/principal``. Several tokens may be of one principal, such as a new one beside the one that
  /// is about to expire.
  public let principal: String
  /// The spaces that it is for; `nil`: all. A token that names its spaces may make those with the right to write.
  public let spaces: [String]?
  /// What its holder may do there.
  public let right: Hub.Right
  /// When it was created, in Unix milliseconds.
  public let created: UInt64
  /// When it ends by itself, in Unix milliseconds; `nil`: never.
  public let expires: UInt64?
  /// When it was revoked, in Unix milliseconds; `nil`: it was not.
  public internal(set) var revoked: UInt64?
  /// SHA-256 of its text.
  let hash: [UInt8]

  /// What a token is good for at a time.
  public enum State: String, Sendable, Hashable {
    /// It is accepted.
    case active
    /// Its time is over.
    case expired
    /// Somebody ended it.
    case revoked
  }

  /// Its state at a time in Unix milliseconds.
  public func state(at now: UInt64) -> State {
    if revoked != nil { return .revoked }
    return expires.map { $0 <= now } ?? false ? .expired : .active
  }

  func opens(_ space: String) -> Bool { spaces?.contains(space) ?? true }

  /// Whether this is its text: compared in a time that does not depend on where they differ.
  func matches(_ text: [UInt8]) -> Bool {
    let other = SHA256.hash(text)
    guard hash.count == other.count else { return false }
    return zip(hash, other).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
  }
}

/// The text of a token: `kvsync_`, its id in 8 hexadecimal digits, `_`, and 256 random bits in 64.
struct TokenText {
  static let prefix = "kvsync_"

  let id: String
  let text: String

  /// A new one, from the system's source of randomness for keys.
  static func random() -> TokenText {
    var source = SystemRandomNumberGenerator()
    func digits(_ count: Int) -> String {
      (0..<count).map { _ in String(UInt8.random(in: 0...15, using: &source), radix: 16) }.joined()
    }
    let id = digits(8)
    return TokenText(id: id, text: "\(prefix)\(id)_\(digits(64))")
  }

  /// The id in a text that looks like a token.
  static func id(in text: [UInt8]) -> String? {
    let text = String(decoding: text, as: UTF8.self)
    guard text.hasPrefix(prefix), text.utf8.count == prefix.utf8.count + 8 + 1 + 64 else { return nil }
    return String(text.dropFirst(prefix.count).prefix(8))
  }
}
