// How much of a replica's history its hub is given.

/// Which local commits are shipped to the hub. Whatever it is, hub and replicas end with the same rows.
public enum ShippedHistory: Sendable, Hashable {
  /// Commits of which something is still current. A commit all of whose changes were overwritten by later commits of this
  /// store is passed over, so that others may never see what lay between, and a hub that refuses commits judges the last of
  /// several values only; a commit that is shipped is shipped whole.
  case latest
  /// Every commit, in order: others see each value that a key has had here.
  case every
}
