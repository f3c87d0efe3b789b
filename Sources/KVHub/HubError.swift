// The error of the hub's public interface.

package import KVTransport

/// Why a hub does not run.
///
/// `code` is for programs and may grow; `message` is for people and says what to do.
public struct HubError: Error, Sendable, Hashable, CustomStringConvertible {
  /// The reasons, for programs. More may come: switch with a `default`.
  public enum Code: String, Sendable, Hashable {
    /// Another program listens on the port.
    case portInUse
    /// The system does not let this user listen on the port.
    case notAllowed
    /// The address cannot be listened on.
    case cannotListen
    /// A file of ``Hub/TLS`` cannot be read or used.
    case certificate
    /// Other machines could reach a hub that is not protected.
    case insecure
    /// What a token was to be created with breaks its rules.
    case invalidToken
    /// The hub was started before, or has been shut down.
    case notStartable
  }

  /// The reason, for programs.
  public let code: Code
  /// What happened and what to do, for people.
  public let message: String

  package init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }

  /// The message.
  public var description: String { message }
}

extension HubError {
  package init(_ error: TransportError) {
    let code: Code =
      switch error {
      case .addressInUse: .portInUse
      case .listenNotAllowed: .notAllowed
      case .badTLSFile: .certificate
      case .plaintextListenRefused: .insecure
      default: .cannotListen
      }
    self.init(code, error.description)
  }
}
