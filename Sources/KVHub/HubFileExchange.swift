// The hub's side of synchronising by files: takes what a replica has exported, and writes what it is to have.
//
// Invariants
// - Nothing of a file is used before all of it was read and found whole, and fits the space by the rules of the handshake.
//   Then each part is admitted in a durable step of its own, exactly once: what was decided before, by a session or by the
//   same file, is skipped, so that an import that was cut off is finished by importing the file again.
// - An answer says what the hub has decided before it says what others wrote later.
// - The rules of a session hold: a replica is its holder's, and what goes beyond the hub's limits or is rejected by the
//   program's hook is refused, and parked by the replica when it imports the answer.
// - Memory is bounded by one message, whatever the backlog.

import Foundation
public import KVLog
import KVProtocol
import NIOPosix

/// What importing a replica's file did at the hub.
public struct HubImportReport: Sendable, Hashable {
  /// Who wrote the file.
  public var replica: Identity
  /// Commits that the hub had not decided before…
  public var commits = 0
  /// …their changes…
  public var changes = 0
  /// …and those of the commits that met newer changes of others: the replica offers them again once it has imported the
  /// answer…
  public var stale = 0
  /// …and those that the hub refused, which the replica parks then.
  public var refused = 0
  /// Commits in the file that the hub had decided before.
  public var skippedCommits = 0
  /// The hub's version after the import.
  public var hubVersion: UInt64 = 0
}

/// What an answer to a replica holds.
public struct HubAnswerReport: Sendable, Hashable {
  /// For whom the file is.
  public var replica: Identity
  /// Through which version of the replica the hub has decided everything.
  public var decidedVersion: UInt64 = 0
  /// Commits that others wrote after what the replica had pulled…
  public var commits = 0
  /// …with so many changes.
  public var changes = 0
  /// The size of the file in bytes.
  public var fileBytes = 0
}

