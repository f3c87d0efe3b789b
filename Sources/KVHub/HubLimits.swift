// The hub's own numbers, each with its reason. What one connection may do is in `ProtocolLimits`; what an embedder may
// change is in `Hub.Options`, whose defaults refer to these.

package enum HubLimits {
  // MARK: Memory

  /// The window that every session has from its beginning: two segments, so that one is on its way while the other is
  /// admitted. All connections together hold so much each…
  package static let firstWindowBytes = 256 << 10
  /// …and this in addition, for those that make use of more. Forty backlogs are drained at full speed at the same time.
  package static let inFlightBytes = 160 << 20
  /// Unfinished messages, and commits larger than a window, over all connections: four of the largest.
  package static let stagedBytes = 256 << 20
  // MARK: Time

  /// How long one frame, at most 1 MiB, may take in either direction: 17 kB/s. Who is slower for so long holds a
  /// connection and memory for nothing.
  package static let frameLimit: Duration = .seconds(60)

  // MARK: Who comes in

  /// Credentials that are none, from one address at once: a person who mistypes a file's name does not notice it…
  package static let failedTries = 20
  /// …and how often one more: a machine that guesses gets thirty a minute, of 2^256.
  package static let failedTryInterval: Duration = .seconds(2)
  /// Addresses whose failures are remembered: some hundred kilobytes.
  package static let rememberedAddresses = 4_096
  /// How often the credentials of live sessions are asked about: a revocation holds within two of these.
  package static let accessInterval: Duration = .milliseconds(500)
  /// Epochs that a space may begin at once because replicas know more of it than it has: more than anybody restores a hub
  /// while it serves…
  package static let epochsAtOnce = 16
  /// …and how often one more. Each is remembered for good.
  package static let epochInterval: Duration = .seconds(60)
  /// Replicas that one principal may have in one space. Each is remembered for good.
  package static let replicasOfPrincipal = 4_096
}
