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
    /// The token does not open the space (any more), there is none, or the hub wants another certificate of this replica.
    /// ``Replicator/run()`` waits and asks for a token again.
    case notAuthorized
    /// Whoever answers cannot show that it is the hub: its certificate has expired, is for another name, or is signed by an
    /// authority that is not trusted here. Trying again can help: a network may put somebody else in the way for a while.
    case untrustedHub
    /// A file of ``Replicator/TLS`` cannot be read or used.
    case certificate
    /// The hub is not on this machine, and its address is one without TLS.
    case insecure
    /// The two sides have no protocol, or no option that one of them needs, in common.
    case unsupported
    /// The space is another one than the store synchronised with before.
    case differentHub
    /// The hub was restored to an older state and lacks what this replica once gave it or got from it.
    case hubRestored
    /// This store was restored or copied: the hub has more of it than it has itself, or something else.
    case replicaRestored
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
    case .unreachable, .unavailable, .hubFull, .stalled, .untrustedHub: true
    default: false
    }
  }
}

extension ReplicatorError {
  init(_ refusal: Refusal) {
    let code: Code =
      switch refusal.code {
      case .unsupportedProtocol, .codecUnsupported: .unsupported
      case .invalidSpaceName: .invalidSpace
      case .unknownSpace: .unknownSpace
      case .storageFull: .hubFull
      case .storageCorrupt: .hubCorrupt
      case .notAuthorized, .readOnly, .otherOwner: .notAuthorized
      case .differentEpoch: .differentHub
      case .hubRestored: .hubRestored
      case .replicaRestored: .replicaRestored
      default: refusal.code.isTransient ? .unavailable : .protocolViolation
      }
    self.init(code, refusal.message)
  }

  private static func code(_ failure: TLSFailure) -> Code {
    switch failure {
    case .unknownAuthority, .expired, .notYetValid, .otherName: .untrustedHub
    case .certificateRequired, .certificateRefused: .notAuthorized
    case .closed: .unreachable
    case .plaintext, .tooOld, .other: .protocolViolation
    }
  }

  init(_ error: TransportError) {
    switch error {
    case .protocolBroken(.tlsSpoken):
      self.init(.protocolViolation, "the hub speaks TLS: connect with kvsyncs:// instead of kvsync://")
    case .protocolBroken(let broken): self.init(.protocolViolation, "the hub does not speak the protocol: \(broken)")
    case .plaintextRefused: self.init(.insecure, "\(error)")
    case .badTLSFile: self.init(.certificate, "\(error)")
    case .tls(let failure, _): self.init(Self.code(failure), "\(error)")
    default: self.init(.unreachable, "\(error)")
    }
  }
}
