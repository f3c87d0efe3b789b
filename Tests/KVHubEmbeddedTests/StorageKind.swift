// The storages that the conformance suite runs over.

import KVHub
import KVHubEmbedded
import TestSupport

enum StorageKind: CaseIterable, Sendable {
  case inMemory
  case embedded

  /// Runs the body over a fresh storage, and closes it.
  func withStorage(_ body: (any HubStorage) async throws -> Void) async throws {
    switch self {
    case .inMemory:
      let storage = InMemoryHubStorage()
      try await body(storage)
      storage.close()
    case .embedded:
      let scratch = try Scratch()
      defer { withExtendedLifetime(scratch) {} }
      let storage = try EmbeddedHubStorage(directory: scratch.path("hub"))
      do {
        try await body(storage)
      } catch {
        try? await storage.close()
        throw error
      }
      try await storage.close()
    }
  }
}
