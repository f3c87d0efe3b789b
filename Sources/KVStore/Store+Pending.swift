// What of this store the hub has yet to decide, and since when; for those who wait for it or tell of it.

package import KVLog

/// Local commits as a count that only grows: the difference of two tells what was written between them.
package struct LocalWork: Sendable, Equatable {
  /// The store's version.
  package var version: Version
  /// Local changes, ever.
  package var changes: UInt64
}

extension Store {
  /// The clock that commits are dated by, in milliseconds since 1970.
  package static var clockMilliseconds: UInt64 { HybridClock.wallMilliseconds() }

  package var localWork: LocalWork {
    let state = state
    return LocalWork(version: state.version, changes: state.localChanges)
  }

  /// Suspends until the hub has decided every local commit up to `version`, those included that carry on what was
  /// stale or in conflict of them. Throws ``StoreError`` `closed`, `readOnly` or `poisoned`, or `CancellationError`.
  package func decided(through version: Version) async throws {
    var version = version
    while true {
      let state = try await core().publication.wait(for: .acknowledged(version))
      // What carries them on was recorded before they were acknowledged, or with that.
      guard state.lastSuccessor > max(version, state.acknowledged) else { return }
      version = state.lastSuccessor
    }
  }

  /// When the first local commit after `version` was made, in milliseconds since 1970; nil when there is none.
  package func timeOfLocalCommit(after version: Version) throws -> UInt64? {
    let state = state
    var time: UInt64?
    guard version < state.version else { return nil }
    try published {
      try withStream(after: version, through: state.position) { stream in
        try stream.pass(through: state.position) { entry, _ in
          guard state.isLocal(entry.header) else { return true }
          time = entry.header.time.milliseconds
          return false
        }
      }
    }
    return time
  }
}
