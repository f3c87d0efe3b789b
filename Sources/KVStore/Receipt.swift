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

  /// Suspends until the hub has decided every local commit up to this one: applied it, durably, or found it stale, and
  /// then what is still current of it is pending again under a later version. A replicator has to bring that about;
  /// without one this waits until the store is closed.
  ///
  /// Throws ``StoreError``: `closed` (a receipt belongs to the store that gave it, opened once), `poisoned`; or
  /// `CancellationError`.
  public func acknowledged() async throws {
    _ = try await publication.wait(for: .acknowledged(version))
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
