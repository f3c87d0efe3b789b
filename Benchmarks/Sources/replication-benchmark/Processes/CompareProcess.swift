// Whether a replica and the hub hold the same rows.

import ArgumentParser
import BenchmarkSupport
import KVReplicator
import KVStore

/// Prints how many keys both have; an error when they differ.
struct CompareProcess: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "compare", shouldDisplay: false)

  @Argument var directory: String
  @Argument var hub: String

  func run() throws {
    try blocking { try await work() }
  }

  private func work() async throws {
    let store = try await Store.open(at: directory)
    let comparison = try await Replicator(store, hub: try HubAddress(hub)).compare()
    try await store.close()
    guard comparison.isEqual else { throw BenchmarkError("replica and hub differ") }
    announce("\(comparison.keys)")
  }
}
