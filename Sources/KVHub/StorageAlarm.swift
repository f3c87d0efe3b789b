// Which failures of the storage the hub tells its operator: each once when it begins, not once a push; and when it is
// over. A value: the time comes from outside.
//
// Invariants:
// - A disk that is full is one trouble, whatever space runs into it; other troubles belong to a space.
// - A trouble is over when something as large as what failed has been stored. Small pushes still fit for a while into what
//   the log has reserved on a full disk, and are no sign of anything, until together they are as large, where it failed.
// - A trouble that nobody has run into for `memory` counts as a new one.

import KVLog

package struct StorageAlarm: Sendable {
  private struct Trouble {
    /// What failed.
    var bytes: Int
    /// Where it failed last, and of a full disk how much has been stored there since.
    var space: String
    var stored = 0
    var lastSeen: Duration
  }

  /// Longer than replicas wait between two tries.
  package static let memory = Duration.seconds(300)

  /// A log grows by steps of this size at most: once so much has been stored, the disk has had room.
  package static let sufficient = LogLimits.largestStepBytes

  private var full: Trouble?
  private var spaces: [String: Trouble] = [:]

  package init() {}

  /// Storing so many bytes in a space has failed. Gives whether that is news.
  package mutating func failed(_ error: HubStorageError, in space: String, bytes: Int, now: Duration) -> Bool {
    switch error {
    case .full: Self.note(&full, space, min(bytes, Self.sufficient), now)
    case .corrupt, .failed: Self.note(&spaces[space], space, bytes, now)
    case .unknownSpace, .tooManySpaces, .gap, .lapsed, .tooManyReplicas, .malformed, .closed: false
    }
  }

  /// So many bytes have been stored in a space. Gives whether a trouble is thereby over.
  package mutating func stored(in space: String, bytes: Int) -> Bool {
    if full?.space == space { full?.stored += bytes }
    let wasFull = Self.clear(&full, max(bytes, full?.stored ?? 0))
    let hadFailed = Self.clear(&spaces[space], bytes)
    return wasFull || hadFailed
  }

  private static func note(_ trouble: inout Trouble?, _ space: String, _ bytes: Int, _ now: Duration) -> Bool {
    let known = trouble.map { now - $0.lastSeen < memory } ?? false
    trouble = Trouble(bytes: min(bytes, known ? trouble?.bytes ?? bytes : bytes), space: space, lastSeen: now)
    return !known
  }

  private static func clear(_ trouble: inout Trouble?, _ bytes: Int) -> Bool {
    guard let standing = trouble, bytes >= standing.bytes else { return false }
    trouble = nil
    return true
  }
}
