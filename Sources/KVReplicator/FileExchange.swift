// Synchronising by files: what a session would push goes into one, and what the hub answers comes out of another.
//
// Invariants
// - Exporting changes nothing: what was exported stays pending until an answer says that the hub has decided it. Files may
//   be lost, doubled, late, and mixed with sessions.
// - Nothing of a file is used before all of it was read and found whole. Then each part is applied in a durable step of its
//   own, decisions first: an import that is cut off has done the part that it reports, and importing the file again does
//   the rest.
// - Memory is bounded by one message, whatever the backlog.

import Foundation
import KVLog
import KVProtocol
public import KVStore
import NIOPosix

/// What ``FileExchange/export(to:)`` wrote.
public struct ExportReport: Sendable, Hashable {
  /// Local changes that the file stands for: those that the hub will have decided when it has imported it.
  public var pendingChanges = 0
  /// Those of them that are not in the file: passed over, or void. See ``SyncReport/supersededChanges``.
  public var supersededChanges = 0
  /// Commits in the file.
  public var commits = 0
  /// Segments in the file.
  public var segments = 0
  /// The size of the file in bytes.
  public var fileBytes = 0
  /// Whether re-offers wait for what others wrote: nothing but where the store stands is in the file then, for the hub to
  /// answer.
  public var awaitsPull = false
}

/// Synchronises a store with a hub that it has no connection to: by files, on whatever medium.
///
/// ```swift
/// let exchange = FileExchange(store)
/// try await exchange.export(to: "/media/stick/field-notes.out")
/// // at the hub: kvsync import HUB/notes field-notes.out --answer field-notes.back
/// try await exchange.importAnswer(from: "/media/stick/field-notes.back")
/// ```
///
/// A file from the store holds its pending commits and says where it stands; it is worth writing even when nothing is
/// pending, for the hub to answer. A file from the hub holds what it has decided of this store, with its exceptions, and
/// what others wrote that this store lacks. Importing either twice, or after a session, changes nothing. May be used from
/// any thread.
public struct FileExchange: Sendable {
  private let store: Store
  private let configuration: Replicator.Configuration

  /// Of the configuration, policy, history and segment size count, and `progress` is told of imports.
  public init(_ store: Store, configuration: Replicator.Configuration = Replicator.Configuration()) {
    self.store = store
    self.configuration = configuration.withinLimits
  }

  /// Writes what is pending, as of the call, to a new file. The file is durable when this returns; before that there is none.
  /// Changes nothing in the store, which may be open read-only, and may be synchronised meanwhile. `progress` is told how many
  /// of the pending changes are done, and how many there are; it must not block.
  ///
  /// Throws `StoreError`: `exists` (there is something at the path), `noStore` (there is no such directory), `full`,
  /// `notAllowed`, `corrupt`, `closed`, `system`; `CancellationError`.
  @discardableResult
  public func export(
    to path: String, progress: @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) async throws -> ExportReport {
    let state = store.replicaState()
    guard !state.isRestoring else { throw notRestored(path) }
    var report = ExportReport()
    let preamble = ExchangeFilePreamble(
      .replica, replica: state.identity, epoch: state.cursor?.identity ?? .zero)
    let writer = try await blocking(path) {
      try ExchangeFileWriter(preamble, path: path, process: getpid())
    }
    // Unless it is finished.
    defer { writer.discard() }
    try await blocking(path) { try writer.append(.hello(state.introduction)) }
    // Offered before the pull, they would be stale once more.
    report.awaitsPull = max(state.holdUntil, state.ownThrough) > (state.cursor?.version ?? 0)
    let reader = PushReader(store, history: configuration.history)
    var after = state.shipped
    while !report.awaitsPull, after < state.local.version {
      try Task.checkCancellation()
      let run = try await blocking(path) { [after] () -> PushSegment? in
        guard let run = try reader.next(after: after, maximumBytes: ProtocolLimits.maximumSegmentBytes) else {
          return nil
        }
        try writer.append(.push(Push(run, confirmed: state.shipped)))
        return run
      }
      guard let run else { break }
      after = run.segment.through
      report.segments += 1
      report.pendingChanges += run.localChanges
      report.supersededChanges += run.localChanges - run.segment.changeCount
      report.commits += try run.segment.commitCount()
      progress(report.pendingChanges, state.pendingChanges)
    }
    report.fileBytes = try await blocking(path) { try writer.finish() }
    return report
  }