/// Throws `ExchangeFileError`, `Refusal` and ``HubStorageError``.
package struct HubFileExchange: Sendable {
  let storage: any HubStorage
  let space: String
  let holder: String?
  private let validator: HubValidator

  /// `holder` is the principal on whose behalf the file is imported; of the options, limits and hook count.
  package init(_ storage: any HubStorage, space: String, holder: String? = nil, options: Hub.Options = Hub.Options()) {
    self.storage = storage
    self.space = space
    self.holder = holder
    validator = HubValidator(options)
  }

  /// Admits what a replica has exported. `progress` is told of bytes read, each of which is read twice.
  package func importChanges(
    from path: String, progress: @Sendable (_ done: Int, _ total: Int) -> Void
  ) async throws -> HubImportReport {
    let (reader, hello) = try await introduction(path)
    let total = 2 * reader.byteCount
    var check = PushFileCheck(of: hello.replica)
    while let message = try await blocking({ try reader.next() }) {
      try Task.checkCancellation()
      try check.take(message)
      progress(reader.offset, total)
    }
    let space = try await storage.space(named: space, creating: Handshake.mayCreateSpace(hello))
    let owner = try await blocking { [holder] in try space.owner(of: hello.replica, claimedBy: holder) }
    guard owner == holder else { throw HubGate.otherOwner }
    let state = try await decided(hello, space)
    let before = state.progress?.lastApplied ?? 0
    try check.fits(state, lastApplied: before)
    var report = HubImportReport(replica: hello.replica)
    reader.rewind()
    while let message = try await blocking({ try reader.next() }) {
      try Task.checkCancellation()
      progress(reader.byteCount + reader.offset, total)
      guard case .push(let push) = message else { continue }
      try report.count(push.segment, decided: before)
      guard push.segment.through > before else { continue }
      var segment = PushSegment(push)
      segment.coverage = hello.covered
      // Read while a session was pulling, a part may know more; of what lies beyond where the replica said it stands, the hub has
      // no proof.
      segment.cursor = min(segment.cursor, hello.cursor?.version ?? 0)
      if validator.isNeeded {
        segment.refusals = try await validator.refusals(
          in: push.segment, after: before, of: .init(space: self.space, replica: hello.replica), principal: holder)
      }
      let acknowledgement = try await space.admit(segment, from: hello.replica, confirmed: hello.shipped.version)
      let news = acknowledgement.exceptions.filter { $0.version > before }
      report.stale = news.count { if case .stale = $0.reason { true } else { false } }
      report.refused = news.count - report.stale
    }
    report.hubVersion = try await blocking { try space.head().version }
    return report
  }

  /// Writes what the replica that exported `request` is to have: what the hub has decided of it, and what others wrote after
  /// what it had pulled. Of the request, only where the replica stood is used. `progress` is told of versions.
  package func exportAnswer(
    to path: String, for request: String, progress: @Sendable (_ done: Int, _ total: Int) -> Void
  ) async throws -> HubAnswerReport {
    let (_, hello) = try await introduction(request)
    let space = try await storage.space(named: space, creating: Handshake.mayCreateSpace(hello))
    let state = try await decided(hello, space)
    let preamble = ExchangeFilePreamble(.hub, replica: hello.replica, epoch: state.head.identity)
    let writer = try await blocking { try ExchangeFileWriter(preamble, path: path, process: getpid()) }
    // Unless it is finished.
    defer { writer.discard() }
    let coverage = SentCoverage(hello, state)
    let welcome = state.welcome(to: hello, coverage)
    let greeting = Message.welcome(welcome)
    try await blocking { try writer.append(greeting) }
    var report = HubAnswerReport(replica: hello.replica, decidedVersion: welcome.lastApplied)
    let start = hello.cursor?.version ?? 0
    var answer = Answer(
      space: space, writer: writer, replica: hello.replica, ownThrough: hello.ownThrough, coverage: coverage,
      after: start, head: state.head.version)
    while try await blocking({ [answer] in try answer.next() }).map({ answer = $0 }) != nil {
      try Task.checkCancellation()
      progress(Int(clamping: answer.after - start), Int(clamping: max(answer.head, answer.after) - start))
    }
    report.commits = answer.commits
    report.changes = answer.changes
    report.fileBytes = try await blocking { try writer.finish() }
    return report
  }

  /// Opens a replica's file; gives where the replica stood.
  private func introduction(_ path: String) async throws -> (ExchangeFileReader, Hello) {
    let reader = try await blocking { try ExchangeFileReader(path: path) }
    guard reader.preamble.sender == .replica else {
      throw ExchangeFileError.misplaced(
        "this file comes from a hub, for the store \(reader.preamble.replica): it is imported there")
    }
    guard case .hello(var hello) = try await blocking({ try reader.next() }), hello.replica == reader.preamble.replica
    else { throw ExchangeFileError.misplaced("the file does not say who has written it") }
    hello.space = space
    if let refusal = Handshake.check(hello) { throw refusal }
    return (reader, hello)
  }

  /// Where the space stands, if the replica and it fit together.
  private func decided(_ hello: Hello, _ space: any HubSpace) async throws -> SpaceState {
    let state = try await blocking { try space.state(for: hello) }
    var hello = hello
    if let progress = state.progress {
      // An old file says less than the hub knows: that is no sign of a replica that was restored.
      hello.lastVersion = max(hello.lastVersion, progress.lastApplied)
    }
    if let refusal = Handshake.decide(hello, state) { throw refusal }
    guard state.common?.version == hello.cursor?.version ?? 0,
      state.progress?.lastApplied ?? 0 >= hello.shipped.version
    else {
      throw Refusal(
        .hubRestored,
        "the hub was restored to an older state and lacks what the replica knows: let the replica synchronise over a "
          + "network once, which brings it back")
    }
    return state
  }

  private func blocking<Result: Sendable>(_ work: @escaping @Sendable () throws -> Result) async throws -> Result {
    try await NIOThreadPool.singleton.runIfActive(work)
  }
}

/// What a replica is to have, as far as it is written.
private struct Answer: Sendable {
  let space: any HubSpace
  let writer: ExchangeFileWriter
  let replica: Identity
  let ownThrough: Version
  var coverage: SentCoverage
  var after: Version
  var head: Version
  var commits = 0
  var changes = 0

