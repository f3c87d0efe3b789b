// Observation: every change in the order of the log, from any version, live.

public import KVLog

/// One change of one key, as ``Store/changes(after:)`` tells it.
public struct StoreChange: Sendable, Hashable {
  /// How a change came about.
  public enum Kind: String, Sendable {
    /// Written here.
    case local
    /// Written by another replica and applied here.
    case remote
    /// Written here by resolving a conflict, or by offering a commit again that the hub found stale.
    case resolution
  }

  /// The commit's version; the changes of one commit share it and follow each other.
  public var version: Version
  /// The key, 1 to 511 bytes.
  public var key: [UInt8]
  /// nil: the key was deleted.
  public var value: [UInt8]?
  /// How it came about.
  public var kind: Kind
  /// The hub's version, 0 for a change that was not pulled from it.
  public var serverVersion: Version
  /// When its commit was made, by the clock of the store that made it.
  public var time: HybridTime
  /// The store that wrote it.
  public var origin: Identity

  /// The key as text; bytes that are not UTF-8 are repaired.
  public var keyText: String { String(decoding: key, as: UTF8.self) }
}

/// The changes of a store after a version, then those to come.
///
/// Read from the log as the sequence is walked: nothing is queued, so a slow reader costs no memory but that of the commit
/// it is at. Only what is durable is shown. Each iterator begins at the start again.
///
/// Throws ``StoreError``: `expired` when the log no longer has the version, `closed` when the store is closed, `poisoned`
/// once everything before the failed write was handed out, `corrupt`, `system`; and `CancellationError`. In a store opened
/// read-only the sequence ends at the newest version.
public struct Changes: AsyncSequence, Sendable {
  /// One change; the changes of a commit come one after the other.
  public typealias Element = StoreChange

  let store: Store
  let start: Version

  /// An iterator that stands before the first change.
  public func makeAsyncIterator() -> Iterator { Iterator(store: store, version: start) }

  /// A place in the sequence; used by one task at a time.
  public struct Iterator: AsyncIteratorProtocol {
    private let store: Store
    private var version: Version
    private var stream: CommitStream?
    /// Changes read and not yet handed out, last first.
    private var page: [StoreChange] = []

    init(store: Store, version: Version) {
      self.store = store
      self.version = version
    }

    /// The next change; suspends until there is one. nil only in a store opened read-only, at its end.
    public mutating func next() async throws -> StoreChange? {
      while page.isEmpty {
        try Task.checkCancellation()
        let backing = try store.backing()
        let state = backing.state
        if state.version <= version {
          guard case .writable(let core) = backing else { return nil }
          _ = try await core.wait(for: .versionBeyond(version))
        } else {
          do { try fetch(through: state.position) } catch {
            throw StoreError.published(error, path: store.path)
          }
        }
      }
      return page.popLast()
    }

    /// Reads the next commit.
    private mutating func fetch(through limit: LogPosition) throws {
      var stream =
        try self.stream
        ?? CommitStream(store.configuration, after: version, through: limit)
      self.stream = nil
      var changes: [StoreChange] = []
      _ = try stream.next(through: limit) { entry, bytes in
        changes = try StoreChange.all(of: entry, in: bytes, identity: store.identity)
        return true
      }
      version = stream.version
      page = changes.reversed()
      self.stream = stream
    }
  }
}

extension StoreChange.Kind {
  /// Of a commit in the log of `identity`.
  init(of commit: CommitHeader, in identity: Identity) {
    self = commit.origin != identity ? .remote : commit.flags.isEmpty ? .local : .resolution
  }
}

extension StoreChange {
  static func all(of entry: CommitStream.Entry, in bytes: RawSpan, identity: Identity) throws -> [StoreChange] {
    let header = entry.header
    let kind = Kind(of: header, in: identity)
    var changes: [StoreChange] = []
    changes.reserveCapacity(header.changeCount)
    var cursor = ChangeCursor(entry.view)
    while let change = try cursor.next(in: bytes) {
      changes.append(
        StoreChange(
          version: header.version, key: bytes.extracting(change.key).copied(),
          value: change.isDeletion ? nil : bytes.extracting(change.value).copied(), kind: kind,
          serverVersion: header.serverVersion, time: header.time, origin: header.origin))
    }
    return changes
  }
}

extension Store {
  /// The changes after `version` (0: from the start of the log), then those to come, until the task is cancelled or
  /// the store closed. Throws nothing here: a version that the log no longer has is found out by the first step.
  public func changes(after version: Version) -> Changes {
    Changes(store: self, start: version)
  }
}
