// The error type of the replicator's public interface.

import KVProtocol
import KVTransport

/// Why a replica could not synchronise: what happened, and what to do.
///
/// `code` is for programs and may grow; `message` is for people and ends with the remedy.
public struct ReplicatorError: Error, Sendable, Hashable, CustomStringConvertible {
  /// The reasons, for programs. More may come: switch with a `default`.
  public enum Code: String, Sendable, Hashable {
    /// Nobody answers there, or the link broke. Trying again can help.
    case unreachable
    /// The hub cannot serve at the moment: busy, failed, going down. Trying again can help.
    case unavailable
    /// The hub has no space left to store anything. Trying again helps once there is room.
    case hubFull
    /// What the hub has stored of the space fails its checks.
    case hubCorrupt
    /// The text is no address of a space.
    case invalidAddress
    /// The name of the space is not a legal one.
    case invalidSpace
    /// There is no such space on the hub.
    case unknownSpace
    /// The token does not open the space.
    case notAuthorized
    /// The two sides have no protocol, or no option that one of them needs, in common.
    case unsupported
    /// The space is another one than the store synchronised with before.
    case differentHub
    /// The hub was restored to an older state and lacks what this replica once gave it or got from it.
    case hubRestored
    /// This store was restored or copied: the hub has more of it than it has itself, or something else.
    case replicaRestored
    /// The hub no longer has the commits that this replica still needs.
    case belowRetentionFloor
    /// The other side does not follow the protocol.
    case protocolViolation
    /// The hub answers, and does not do what is its turn. Trying again can help.
    case stalled
    /// The replicator is paused.
    case paused
    /// The store failed: a `StoreError`, as ``ReplicatorStatus/lastError`` tells it.
    case storeFailed
  }

  /// The reason, for programs.
  public let code: Code
  /// What happened and what to do, for people.
  public let message: String

  /// An error with this code and message.
  public init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }

  /// The message.
  public var description: String { message }

  /// Whether trying again later, unchanged, can help.
  public var isTransient: Bool {
    switch code {
    case .unreachable, .unavailable, .hubFull, .stalled: true
    default: false
    }
  }
}

extension ReplicatorError {
  init(_ refusal: Refusal) {
    let code: Code =
      switch refusal.code {
      case .unsupportedProtocol, .codecUnsupported, .scopesUnsupported: .unsupported
      case .invalidSpaceName: .invalidSpace
      case .unknownSpace: .unknownSpace
      case .storageFull: .hubFull
      case .storageCorrupt: .hubCorrupt
      case .notAuthorized: .notAuthorized
      case .differentEpoch: .differentHub
      case .hubRestored: .hubRestored
      case .replicaRestored: .replicaRestored
      case .belowRetentionFloor: .belowRetentionFloor
      default: refusal.code.isTransient ? .unavailable : .protocolViolation
      }
    self.init(code, refusal.message)
  }

  init(_ error: TransportError) {
    switch error {
    case .protocolBroken(let broken): self.init(.protocolViolation, "the hub does not speak the protocol: \(broken)")
    default: self.init(.unreachable, "\(error)")
    }
  }
}
