// What a replicator asks a hub without synchronising: whether both hold the same, what a session would do, and where the hub is.
//
// Invariant: nothing here changes either side, and a session that is under way is not disturbed.

public import KVLog
import KVProtocol
import KVStore
import KVTransport

extension Replicator {
  /// Compares the store with the hub, row by row in key order, without sending values and in bounded memory. Changes
  /// neither side, works on a store that is open read-only, and makes no space.
  ///
  /// Reads the rows of both up to the first that differs. When either side is written meanwhile it begins again, five
  /// times in all. That store or hub was restored or copied is not thrown but told by ``Comparison/obstacle``.
  ///
  /// Throws ``ReplicatorError``: `unreachable`, `unavailable` (also: the data keeps changing), `unknownSpace`,
  /// `invalidSpace`, `notAuthorized`, `differentHub`, `hubCorrupt`, `unsupported`, `protocolViolation`; `StoreError`:
  /// `closed`, `corrupt`, `system`; `CancellationError`.
  public func compare() async throws -> Comparison {
    try await inquire { try await $0.run() }
  }

  /// What a session in this direction would do: how much would be sent and would come, and how many conflicts are to be
  /// expected. Changes neither side: no space is made, no cursor moved, and a session of the store, here or elsewhere, is
  /// not disturbed. Works on a store that is open read-only.
  ///
  /// Reads the backlog as pushing does, and has the hub look through what it would feed. Memory is bounded, whatever there
  /// is on either side. That store or hub was restored or copied is not thrown but told by ``SyncPlan/obstacle``; a space that
  /// the session would make, by ``SyncPlan/createsSpace``.
  ///
  /// Throws ``ReplicatorError``: `unreachable`, `unavailable`, `unknownSpace`, `invalidSpace`, `notAuthorized`,
  /// `differentHub`, `hubCorrupt`, `unsupported`, `protocolViolation`; `StoreError`: `closed`, `corrupt`, `system`;
  /// `CancellationError`.
  public func plan(_ direction: Direction = .both) async throws -> SyncPlan {
    try await inquire { [configuration] comparer in
      try await Planner(
        comparer: comparer, history: configuration.history, segmentBytes: configuration.segmentBytes,
        direction: direction
      ).run()
    }
  }

  /// The hub's newest version, by a handshake and nothing else. Makes no space, works on a store that is open read-only,
  /// and while it is synchronised. Throws as ``compare()``.
  public func hubVersion() async throws -> Version {
    try await inquire { try await $0.head() }
  }

  /// Connects to ask, and not to synchronise.
  private func inquire<Answer: Sendable>(_ body: (Comparer) async throws -> Answer) async throws -> Answer {
    let token = try await token()
    let connection = try await connect()
    defer { connection.close() }
    // A hub that falls silent is not waited for: the closed connection ends the comparison.
    let watch = Task {
      while connection.silence < ProtocolLimits.idleLimit { try await Task.sleep(for: ProtocolLimits.idleLimit / 6) }
      connection.close()
    }
    defer { watch.cancel() }
    let comparer = Comparer(store: store, space: hub.space, token: token, connection: connection)
    do {
      return try await body(comparer)
    } catch let error as ReplicatorError where connection.silence >= ProtocolLimits.idleLimit {
      throw ReplicatorError(error.code, ReplicaSession.silent(for: connection.silence))
    } catch {
      // A link that the cancellation broke is no failure of the link.
      try Task.checkCancellation()
      throw error
    }
  }
}
