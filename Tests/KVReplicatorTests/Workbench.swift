// What the tests over real stores, hubs and sockets share: a scratch directory, hubs over either storage, waiting.

import KVHub
import KVHubEmbedded
import KVStore
import TestSupport
import Testing

@testable import KVReplicator

/// A scratch directory, and what is made in it.
final class Workbench: Sendable {
  enum Storage: String, CaseIterable, Sendable, CustomTestStringConvertible {
    case memory, embedded

    var testDescription: String { rawValue }
  }

  private let scratch: Scratch
  var path: String { scratch.path }

  init() throws { scratch = try Scratch() }

  func store(_ name: String) async throws -> Store {
    try await Store.open(at: "\(path)/\(name)")
  }

  /// A hub that serves; over the embedded storage, the one that was there before.
  func hub(_ storage: Storage = .memory, _ options: Hub.Options = Hub.Options()) async throws -> Hub {
    let hub =
      switch storage {
      case .memory: Hub(storage: InMemoryHubStorage(), options: options)
      case .embedded: Hub(storage: try EmbeddedHubStorage(directory: "\(path)/hub"), options: options)
      }
    try await hub.start()
    return hub
  }
}

extension Hub {
  func address(of space: String = "space") throws -> HubAddress {
    let address = try #require(address)
    return HubAddress(host: address.host, port: address.port, space: space)
  }
}

// Files between a store and a hub's directory.
extension Workbench {
  func file(_ name: String) -> String { "\(path)/\(name)" }

  /// One round trip by files.
  @discardableResult
  func carry(
    _ store: Store, _ hub: EmbeddedHubStorage, _ name: String
  ) async throws -> (HubImportReport, SyncReport) {
    let exchange = FileExchange(store)
    try await exchange.export(to: file("\(name).out"))
    let imported = try await hub.importChanges(from: file("\(name).out"), into: "space")
    _ = try await hub.exportAnswer(to: file("\(name).back"), for: file("\(name).out"), of: "space")
    return (imported, try await exchange.importAnswer(from: file("\(name).back")))
  }
}

/// Synchronises these, one after the other, until nobody has anything left for anybody.
func untilAtRest(_ names: [String], _ sync: (String) async throws -> SyncReport) async throws {
  for _ in 0..<20 {
    var moved = 0
    for name in names {
      let report = try await sync(name)
      moved += report.pushedChanges + report.pulledChanges + report.pendingChanges
    }
    if moved == 0 { return }
  }
  Issue.record("it does not come to rest")
}

/// Everything in the store.
func contents(_ store: Store) throws -> [[UInt8]: [UInt8]] {
  try store.read { snapshot in
    var rows: [[UInt8]: [UInt8]] = [:]
    for row in try snapshot.scan() { rows[row.key] = row.value }
    return rows
  }
}

/// Looks until the condition holds; gives up after a minute, which a busy machine does not need.
func eventually(_ condition: () throws -> Bool, sourceLocation: SourceLocation = #_sourceLocation) async throws {
  let deadline = ContinuousClock.now + .seconds(60)
  while ContinuousClock.now < deadline {
    if try condition() { return }
    try await Task.sleep(for: .milliseconds(5))
  }
  Issue.record("it did not come about in a minute", sourceLocation: sourceLocation)
}

extension Replicator.Configuration {
  /// Small messages, so that little data makes for many, and short waits.
  static var small: Replicator.Configuration {
    var configuration = Replicator.Configuration()
    configuration.segmentBytes = 512
    configuration.memoryBudgetBytes = 8 << 10
    configuration.shortestRetry = .milliseconds(5)
    configuration.longestRetry = .milliseconds(50)
    return configuration
  }
}