  /// Applies what the hub answered: records its decisions, with what it found stale offered again, then applies what others
  /// wrote, resolving conflicts as a session does. What was done is durable, and stays whatever is thrown. The report counts
  /// as that of a session; ``SyncReport/pendingChanges`` waits for the next export.
  ///
  /// `progress` is told how many bytes are done, and how many there are: each byte counts twice, once for the check of the
  /// file. It must not block.
  ///
  /// Throws `StoreError`: `foreign` (not such a file, or another store's), `corrupt` (damaged or cut off), `newerFormat`,
  /// `replication` (it does not fit what the store knows: something before it is missing, another hub, store or hub restored),
  /// `noStore` (no such file), `inUse` (the store is being synchronised), `readOnly`, `full`, `poisoned`, `closed`,
  /// `notAllowed`, `system`; `CancellationError`.
  public func importAnswer(
    from path: String, progress: @escaping @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) async throws -> SyncReport {
    let reader = try await blocking(path) { try ExchangeFileReader(path: path) }
    try check(reader.preamble, path)
    let total = 2 * reader.byteCount
    // Everything is read before anything is used.
    var checked = AnswerCheck(reader.preamble)
    while let message = try await blocking(path, { try reader.next() }) {
      try Task.checkCancellation()
      do { try checked.take(message) } catch { throw StoreError(error, path: path) }
      progress(reader.offset, total)
    }
    guard checked.isComplete else { throw StoreError(ExchangeFileError.cutOff, path: path) }
    reader.rewind()
    try await store.beginSession()
    defer { store.endSession() }
    var report = SyncReport()
    var covered = Coverage.none
    while let message = try await blocking(path, { try reader.next() }) {
      try Task.checkCancellation()
      switch message {
      case .welcome(let welcome):
        try await record(welcome, path, &report)
        covered = welcome.covered
      case .feed(let feed): try await apply(feed, within: covered, reader.preamble.epoch, path, &report)
      case .page(let page): try await load(page, &covered, path, &report)
      default: break
      }
      progress(reader.byteCount + reader.offset, total)
    }
    report.pendingChanges = store.replicaState().pendingChanges
    return report
  }

  private func check(_ preamble: ExchangeFilePreamble, _ path: String) throws(StoreError) {
    guard preamble.sender == .hub else {
      throw StoreError(
        .foreign, "this file comes from a replica. Import it at the hub: kvsync import HUB/SPACE FILE.", path: path)
    }
    guard preamble.replica == store.incarnation else {
      throw StoreError(
        .foreign, "this file is for the store \(preamble.replica), and this one is \(store.incarnation).", path: path)
    }
  }

