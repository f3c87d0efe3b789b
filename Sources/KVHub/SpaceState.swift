// What a session needs to know of its space to decide a handshake, read in one go.

package import KVLog

package struct SpaceState: Hashable, Sendable {
  package var head: Position
  package var retentionFloor: Version
  /// What the hub has decided of the replica; `nil`: it has never pushed.
  package var progress: ReplicaProgress?
  /// The hub's digest at the replica's cursor; `nil` when there is no cursor or the hub cannot tell.
  package var digestAtCursor: Digest?

  package init(head: Position, retentionFloor: Version, progress: ReplicaProgress?, digestAtCursor: Digest? = nil) {
    self.head = head
    self.retentionFloor = retentionFloor
    self.progress = progress
    self.digestAtCursor = digestAtCursor
  }
}

extension HubSpace {
  /// Blocks like the functions it is made of. Progress is read before the head, so that the head covers its effects.
  func state(for replica: Identity, cursor: Position?) throws -> SpaceState {
    let progress = try progress(of: replica)
    let head = try head()
    var digest: Digest?
    if let cursor, cursor.identity == head.identity { digest = try self.digest(at: cursor.version) }
    return SpaceState(
      head: head, retentionFloor: try retentionFloor(), progress: progress, digestAtCursor: digest)
  }
}
