// What a write gives back.
//
// Why it refers to the publication: with that it can wait for what becomes of its commit, of the right store, and keeps
// neither the store open nor anything of it but the counters.

public import KVLog

/// What a write gives back: which commit it was. Equal receipts are of the same commit of the same opened store.
public struct Receipt: Sendable, Hashable {
  /// The version of the commit; of the commit before it, when the transaction changed nothing.
  public let version: Version
  /// How many changes it recorded.
  public let changes: Int
  private let publication: Publication

  init(version: Version, changes: Int, publication: Publication) {
    self.version = version
    self.changes = changes
    self.publication = publication
  }

  /// What the hub has made of a commit.
  public enum Decision: Sendable, Hashable {
    /// The hub has it, durably; or what has taken its place: what was written here over it, or the other side of a
    /// conflict that it lost.
    case applied
    /// The hub does not accept it, or the commit that carries it on, with this code (<doc:Parked>) and for this reason. It
    /// waits here, parked, and is not on the hub.
    case parked(code: UInt16, reason: String)
    /// The hub did not accept it, and the program has dropped it, or made nothing of it: it is not on the hub, and nobody
    /// offers it again.
    case dropped
  }

  /// Suspends until the hub has decided the commit, and tells how. A commit that it finds stale is offered again under a
  /// later version, and so is what stands of one in a conflict, what was parked and is retried, what the program decides
  /// for it in a conflict that was left to it, and what a restored hub had lost: these are waited for too, as often as that
  /// happens. What a commit was carried on by is known for as long as the log has that; then it counts as applied.
  ///
  /// A replicator has to bring that about, in whatever process; without one this waits until the store is closed.
  ///
  /// Suspends without a thread, and costs the store next to nothing however many wait. Throws ``StoreError``: `closed` (a
  /// receipt belongs to the store that gave it, opened once), `poisoned`, `corrupt`, `system`; or `CancellationError`.
  @discardableResult
  public func acknowledged() async throws -> Decision {
    var undecided = [version]
    while let version = undecided.popLast() {
      let state = try await publication.wait(for: .acknowledged(version))
      guard state.lastSuccessor >= version || state.parkedCommits > 0 else { continue }
      guard let core = publication.core else { throw StoreError.closed }
      let (parked, successors) = try core.fate(of: version)
      if let parked { return .parked(code: parked.code, reason: parked.reason) }
      // Carried on by itself: by nothing.
      if successors.contains(version) { return .dropped }
      undecided += successors
    }
    return .applied
  }

  /// Whether both are of one commit.
  public static func == (left: Receipt, right: Receipt) -> Bool {
    left.version == right.version && left.changes == right.changes && left.publication === right.publication
  }

  /// Hashes the version and the number of changes.
  public func hash(into hasher: inout Hasher) {
    hasher.combine(version)
    hasher.combine(changes)
  }
}