  /// With one part more; nil: that was all.
  func next() throws -> Answer? {
    var next = self
    guard let missing = coverage.missing.intervals.first else { return try next.feed(through: head) ? next : nil }
    let page = try space.page(
      of: missing, for: replica, deletions: coverage.wantsDeletions, maximumBytes: ProtocolLimits.maximumSegmentBytes)
    next.head = max(head, page.position.version)
    if !coverage.covered.isEmpty { while try next.feed(through: page.position.version) {} }
    try writer.append(.page(Page(snapshot: page, head: next.head)))
    next.after = page.position.version
    next.coverage.sent(page.interval)
    next.changes += try page.commit()?.header.changeCount ?? 0
    return next
  }

  private mutating func feed(through end: Version) throws -> Bool {
    var request = FeedRequest(after: after, through: end, excluding: replica, within: coverage.covered)
    request.ownThrough = ownThrough
    guard let run = try space.feed(request, maximumBytes: ProtocolLimits.maximumSegmentBytes) else { return false }
    head = max(head, run.through)
    try writer.append(.feed(Feed(segment: run, head: head)))
    after = run.through
    commits += try run.records.commits().count
    changes += run.changeCount
    return true
  }
}

/// What must hold of a replica's file before anything of it is admitted.
private struct PushFileCheck {
  let replica: Identity
  private var first: Version?
  private var through: Version?
  private var cursor: Version = 0
  /// The digests that the file states, of the versions where its parts end.
  private var lastDigests: [Version: Digest] = [:]

  init(of replica: Identity) { self.replica = replica }

  mutating func take(_ message: Message) throws {
    guard case .push(let push) = message else {
      throw ExchangeFileError.misplaced("a \(message.kind) has no place in this file")
    }
    guard through == nil || push.segment.after == through else {
      throw ExchangeFileError.misplaced("a part is missing")
    }
    do throws(ProtocolError) { try push.segment.check(pushedBy: replica) } catch {
      throw ExchangeFileError.misplaced("\(error)")
    }
    first = first ?? push.segment.after
    through = push.segment.through
    cursor = max(cursor, push.cursor)
    lastDigests[push.segment.through] = push.segment.digest
  }

  func fits(_ state: SpaceState, lastApplied: Version) throws {
    if let first, first > lastApplied {
      throw Refusal(
        .gap, version: lastApplied,
        "the file begins after version \(first) of the replica, and the hub has version \(lastApplied). Import the file "
          + "before it first, or export again")
    }
    guard cursor <= state.head.version else {
      throw Refusal(
        .hubRestored, version: state.head.version,
        "the replica knows version \(cursor) of the space, which ends at \(state.head.version): the hub was restored to "
          + "an older state")
    }
    // Their logs may have begun in the middle, so what the hub has decided of the replica's commits only the replica can find out.
    if state.progress?.digestKind == .commit, let first, first < lastApplied {
      throw Refusal(
        .hubRestored, version: lastApplied,
        "the hub was restored to an older state, and others brought back what the replica had written through version "
          + "\(lastApplied): let the replica synchronise over a network once, which tells what is missing")
    }
    if let digest = lastDigests[lastApplied], digest != state.progress?.digest {
      throw Refusal(
        .replicaRestored, version: lastApplied,
        "the replica's log and what the hub got from it differ at version \(lastApplied): it was restored or copied")
    }
  }
}

extension HubImportReport {
  fileprivate mutating func count(_ segment: CommitSegment, decided: Version) throws {
    for commit in try segment.records.commits() {
      if commit.version > decided {
        commits += 1
        changes += commit.changeCount
      } else {
        skippedCommits += 1
      }
    }
  }
}

extension [UInt8] {
  /// The headers of the commits in a run's records.
  fileprivate func commits() throws(LogFormatError) -> [CommitHeader] {
    let bytes = unsafe span.bytes
    var records = RecordCursor(over: bytes)
    var headers: [CommitHeader] = []
    while let record = try records.next(in: bytes) {
      headers.append(try CommitView(payload: record.payload, in: bytes).header)
    }
    return headers
  }
}
