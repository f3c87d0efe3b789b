// A store leaves the space that it synchronised with for another one, because it is told to.
//
// Of the other space nothing is known here, nor of this store there: the cursor is at 0, and everything that the store holds is
// to be offered, what it had pulled as well. What is pending is pushed from the log, with its transactions; all other rows
// become commits of this store, with the rows' times, so that the policy judges between them and what is there as it
// would have where they were written. Deletions go too: they are known for as long as the log that carries them.
//
// The rows of parked commits are not offered: those wait for the program, with whatever hub.
//
// Invariants
// - The store is bound to the other space with one record, before anything is offered: from then on it is refused by the
//   former one, and nobody needs to tell it again.
// - It goes on as a new incarnation: what the other space may have of the present one, from an earlier stay, comes like the
//   commits of others, and is not taken for known because the store knew it before it left.
// - A row is offered once. What was offered is newer than the record, so that whoever goes on after a crash passes it over.

package import KVLog

extension Store {
  /// Binds the store to a space of which it knows only where it stands, `head`, and offers it everything that is here. If it
  /// is bound to it already, goes on with that. Returns where the store stands then, and how many rows it offered.
  package func adopt(
    space: Identity, head: Position
  ) async throws -> (state: ReplicaState, rows: Int) {
    let token = lease
    try await perform { group in
      try group.checkLease(token)
      guard group.state.hubSpace != space else { return }
      try group.append(IncarnationRecord(incarnation: .random(), through: group.state.shipped))
      group.append(AdoptionRecord(space: space, head: head))
    }
    let state = state
    guard state.isAdopting else { return (replicaState(), 0) }
    let parked = try await onBlockingThread { [self] in try parkedVersions() }
    let rows = try await offerRows { row in
      guard row.version <= state.formerThrough else { return false }
      return row.serverVersion > 0 || row.version <= state.acknowledged && !parked.contains(row.version)
    }
    try await perform { group in
      try group.checkLease(token)
      group.appendAdopted()
    }
    return (replicaState(), rows)
  }

  private func parkedVersions() throws -> Set<Version> {
    var versions: Set<Version> = []
    var last: Version?
    while true {
      let page = try parkedCommits(after: last, limit: StoreLimits.parkedPerStep)
      guard let final = page.last else { return versions }
      last = final.id
      versions.formUnion(page.map(\.id))
    }
  }
}
