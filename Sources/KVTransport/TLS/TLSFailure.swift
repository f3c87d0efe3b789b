// Why two sides do not come to speak TLS with each other, told from what BoringSSL says.
//
// In TLS 1.3 a replica is done with the handshake before the hub has looked at its certificate: that the hub does not
// accept it arrives afterwards, as an alert in the place of the first message.

import NIOSSL

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

package enum TLSFailure: Hashable, Sendable {
  /// No authority that is trusted here signed the other side's certificate.
  case unknownAuthority
  case expired
  case notYetValid
  /// The certificate is for other names than the one connected to.
  case otherName
  /// The other side answered with something else.
  case plaintext
  /// The other side closed before the handshake was over, without a word.
  case closed
  /// The other side wants a certificate, and has got none.
  case certificateRequired
  /// The other side does not accept this one's certificate: why, as it says.
  case certificateRefused(String)
  /// The other side has no TLS 1.3.
  case tooOld
  case other(String)

  /// `nil` when the error is none of TLS. `peer` is the other side's certificate if it has shown one.
  init?(_ error: any Error, peer: NIOSSLCertificate?) {
    switch error {
    case let error as NIOSSLExtraError where error == .failedToValidateHostname:
      self = .otherName
    case NIOSSLError.handshakeFailed(.sslError(let stack)), BoringSSLError.sslError(let stack):
      self = stack.contains(.eofDuringHandshake) ? .closed : TLSFailure(stack.map(\.description).joined(), peer)
    case let error as NIOSSLError where error != .uncleanShutdown:
      self = .other("\(error)")
    case let error as BoringSSLError:
      self = .other("\(error)")
    default:
      return nil
    }
  }

  private init(_ stack: String, _ peer: NIOSSLCertificate?) {
    func says(_ words: String...) -> Bool { words.contains { stack.contains($0) } }
    if says("CERTIFICATE_VERIFY_FAILED") {
      self = .unknownAuthority
      guard let peer else { return }
      let now = time(nil)
      if peer.notValidAfter < now { self = .expired }
      if peer.notValidBefore > now { self = .notYetValid }
    } else if says("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_RECORD", "INVALID_SSL") {
      self = .plaintext
    } else if says("CERTIFICATE_REQUIRED", "PEER_DID_NOT_RETURN_A_CERTIFICATE") {
      self = .certificateRequired
    } else if says("ALERT_UNKNOWN_CA") {
      self = .certificateRefused("no authority that it trusts signed it")
    } else if says("ALERT_CERTIFICATE_EXPIRED") {
      self = .certificateRefused("it has expired")
    } else if says("ALERT_BAD_CERTIFICATE", "ALERT_UNSUPPORTED_CERTIFICATE", "ALERT_CERTIFICATE_UNKNOWN") {
      self = .certificateRefused("it is not valid for this use")
    } else if says("UNSUPPORTED_PROTOCOL", "ALERT_PROTOCOL_VERSION") {
      self = .tooOld
    } else {
      self = .other(stack)
    }
  }
}

extension TLSFailure: CustomStringConvertible {
  /// What happened, and what to do.
  package var description: String {
    switch self {
    case .unknownAuthority:
      "no trusted authority signed its certificate; give the file of the authority that did"
    case .expired: "its certificate has expired; renew it there, or set this machine's clock"
    case .notYetValid: "its certificate is not valid yet; set the clock of the machine that is wrong"
    case .otherName:
      "its certificate is for another name; connect by a name or address that the certificate has"
    case .plaintext: "it does not speak TLS; kvsync:// connects without"
    case .closed:
      "it closed the connection before the TLS handshake was over; check that it serves TLS (kvsync:// connects without)"
    case .certificateRequired:
      "a certificate is required of whoever connects; give one of the authority that the hub trusts"
    case .certificateRefused(let reason):
      "the certificate shown to it is refused: \(reason); use another one, or have the authority trusted there"
    case .tooOld: "it does not speak TLS 1.3; upgrade it"
    case .other(let reason): "the TLS handshake failed: \(reason)"
    }
  }
}
