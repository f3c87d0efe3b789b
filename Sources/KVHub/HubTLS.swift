// The hub's certificate, as programs name it.

import KVTransport
import Logging

extension Hub {
  /// The files that a hub speaks TLS 1.3 with, in PEM format.
  ///
  /// They are looked at for each connection: replace them, and the next one is served with the new certificate. While what
  /// they hold makes no sense the former certificate stays in use, and the logger is told once.
  public struct TLS: Sendable, Hashable {
    /// The hub's certificate, followed by those between it and its authority's.
    public var certificateFile: String
    /// Its private key, without a passphrase.
    public var keyFile: String
    /// Authorities of which one must have signed the certificate that a replica shows; `nil`: none is asked for. Tokens
    /// are asked for as well.
    public var clientAuthorityFile: String?

    /// TLS with these files, which are read when the hub starts.
    public init(certificateFile: String, keyFile: String, clientAuthorityFile: String? = nil) {
      self.certificateFile = certificateFile
      self.keyFile = keyFile
      self.clientAuthorityFile = clientAuthorityFile
    }

    func source(_ logger: Logger) throws(TransportError) -> CertificateSource {
      let files = ServerTLS(
        certificateFile: certificateFile, keyFile: keyFile, clientAuthorityFile: clientAuthorityFile)
      return try CertificateSource(files) { news in
        switch news {
        case .renewed: logger.notice("the certificate was renewed")
        case .kept(let error): logger.error("the former certificate stays in use: \(error)")
        }
      }
    }
  }
}
