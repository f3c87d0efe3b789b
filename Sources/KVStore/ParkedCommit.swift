// A commit that the hub refused, as programs and the tool see it.

public import KVLog

/// A commit of this store that the hub refused: it is on no other replica, and waits for a decision of the program.
///
/// It is durable with the hub's answer, and kept whole, whatever becomes of the log. Its rows stay as they are here; the
/// article <doc:Parked> says what that means.
public struct ParkedCommit: Sendable, Equatable, Identifiable {
  /// The version that the commit has in this store.
  public var id: Version
  /// Why, for programs: 1 to 99 are kvsync's own (<doc:Parked>), the others those of who runs the hub.
  public var code: UInt16
  /// Why, for people; up to 1,024 bytes of UTF-8.
  public var reason: String
  /// When the commit was made.
  public var time: HybridTime
  /// When it was parked.
  public var parkedTime: HybridTime
  /// Its changes.
  public var changeCount: Int
  /// Their key and value bytes.
  public var byteCount: Int

  init(_ head: ParkedHead) {
    id = head.version
    code = head.code
    reason = head.reason
    time = head.view.header.time
    parkedTime = head.time
    changeCount = head.view.header.changeCount
    byteCount = head.view.payloadBytes
  }
}

/// A change of a parked commit.
public struct ParkedChange: Sendable, Equatable {
  /// The key, 1 to 511 bytes.
  public var key: [UInt8]
  /// nil: the key was deleted.
  public var value: [UInt8]?
  /// Whether that is what the key has here. False: it was written again since, here or by the hub.
  public var isCurrent: Bool
}

/// What dropping parked commits has left.
public struct DroppedCommits: Sendable, Equatable {
  /// How many were dropped.
  public var commits = 0
  /// Keys whose row here is that of a dropped commit: the hub has another one, or none. They stay so until the key is
  /// written again, here or elsewhere.
  public var rowsLeft = 0

  package init(commits: Int = 0, rowsLeft: Int = 0) {
    self.commits = commits
    self.rowsLeft = rowsLeft
  }
}

extension ParkedCommit {
  /// The code of a commit that the hub found stale, with more keys outside of the scopes than a store may ask for.
  package static let outsideScopes: UInt16 = 40
}
