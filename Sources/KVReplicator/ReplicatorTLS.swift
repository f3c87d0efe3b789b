// Whom a replica trusts to be the hub, and what it shows of itself, as programs name it.

import KVTransport

extension Replicator {
  /// How a replica speaks TLS 1.3 with a hub whose address says so. All files are in PEM format and read for each
  /// connection. The hub's certificate is always verified, the name of the host included.
  public struct TLS: Sendable, Hashable {
    /// Authorities of which one must have signed the hub's certificate; `nil`: those that the system trusts.
    public var authorityFile: String?
    /// The replica's own certificate, for hubs that ask for one.
    public var certificateFile: String?
    /// The key of that certificate, without a passphrase; `nil`: it is in the same file.
    public var keyFile: String?
    /// The name that the hub's certificate must be for; `nil`: the host of the address. For hubs behind a tunnel.
    public var hubName: String?

    /// Trusts the system's authorities, and shows no certificate.
    public init() {}

    var files: ClientTLS {
      ClientTLS(
        authorityFile: authorityFile, certificateFile: certificateFile, keyFile: keyFile, hubName: hubName)
    }
  }
}
