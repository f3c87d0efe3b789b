// The session's half that feeds the replica what others wrote, for as long as it lasts.

import KVLog
import KVProtocol

/// The feed between the storage and the socket.
struct OutboundFeed: Sendable {
  /// Bytes the replica still takes; a feed may overdraw it.
  var credit = 0
  /// What the replica has.
  var coverage = SentCoverage()
  /// The replica's own commits go to it through this version.
  var ownThrough: Version = 0
  /// Goes out once everything through its version has been fed.
  var page: SnapshotPage?
  /// Read from the storage through here.
  var readThrough: Version = 0
  /// The hub's log began after this version when the session did; nil: nothing is fed in it.
  var floor: Version?
  /// Sent through here: where the replica's cursor will be.
  var sentThrough: Version = 0
  /// Read and not yet sent. Begins at `sentThrough`.
  var held: CommitSegment?
  /// A read or a wait is under way.
  var isReading = false
  /// Messages that are not yet on their way: a replica that does not read is not read for.
  var unsentMessages = 0

  /// A replica that takes little altogether takes little at once.
  var segmentBytes = ProtocolLimits.segmentBytes

  static let maximumUnsentMessages = 2

  init() {}

  init(after version: Version, credit: Int) {
    self.credit = credit
    segmentBytes = min(segmentBytes, max(1, credit))
    readThrough = version
    sentThrough = version
  }
}

extension HubSession {
  mutating func grant(_ bytes: Int) {
    guard bytes <= ProtocolLimits.maximumCredit - max(0, outbound.credit) else {
      return reject(.violation("more credit was granted than a session may hold"))
    }
    outbound.credit += bytes
    pumpFeed()
  }

  mutating func read(_ segment: CommitSegment?) {
    outbound.isReading = false
    guard let segment else {
      outbound.isReading = true
      actions.append(.awaitHead(beyond: outbound.readThrough))
      return
    }
    head = max(head, segment.through)
    outbound.readThrough = segment.through
    // Runs of the replica's own commits only move the cursor: they are joined to what comes next.
    outbound.held = CommitSegment(
      after: outbound.sentThrough, through: segment.through, digest: segment.digest, records: segment.records,
      changeCount: segment.changeCount)
    pumpFeed()
  }

  mutating func read(_ page: SnapshotPage) {
    outbound.isReading = false
    head = max(head, page.position.version)
    outbound.page = page
    pumpFeed()
  }

  mutating func headMoved(_ version: Version) {
    outbound.isReading = false
    head = max(head, version)
    pumpFeed()
  }

  mutating func feedSent() {
    outbound.unsentMessages -= 1
    pumpFeed()
  }

  /// Sends what may be sent and reads what may be read.
  mutating func pumpFeed() {
    guard case .open = phase, mode.contains(.pull), mayBegin else { return }
    releaseHeldFeed()
    releasePage()
    guard !outbound.isReading, outbound.held?.records.isEmpty ?? true else { return }
    if outbound.page == nil, let missing = outbound.coverage.missing.intervals.first {
      outbound.isReading = true
      actions.append(
        .readPage(
          missing, for: replica, deletions: outbound.coverage.wantsDeletions, maximumBytes: outbound.segmentBytes))
    } else if outbound.page == nil || isFeedBehindPage {
      outbound.isReading = true
      var request = FeedRequest(
        after: outbound.readThrough, through: outbound.page?.position.version, excluding: replica,
        within: outbound.coverage.covered)
      request.ownThrough = outbound.ownThrough
      actions.append(.read(request, maximumBytes: outbound.segmentBytes))
    }
  }

  /// A replica that has nothing needs no feed before its first page.
  private var isFeedBehindPage: Bool {
    guard let page = outbound.page else { return false }
    return !outbound.coverage.covered.isEmpty && outbound.readThrough < page.position.version
  }

  private var maySendFeed: Bool {
    !inbound.isAdmitting && outbound.credit > 0 && outbound.unsentMessages < OutboundFeed.maximumUnsentMessages
  }

  private mutating func releasePage() {
    guard let snapshot = outbound.page, maySendFeed, !isFeedBehindPage, outbound.held?.records.isEmpty ?? true else {
      return
    }
    outbound.page = nil
    outbound.held = nil
    outbound.readThrough = snapshot.position.version
    outbound.sentThrough = snapshot.position.version
    outbound.coverage.sent(snapshot.interval)
    let page = Page(snapshot: snapshot, head: max(head, snapshot.position.version))
    outbound.credit -= page.chargedBytes
    outbound.unsentMessages += 1
    actions.append(.send(.page(page)))
  }

  mutating func releaseHeldFeed() {
    guard let held = outbound.held, maySendFeed else { return }
    // A cursor that only passes the replica's own commits can wait until it pushes no more, or until a page moves it: each
    // move costs it a durable step.
    guard !held.records.isEmpty || inbound.waiting.isEmpty && outbound.page == nil else { return }
    let feed = Feed(segment: held, head: max(head, held.through))
    outbound.held = nil
    outbound.sentThrough = held.through
    outbound.credit -= feed.chargedBytes
    outbound.unsentMessages += 1
    actions.append(.send(.feed(feed)))
  }
}

extension HubSession {
  /// Feed messages that were sent off and not yet reported as sent.
  package var unsentFeeds: Int { outbound.unsentMessages }
}