  /// The hub's decisions, as far as they are news.
  private func record(_ welcome: Welcome, _ path: String, _ report: inout SyncReport) async throws {
    var state = store.replicaState()
    guard !state.isRestoring else { throw notRestored(path) }
    guard state.hubSpace == .zero || state.hubSpace == welcome.space else {
      throw StoreError(
        .replication,
        "the file is from the space \(welcome.space), and this store synchronises with \(state.hubSpace).", path: path)
    }
    guard welcome.lastApplied <= state.local.version, welcome.isConfirmed(through: state.shipped),
      welcome.lastApplied != state.shipped || welcome.appliedKind == .commit
        || welcome.appliedDigest == state.shippedDigest
    else { throw notOurs(path) }
    if state.hubSpace == .zero || state.cursor?.identity != welcome.head.identity {
      // The space, or its epoch, is new here; or the file is of an epoch that this store has left, where the two may have parted
      // before what it has pulled since.
      let (common, known) = (welcome.common, state.cursor ?? .start(of: .zero))
      let isContinued = common.version == known.version && (known.version == 0 || common.digest == known.digest)
      guard state.hubSpace == .zero || isContinued && welcome.lastApplied >= state.shipped else {
        throw StoreError(
          .replication,
          "the hub was restored between this file and what the store knows of it: have the hub answer a new export.",
          path: path)
      }
      let cursor = Position(
        identity: welcome.head.identity, version: state.cursor?.version ?? 0, digest: state.cursor?.digest ?? .zero)
      state = try await store.rollBack(
        to: cursor, in: welcome.space, shipped: state.shipped, digest: state.shippedDigest, head: welcome.head.version)
      guard !state.isRestoring else { throw notRestored(path) }
    }
    if welcome.covered.isEmpty, !state.covered.isEmpty, state.cursor?.version ?? 0 < welcome.retentionFloor {
      state = try await store.lapse()
    }
    // When all was level a file does not say.
    let promise = HubPromise(welcome)
    let contact = HubContact(
      levelTime: state.contact.levelTime, retentionSeconds: promise.retentionSeconds,
      backedUp: max(state.contact.backedUp, promise.backedUp))
    try await store.note(contact, epoch: welcome.head.identity)
    guard welcome.lastApplied > state.shipped else { return }
    guard welcome.appliedKind == .log else {
      throw StoreError(
        .replication,
        "the hub was restored to an older state, and has commits of this store from other replicas: synchronise once over a "
          + "connection, in both directions, to find out which.", path: path)
    }
    let shipped = state.shipped
    let (found, counts) = try await blocking(path) { [store] in
      (
        try store.foundDigest(.init(welcome, shipped: shipped)),
        try store.localChanges(after: shipped, through: welcome.lastApplied)
      )
    }
    guard let found, found.isAsClaimed else { throw notOurs(path) }
    let outcome = try await store.acknowledge(
      welcome.acknowledgement, digest: found.log, localChanges: counts.changes, localBytes: counts.bytes,
      epoch: welcome.head.identity)
    report.pushedChanges = counts.changes
    report.pushedBytes = counts.bytes
    report.reoffered = outcome.reoffered
    report.parked = outcome.parked
  }

  private func apply(
    _ feed: Feed, within covered: Coverage, _ epoch: Identity, _ path: String, _ report: inout SyncReport
  ) async throws {
    let state = store.replicaState()
    let cursor = state.cursor?.version ?? 0
    guard feed.segment.through > cursor else { return }
    guard state.covered.subtracting(covered).isEmpty else { throw otherScopes(path) }
    guard feed.segment.after <= cursor else {
      throw StoreError(
        .replication,
        "the file begins after the hub's version \(feed.segment.after), and this store has \(cursor). Import the file "
          + "before it first, or have the hub answer a new export.", path: path)
    }
    let outcome = try await store.apply(feed.segment, epoch: epoch, policy: configuration.policy)
    report.pulledCommits += outcome.commits
    report.pulledChanges += outcome.changes
    report.pulledBytes += outcome.bytes
    report.conflicts += outcome.conflicts
  }

  /// Applies a page of rows, unless a later state of its keys is here.
  private func load(_ page: Page, _ covered: inout Coverage, _ path: String, _ report: inout SyncReport) async throws {
    covered.insert(page.snapshot.interval)
    let state = store.replicaState()
    let isCovered = Coverage([page.snapshot.interval]).intersection(state.missing).isEmpty
    guard !isCovered else { return }
    guard page.snapshot.position.version >= state.cursor?.version ?? 0 else { throw otherScopes(path) }
    let outcome = try await store.load(page.snapshot, policy: configuration.policy)
    report.pulledCommits += outcome.commits
    report.pulledChanges += outcome.changes
    report.pulledBytes += outcome.bytes
    report.conflicts += outcome.conflicts
  }

