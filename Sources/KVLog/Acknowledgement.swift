// The hub's answer to a push.

/// Every commit through `through` has been decided; those not named in `exceptions` were applied. Sent once durable.
package struct Acknowledgement: Hashable, Sendable {
  /// The replica's version.
  package var through: Version
  package var exceptions: [CommitException]
  /// The hub's version after it.
  package var head: Version
  /// The hub's version that a backup of the hub covers; 0: none is announced.
  package var backedUp: Version = 0

  package init(through: Version, exceptions: [CommitException], head: Version) {
    self.through = through
    self.exceptions = exceptions
    self.head = head
  }
}
