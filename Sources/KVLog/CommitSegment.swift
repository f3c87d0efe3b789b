// Runs of whole commits, as they are cut out of a log to travel.

/// The commits of (`after`, `through`] of one log, or those of them that the receiver is to have.
package struct CommitSegment: Hashable, Sendable {
  package var after: Version
  package var through: Version
  /// The sender's digest at `through`.
  package var digest: Digest
  /// Commit records as they lie in the sender's log, one after the other. May be empty.
  package var records: [UInt8]
  package var changeCount: Int

  package init(after: Version, through: Version, digest: Digest, records: [UInt8], changeCount: Int) {
    self.after = after
    self.through = through
    self.digest = digest
    self.records = records
    self.changeCount = changeCount
  }
}

/// A run of a replica's own commits on its way to the hub.
package struct PushSegment: Hashable, Sendable {
  package var segment: CommitSegment
  /// The pull cursor when the run was read: what the replica had seen of the others.
  package var cursor: Version
  /// The keys of which the cursor says what was seen. Of any other, nothing was.
  package var coverage = Coverage.all
  /// On the hub: its log began after this version when the session did; nil: the replica is fed nothing in that.
  package var formerFloor: Version?
  package var horizon = Horizon.none
  /// All local changes of (after, through], those no longer shipped included: what the counters go down by when the
  /// run is acknowledged.
  package var localChanges: Int
  package var localBytes: Int
  /// On the hub: commits of the run that are not to be applied, whatever they met; in the order of their versions.
  package var refusals: [CommitRefusal] = []

  package init(segment: CommitSegment, cursor: Version, localChanges: Int, localBytes: Int) {
    self.segment = segment
    self.cursor = cursor
    self.localChanges = localChanges
    self.localBytes = localBytes
  }

  /// Whether the replica had not seen, and may be fed, what was forgotten during the session, deletions too: what lies before the
  /// hub's present `floor`.
  package func hasLapsed(floor: Version) -> Bool {
    formerFloor.map { $0 < floor && cursor < floor } ?? false
  }
}

/// Goes along with a push's commits and finds the refusals that belong to them.
package struct RefusalCursor {
  private var rest: ArraySlice<CommitRefusal>

  package init(_ refusals: [CommitRefusal]) { rest = refusals[...] }

  package var isEmpty: Bool { rest.isEmpty }

  /// The refusal of the commit, if there is one. Versions ascend from call to call.
  package mutating func next(for version: Version) -> CommitRefusal? {
    while let first = rest.first, first.version < version { rest.removeFirst() }
    guard let first = rest.first, first.version == version else { return nil }
    return first
  }
}
