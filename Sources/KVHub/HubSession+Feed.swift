// The session's half that feeds the replica what others wrote, for as long as it lasts.

import KVLog
import KVProtocol

/// The feed between the storage and the socket.
struct OutboundFeed: Sendable {
  /// Bytes the replica still takes; a feed may overdraw it.
  var credit = 0
  /// Read from the storage through here.
  var readThrough: Version = 0
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
    guard !outbound.isReading, outbound.held?.records.isEmpty ?? true else { return }
    outbound.isReading = true
    actions.append(
      .read(after: outbound.readThrough, excluding: replica, maximumBytes: outbound.segmentBytes))
  }

  mutating func releaseHeldFeed() {
    guard let held = outbound.held, !inbound.isAdmitting, outbound.credit > 0,
      outbound.unsentMessages < OutboundFeed.maximumUnsentMessages
    else { return }
    // A cursor that only passes the replica's own commits can wait until it pushes no more: each move costs it a
    // durable step.
    guard !held.records.isEmpty || inbound.waiting.isEmpty else { return }
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
