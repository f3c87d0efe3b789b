// What a session needs to know of its space to decide a handshake, read in one go.

package import KVLog
package import KVProtocol

package struct SpaceState: Hashable, Sendable {
  /// The first epoch of the space, and those between it and the present one.
  package var formerEpochs: [Identity] = []
  package var head: Position
  package var retentionFloor: Version
  /// For how long the log surely keeps what it has; 0: for ever.
  package var retentionSeconds: UInt64 = 0
  /// The version that a backup covers; 0: none is announced.
  package var backedUp: Version = 0
  /// What the hub has decided of the replica; `nil`: it has never pushed.
  package var progress: ReplicaProgress?
  /// The newest of the replica's positions that is in this history; `nil`: the replica knows another space.
  package var common: Position?

  /// The name of the space, whatever becomes of it.
  package var space: Identity { formerEpochs.first ?? head.identity }

  package init(head: Position, retentionFloor: Version, progress: ReplicaProgress?, common: Position?) {
    self.head = head
    self.retentionFloor = retentionFloor
    self.progress = progress
    self.common = common
  }

  /// What the replica is told of it, over a connection or in a file.
  func welcome(to hello: Hello, _ coverage: SentCoverage) -> Welcome {
    let progress = progress ?? ReplicaProgress(of: hello.replica)
    var welcome = Welcome(
      space: space, head: head, lastApplied: progress.lastApplied, appliedDigest: progress.digest,
      common: common ?? .start(of: head.identity),
      unconfirmed: progress.unconfirmed.filter { $0.version > hello.shipped.version }, retentionFloor: retentionFloor)
    welcome.appliedKind = progress.digestKind
    welcome.horizon = progress.horizon
    welcome.confirmed = progress.confirmed
    welcome.covered = coverage.covered
    welcome.retentionSeconds = retentionSeconds
    welcome.backedUp = backedUp
    return welcome
  }
}

extension HubSpace {
  /// Blocks like the functions it is made of. Progress is read before the head, so that the head covers its effects.
  package func state(for hello: Hello) throws -> SpaceState {
    let progress = try progress(of: hello.replica)
    let head = try head()
    let former = try formerEpochs()
    var state = SpaceState(
      head: head, retentionFloor: try retentionFloor(), progress: progress,
      common: try common(hello, head, former, hasLost: progress?.lastApplied ?? 0 < hello.shipped.version))
    state.retentionSeconds = retentionSeconds
    state.backedUp = min(backedUpVersion(), head.version)
    state.formerEpochs = former.map(\.identity)
    return state
  }

  /// The hub's present position is not among those: only positions that the replica says it has passed.
  private func common(
    _ hello: Hello, _ head: Position, _ former: [Position], hasLost: Bool
  ) throws -> Position? {
    let start = Position(identity: head.identity, version: 0, digest: .origin(of: head.identity))
    guard let cursor = hello.cursor else { return start }
    guard hello.cursorSpace == former.first?.identity ?? head.identity else { return nil }
    // What is surely common with whoever knows the epoch of the cursor, also where the log is gone.
    // Of an epoch that the hub has lost altogether, nothing is.
    let sure =
      cursor.identity == head.identity
      ? head.version : former.last { $0.identity == cursor.identity }?.version ?? 0
    // Where the hub has lost what the replica knows, what its log no longer shows may have been another history too.
    var isContradicted = hasLost
    for position in [cursor] + hello.positions where position.version > 0 && position.version <= head.version {
      let digest = try digest(at: position.version)
      if digest == position.digest || digest == nil && position.version <= sure && !isContradicted {
        return Position(identity: head.identity, version: position.version, digest: position.digest)
      }
      isContradicted = isContradicted || digest != nil && cursor.identity == head.identity
    }
    return start
  }
}
