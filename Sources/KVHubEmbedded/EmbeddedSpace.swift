// One space: a store, asked what a hub asks. The store's local version is the space's version, its incarnation the epoch.

import KVHub
import KVLog
import KVProtocol
import KVStore
import Synchronization

final class EmbeddedSpace: HubSpace {
  let store: Store
  private let name: String
  private let owners: ReplicaOwnersFile
  private weak let storage: EmbeddedHubStorage?

  let retentionSeconds: UInt64
  /// What was announced, as it was read last: another process may say so at any time.
  private let announced = Mutex<(version: Version, read: ContinuousClock.Instant)?>(nil)
  private static let announcementAge = Duration.seconds(1)

  init(name: String, directory: HubDirectory, storage: EmbeddedHubStorage) async throws {
    self.name = name
    owners = ReplicaOwnersFile(directory.owners, space: name)
    self.storage = storage
    var options = Store.Options()
    // Replicas come back after any time; their cursors need the log behind them.
    options.logRetention = storage.retention.map { .acknowledged(bytes: 0, age: $0) } ?? .all
    options.segmentBytes = storage.segmentBytes
    retentionSeconds = storage.retention.map { UInt64(max(1, $0.components.seconds)) } ?? 0
    // The hub's directory is locked already, and what replicas push is seldom read here.
    options.isExclusive = true
    store = try await Store.open(at: directory.space(name), options: options)
  }

  func head() throws -> Position { store.head() }

  func retentionFloor() throws -> Version {
    try translated { try store.floor() }
  }

  func digest(at version: Version) throws -> Digest? {
    try translated { try store.digest(at: version) }
  }

  func owner(of replica: Identity, claimedBy principal: String?) throws -> String? {
    try owners.claim(replica, by: principal)
  }

  func progress(of replica: Identity) throws -> ReplicaProgress? {
    try translated { try store.progress(of: replica) }
  }

  func admit(
    _ push: PushSegment, from replica: Identity, confirmed: Version
  ) async throws -> Acknowledgement {
    do {
      var acknowledgement = try await store.admit(push, from: replica, confirmed: confirmed)
      acknowledgement.backedUp = min(await backedUpVersion(), acknowledgement.head)
      return acknowledgement
    } catch {
      throw translate(error)
    }
  }

  func backedUpVersion() -> Version { recentlyAnnounced ?? readAnnounced() }

  /// As above, for who must not wait for a disk.
  private func backedUpVersion() async -> Version {
    if let recentlyAnnounced { return recentlyAnnounced }
    return (try? await onBlockingThread { [self] in readAnnounced() }) ?? 0
  }

  private var recentlyAnnounced: Version? {
    announced.withLock { $0.flatMap { ContinuousClock.now - $0.read < Self.announcementAge ? $0.version : nil } }
  }

  private func readAnnounced() -> Version {
    let now = ContinuousClock.now
    let version = store.announcedBackup()
    announced.withLock { $0 = (version, now) }
    return version
  }

  func formerEpochs() throws -> [Position] { store.formerEpochs() }

  func beginEpoch(after epoch: Identity, through version: Version) async throws {
    do { try await store.beginEpoch(after: epoch, through: version) } catch { throw translate(error) }
  }

  func restore(_ restoration: Restoration) async throws -> RestorationOutcome {
    do { return try await store.restore(restoration) } catch { throw translate(error) }
  }

  func feed(_ request: FeedRequest, maximumBytes: Int) throws -> CommitSegment? {
    try translated {
      try store.feedSegment(
        after: request.after, through: request.through, excluding: request.replica, after: request.ownThrough,
        within: request.coverage, maximumBytes: maximumBytes)
    }
  }

  func feedAtHand(_ request: FeedRequest, maximumBytes: Int) throws -> CommitSegment?? {
    try translated {
      try store.feedSegmentAtHand(
        after: request.after, through: request.through, excluding: request.replica, after: request.ownThrough,
        within: request.coverage, maximumBytes: maximumBytes)
    }
  }

  func page(of interval: KeyInterval, for replica: Identity, deletions: Bool, maximumBytes: Int) throws -> SnapshotPage
  {
    try translated {
      try store.page(of: interval, for: replica, deletions: deletions, maximumBytes: maximumBytes)
    }
  }

  func advance(beyond version: Version) async throws -> Version {
    do { return try await store.advance(beyond: version) } catch { throw translate(error) }
  }

  func rows(after key: [UInt8]?, maximumBytes: Int) throws -> Rows {
    let page = try translated { try store.rowsPage(after: key, maximumBytes: maximumBytes) }
    return Rows(
      version: page.version, digest: page.digest, rows: page.rows.map { RowHash(key: $0.key, hash: $0.hash) },
      isLast: page.isLast)
  }

  func versions(of keys: [[UInt8]]) throws -> [Version?] {
    try translated { try store.versions(of: keys) }
  }

  // MARK: Errors

  private func translated<Result>(_ body: () throws -> Result) throws -> Result {
    do { return try body() } catch { throw translate(error) }
  }

  private func translate(_ error: any Error) -> any Error {
    if let error = error as? StoreError, error.code == .poisoned { storage?.retire(self, named: name) }
    return Self.storageError(error)
  }

  /// What a hub makes of a store's error. Paths stay here: the text goes to the replica.
  static func storageError(_ error: any Error) -> any Error {
    switch error {
    case AdmissionError.gap(let expected): HubStorageError.gap(expected: expected)
    case AdmissionError.lapsed(let floor): HubStorageError.lapsed(floor: floor)
    case AdmissionError.foreignCommit(let version):
      HubStorageError.malformed("the replica did not write commit \(version)")
    case AdmissionError.malformed(let reason): HubStorageError.malformed(reason)
    case let error as StoreError where error.code == .full: HubStorageError.full(error.message)
    case let error as StoreError where error.code == .closed: HubStorageError.closed
    case let error as StoreError where error.code == .corrupt: HubStorageError.corrupt(error.message)
    case let error as StoreError: HubStorageError.failed(error.message)
    default: error
    }
  }
}
