// Spaces that live as long as the process: the storage rules in their plainest form, which the others are held against.

import KVLog
import KVProtocol
import Synchronization

/// A hub storage that keeps everything in memory and nothing beyond the process.
///
/// For tests, and for trying the hub out. A hub over it forgets its spaces when it ends; a replica that comes back to a
/// new one is told that the space is another one.
public final class InMemoryHubStorage: Sendable {
  private struct State {
    var spaces: [String: InMemorySpace] = [:]
    var isClosed = false
  }

  private let maximumSpaces: Int
  private let state = Mutex(State())

  /// A storage without spaces, for at most so many.
  public init(maximumSpaces: Int = 256) {
    self.maximumSpaces = maximumSpaces
  }
}

extension InMemoryHubStorage: HubStorage {
  package func space(named name: String, creating: Bool) throws -> any HubSpace {
    guard SpaceName.isValid(name) else { throw HubStorageError.unknownSpace }
    return try state.withLock { state in
      guard !state.isClosed else { throw HubStorageError.closed }
      if let space = state.spaces[name] { return space }
      guard creating else { throw HubStorageError.unknownSpace }
      guard state.spaces.count < maximumSpaces else { throw HubStorageError.tooManySpaces }
      let space = InMemorySpace(epoch: .random())
      state.spaces[name] = space
      return space
    }
  }

  package func close() {
    let spaces = state.withLock { state in
      state.isClosed = true
      return Array(state.spaces.values)
    }
    for space in spaces { space.close() }
  }
}
