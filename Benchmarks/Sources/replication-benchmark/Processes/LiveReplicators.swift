// Stores that are live on a hub while something is done with them.

import KVReplicator
import KVStore

/// Runs `body` once all stores have caught up with the hub, and keeps them live until it returns.
func withLiveReplicators(
  of stores: [Store], hub: String, _ body: @escaping @Sendable () async throws -> Void
) async throws {
  let address = try HubAddress(hub)
  let (caughtUp, signal) = AsyncStream<Void>.makeStream()
  try await withThrowingTaskGroup(of: Void.self) { group in
    for store in stores {
      var configuration = Replicator.Configuration()
      configuration.caughtUp = { _ in signal.yield() }
      let replicator = Replicator(store, hub: address, configuration: configuration)
      group.addTask { try await replicator.run() }
    }
    group.addTask {
      var waiting = stores.count
      for await _ in caughtUp {
        waiting -= 1
        if waiting == 0 { break }
      }
      try await body()
    }
    // A replicator ends first only when it fails.
    try await group.next()
    group.cancelAll()
  }
}
