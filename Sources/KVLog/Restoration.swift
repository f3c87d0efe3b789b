// Commits that a restored hub has lost, on their way back from a replica that had pulled them.

package struct Restoration: Hashable, Sendable {
  /// Commit records of the replica's log, made by others, in its versions; each has the version that the hub had given it.
  package var segment: CommitSegment
  /// The newest version that the hub still has of what the replica had pulled.
  package var cursor: Version
  /// Commits of it, by the replica's versions, that are not to be taken whatever the space says.
  package var declined: Set<Version> = []

  package init(segment: CommitSegment, cursor: Version) {
    self.segment = segment
    self.cursor = cursor
  }
}

/// What came of them on the hub.
package struct RestorationOutcome: Hashable, Sendable {
  /// The replica's version through which they were decided, durably.
  package var through: Version
  /// Those that were not taken, by the replica's versions.
  package var declined: [Version]
  /// The hub's version by which it has the others.
  package var head: Version

  package init(through: Version, declined: [Version], head: Version) {
    self.through = through
    self.declined = declined
    self.head = head
  }
}
