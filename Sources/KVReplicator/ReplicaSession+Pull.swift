// The session's half that applies what the hub feeds, and the one queue of writes to the store.

import KVLog
import KVProtocol
import KVStore

/// Feeds between the hub and the store.
struct InboundFeed: Sendable {
  /// Applied through here.
  var cursor: Version
  /// Received through here, without a gap.
  var receivedThrough: Version
  /// Received and not yet applied, with the credit that each used; bounded by the credit granted.
  var waiting: [Feed] = []
  /// Bytes the hub may still send; a feed may overdraw it.
  var credit: Int
  var isApplying = false
  /// The credit that what is being applied used.
  var applyingBytes = 0

  init(cursor: Version, credit: Int) {
    self.cursor = cursor
    self.credit = credit
    receivedThrough = cursor
  }

  /// The feeds that are applied next, as one run: as many as follow one another, up to so many bytes.
  mutating func takeNext(atMost bytes: Int) -> CommitSegment? {
    guard let first = waiting.first else { return nil }
    var run = first.segment
    applyingBytes = first.chargedBytes
    var count = 1
    for next in waiting.dropFirst() {
      guard run.records.count + next.segment.records.count <= bytes else { break }
      run.records.append(contentsOf: next.segment.records)
      run.changeCount += next.segment.changeCount
      run.through = next.segment.through
      run.digest = next.segment.digest
      applyingBytes += next.chargedBytes
      count += 1
    }
    waiting.removeFirst(count)
    return run
  }
}

extension ReplicaSession {
  mutating func receive(_ feed: Feed) {
    guard configuration.mode.contains(.pull) else { return violation("a feed came that was not asked for") }
    // It comes again: the cursor has not moved.
    if budget.isPausing { return }
    guard feed.segment.after == pull.receivedThrough else {
      return violation(
        "a feed begins after version \(feed.segment.after), and \(pull.receivedThrough) was received so far")
    }
    guard pull.credit > 0 else { return violation("a feed came without credit") }
    do throws(ProtocolError) { try feed.segment.checkFed() } catch { return violation("\(error)") }
    pull.credit -= feed.chargedBytes
    budget.receivedBytes += feed.chargedBytes
    fedHead = max(fedHead, feed.head)
    pull.receivedThrough = feed.segment.through
    pull.waiting.append(feed)
    proceed()
  }

  /// Begins the next write of the store if none is under way: decisions before feeds. A decision that came after a feed
  /// may go before it: a commit that the hub took is not touched by what was fed before, else it had been stale.
  mutating func pumpStore() {
    guard !isWritingStore else { return }
    if let decision = push.decision {
      push.decision = nil
      push.recording = decision
      actions.append(
        .acknowledge(
          decision.acknowledgement, digest: decision.digest, localChanges: decision.localChanges,
          localBytes: decision.localBytes, epoch: epoch))
    } else if let run = pull.takeNext(atMost: ProtocolLimits.admissionBytes) {
      pull.isApplying = true
      actions.append(.apply(run, epoch: epoch))
    }
  }

  mutating func count(_ outcome: FeedOutcome) {
    report.pulledCommits += outcome.commits
    report.pulledChanges += outcome.changes
    report.pulledBytes += outcome.bytes
    report.conflicts += outcome.conflicts
  }

  mutating func applied(_ outcome: FeedOutcome, _ state: ReplicaState) {
    pull.isApplying = false
    self.state = state
    pull.cursor = state.cursor?.version ?? 0
    count(outcome)
    let granted = regrant(pull.applyingBytes)
    pull.credit += granted
    if granted > 0 { actions.append(.send(.credit(granted))) }
    // A resolution is a new local commit, also that of two equal writes whose later time stands.
    if outcome.resolutions > 0 { pushAlso(through: state.local.version) }
    proceed()
  }
}
