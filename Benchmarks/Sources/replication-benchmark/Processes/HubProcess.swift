// The hub of the benchmark, as `kvsync serve` runs it.

import ArgumentParser
import BenchmarkSupport
import KVHub
import KVHubEmbedded

/// Prints its address and serves until its standard input ends.
struct HubProcess: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "hub", shouldDisplay: false)

  @Argument var directory: String

  /// What a hub lets a replica have in flight, in bytes.
  static let windowBytes = Hub.Options().windowBytes

  func run() throws {
    try blocking { try await work() }
  }

  private func work() async throws {
    let hub = Hub(storage: try EmbeddedHubStorage(directory: directory))
    let address = try await hub.start()
    announce("\(address.port)")
    await standardInputEnd()
    await hub.shutdown()
  }
}
