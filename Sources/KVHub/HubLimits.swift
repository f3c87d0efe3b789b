// The hub's own numbers, each with its reason. What one connection may do is in `ProtocolLimits`; what an embedder may
// change is in `Hub.Options`, whose defaults refer to these.

package enum HubLimits {
  // MARK: Who comes in

  /// Credentials that are none, from one address at once: a person who mistypes a file's name does not notice it…
  package static let failedTries = 20
  /// …and how often one more: a machine that guesses gets thirty a minute, of 2^256.
  package static let failedTryInterval: Duration = .seconds(2)
  /// Addresses whose failures are remembered: some hundred kilobytes.
  package static let rememberedAddresses = 4_096
  /// How often the credentials of live sessions are asked about: a revocation holds within two of these.
  package static let accessInterval: Duration = .milliseconds(500)
  /// Replicas that one principal may have in one space. Each is remembered for good.
  package static let replicasOfPrincipal = 4_096
}
