// Observation: every change in the order of the log, from any version, live.

public import KVLog

/// One change of one key, as ``Store/changes(after:prefix:delivery:)`` tells it.
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
  /// What the hub had made of it when it was read out of the log, which is when its batch was: just before that is
  /// handed out. Later acknowledgements do not come as changes; ask ``Store/changeState(of:)``.
  public var state: State
  /// The hub's version, 0 for a change that was not pulled from it.
  public var serverVersion: Version
  /// When its commit was made, by the clock of the store that made it.
  public var time: HybridTime
  /// The store that wrote it.
  public var origin: Identity

  /// The key as text; bytes that are not UTF-8 are repaired.
  public var keyText: String { String(decoding: key, as: UTF8.self) }
}

extension StoreChange.Kind {
  /// Of a commit in the log of a store in this state.
  init(of commit: CommitHeader, in state: StoreState) {
    self = !state.isLocal(commit) ? .remote : commit.flags.isEmpty ? .local : .resolution
  }
}

/// What a reader of changes is given when it is behind.
public enum ChangeDelivery: Sendable, Hashable {
  /// Every change, in the order of the log.
  case every
  /// Of several changes of one key that are read together, only the newest, in the order of the log. A reader that keeps
  /// up gets every commit; one that is behind catches up with fewer changes than were made.
  case latest
}

/// The changes of a store after a version, then those to come.
///
/// Read from the log as the sequence is walked: nothing is queued, so a slow reader costs no memory but that of the batch
/// it is at (``ChangeBatch``). Only what is durable is shown. Each iterator begins at the start again.
///
/// To go on later, in another run of the program too, keep the version of the last commit that you had whole; ``batches``
/// tell it.
///
/// Throws ``StoreError``: `expired` when the log no longer has the version, `closed` when the store is closed, `poisoned`
/// once everything before the failed write was handed out, `corrupt`, `system`; and `CancellationError`, at the end of a
/// batch. In a store opened read-only the sequence ends at the newest version. After an error an iterator may be asked again
/// and goes on where it was, if it can.
public struct Changes: AsyncSequence, Sendable {
  /// One change; the changes of a commit come one after the other.
  public typealias Element = StoreChange

  /// The same changes, a batch at a time: faster, and each with the version to go on after.
  public let batches: ChangeBatches

  /// An iterator that stands before the first change.
  public func makeAsyncIterator() -> Iterator { Iterator(batches: batches.makeAsyncIterator()) }

  /// A place in the sequence; used by one task at a time.
  public struct Iterator: AsyncIteratorProtocol {
    private var batches: ChangeBatches.Iterator
    private var batch: ChangeBatch?
    private var index = 0

    init(batches: ChangeBatches.Iterator) {
      self.batches = batches
    }

    /// The next change; suspends until there is one. nil only in a store opened read-only, at its end.
    public mutating func next() async throws -> StoreChange? {
      while true {
        if let batch, index < batch.endIndex {
          defer { index += 1 }
          return batch[index]
        }
        // Let go of before it waits.
        batch = nil
        index = 0
        batch = try await batches.next()
        if batch == nil { return nil }
      }
    }
  }
}

/// The changes of a store after a version, then those to come, a batch at a time; otherwise as ``Changes``, throws the
/// same.
public struct ChangeBatches: AsyncSequence, Sendable {
  /// Whole commits, the whole of what was written since, up to a limit.
  public typealias Element = ChangeBatch

  let store: Store
  let start: Version
  let range: KeyRange
  let delivery: ChangeDelivery

  /// An iterator that stands before the first batch.
  public func makeAsyncIterator() -> Iterator {
    Iterator(follower: ChangeFollower(store, after: start, delivery), range: range)
  }

  /// A place in the sequence; used by one task at a time.
  public struct Iterator: AsyncIteratorProtocol {
    private var follower: ChangeFollower
    private let range: KeyRange
    /// Bytes of log since the last batch that had nothing for this reader.
    private var silentBytes = 0

    init(follower: ChangeFollower, range: KeyRange) {
      self.follower = follower
      self.range = range
    }

    /// The next batch; suspends until there is one. It is empty when 16 MiB of log had nothing for this reader, so that
    /// the version to go on after does not fall behind. nil only in a store opened read-only, at its end.
    public mutating func next() async throws -> ChangeBatch? {
      while let limit = try await follower.wait() {
        let batch = try await follower.next(in: range, through: limit)
        silentBytes += batch.logBytes
        if !batch.isEmpty || silentBytes >= StoreLimits.changeBatchLogBytes {
          silentBytes = 0
          return batch
        }
      }
      return nil
    }
  }
}

extension Store {
  /// The changes of the keys that begin with `prefix` after `version` (0: from the start of the log), then those to come,
  /// until the task is cancelled or the store closed. Throws nothing here: a version that the log no longer has is found
  /// out by the first step.
  public func changes(
    after version: Version, prefix: some BytesConvertible = "", delivery: ChangeDelivery = .every
  ) -> Changes {
    changes(after: version, in: KeyRange(prefix: prefix), delivery: delivery)
  }

  /// The changes of a range of keys; otherwise as ``changes(after:prefix:delivery:)``.
  public func changes(after version: Version, in range: KeyRange, delivery: ChangeDelivery = .every) -> Changes {
    Changes(batches: ChangeBatches(store: self, start: version, range: range, delivery: delivery))
  }
}