  private func otherScopes(_ path: String) -> StoreError {
    StoreError(
      .replication,
      "the file answers what this store lacked at an earlier time. Export again, and have the hub answer that.",
      path: path)
  }

  private func notRestored(_ path: String) -> StoreError {
    StoreError(
      .replication,
      "the hub was restored to an older state, and this store has yet to bring back what it lost: synchronise once over a "
        + "connection.", path: path)
  }

  private func notOurs(_ path: String) -> StoreError {
    StoreError(
      .replication,
      "what the hub got from this store is not what its log holds: the store was restored to an older state or copied. "
        + "Synchronise with the hub over a network once: the store goes on as a new incarnation.", path: path)
  }

  private func blocking<Result: Sendable>(
    _ path: String, _ work: @escaping @Sendable () throws -> Result
  ) async throws -> Result {
    do {
      return try await NIOThreadPool.singleton.runIfActive(work)
    } catch let error as ExchangeFileError {
      throw StoreError(error, path: path)
    }
  }
}

/// What must hold of a hub's file before anything of it is used.
struct AnswerCheck {
  private let preamble: ExchangeFilePreamble
  private var welcome: Welcome?
  private var through: Version?

  init(_ preamble: ExchangeFilePreamble) { self.preamble = preamble }

  var isComplete: Bool { welcome != nil }

  mutating func take(_ message: Message) throws(ExchangeFileError) {
    switch (welcome, message) {
    case (nil, .welcome(let welcome)):
      guard welcome.head.identity == preamble.epoch else { throw .misplaced("the file speaks of two hubs") }
      var last: Version = 0
      for exception in welcome.unconfirmed {
        guard exception.version > last, exception.version <= welcome.lastApplied else {
          throw .misplaced("the hub's decisions are out of order")
        }
        if case .stale(let hubVersion) = exception.reason, hubVersion > welcome.head.version {
          throw .misplaced("a commit is behind a version that the hub does not have")
        }
        last = exception.version
      }
      self.welcome = welcome
    case (.some, .feed(let feed)):
      guard through == nil || feed.segment.after == through else { throw .misplaced("a part is missing") }
      do throws(ProtocolError) { try feed.segment.checkFed() } catch { throw .misplaced("\(error)") }
      through = feed.segment.through
    case (.some, .page(let page)):
      guard page.snapshot.position.identity == preamble.epoch, through ?? 0 <= page.snapshot.position.version else {
        throw .misplaced("a page does not fit what comes before it")
      }
      through = page.snapshot.position.version
    default: throw .misplaced("a \(message.kind) has no place in this file")
    }
  }
}

extension ReplicaState {
  /// Who the store is and where it stands; the importer names the space.
  fileprivate var introduction: Hello {
    var hello = ReplicaSession(.init(space: "", mode: [.push, .pull], isLive: false), state: self).hello
    // What is pending when the answer comes, nobody knows yet.
    hello.wantsDeletions = true
    return hello
  }
}

extension CommitSegment {
  fileprivate func commitCount() throws(LogFormatError) -> Int {
    let bytes = unsafe records.span.bytes
    var cursor = RecordCursor(over: bytes)
    var count = 0
    while try cursor.next(in: bytes) != nil { count += 1 }
    return count
  }
}

extension StoreError {
  /// The public form of what is wrong with an exchange file.
  init(_ error: ExchangeFileError, path: String) {
    let code: Code =
      switch error {
      case .foreign: .foreign
      case .newerFormat: .newerFormat
      case .cutOff, .damaged, .misplaced: .corrupt
      case .exists: .exists
      case .system(let error, _): Code(errno: error.code)
      }
    self.init(code, error.description, path: path)
  }
}
