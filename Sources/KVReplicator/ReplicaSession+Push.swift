// The session's half that reads the log, ships it, and records what the hub decides.

import KVLog
import KVProtocol
import KVStore

/// Pushes between the log and the hub's decisions.
struct OutboundPush: Sendable {
  /// Sent, and not yet decided.
  struct InFlight: Sendable {
    var through: Version
    var digest: Digest
    var localChanges: Int
    var localBytes: Int
    /// Those of the changes that were not sent.
    var superseded: Int
    /// What it took on the wire.
    var chargedBytes: Int
  }

  /// Decided, and not yet recorded.
  struct Decision: Sendable {
    var acknowledgement: Acknowledgement
    var digest: Digest
    var localChanges: Int
    var localBytes: Int
    var superseded = 0
    /// The hub has the last of the commits from others, and does not say what it had decided of those before.
    var isUnproven = false
  }

  /// Bytes the hub still takes; a push may overdraw it.
  var credit = 0
  /// Where the next push begins.
  var sentThrough: Version
  /// Decided through here, as the hub told on this connection.
  var decidedThrough: Version
  /// Exceptions through this version are durably recorded here.
  var confirmed: Version
  var inFlight: [InFlight] = []
  /// Pages that were applied when the last read began.
  var pages: UInt32 = 0
  /// Read while there was no credit.
  var held: PushSegment?
  /// Bytes of pushes that wait for their turn at the socket, which itself holds some back.
  var unsentBytes = 0
  var isReading = false
  /// The last read found nothing, when the store was at this version.
  var isExhausted = false
  var exhaustedAt: Version = 0
  /// While re-offers wait for a pull: where the look for something new behind them has got to; nil: it begins.
  var lookedThrough: Version?
  /// Something new was found here.
  var newsThrough: Version = 0
  var isAwaitingLocal = false
  /// What came since the last recording began, as one.
  var decision: Decision?
  /// To be recorded once everything that the hub has was pulled: until then nobody knows what of it is there.
  var unproven: Decision?
  /// What is being recorded.
  var recording: Decision?
  var isRecording: Bool { recording != nil }

  init(after version: Version) {
    sentThrough = version
    decidedThrough = version
    confirmed = version
  }

  var hasUndecided: Bool { !inFlight.isEmpty || decision != nil }

  /// Decisions are cumulative: one that waits takes the next one in.
  mutating func note(_ next: Decision) {
    guard var waiting = decision else {
      decision = next
      return
    }
    waiting.acknowledgement.through = next.acknowledgement.through
    waiting.acknowledgement.exceptions += next.acknowledgement.exceptions
    waiting.acknowledgement.head = next.acknowledgement.head
    waiting.digest = next.digest
    waiting.localChanges += next.localChanges
    waiting.localBytes += next.localBytes
    waiting.superseded += next.superseded
    decision = waiting
  }
}

extension ReplicaSession {
  /// Sends the run that was read, and reads the next one.
  mutating func pumpPush() {
    guard configuration.mode.contains(.push) else { return }
    // What was read when the budget allowed for it, and does not any more.
    if spendableBytes <= 0 { push.held = nil }
    if let segment = push.held, maySend {
      push.held = nil
      send(segment)
    }
    guard push.held == nil, !push.isReading, !isSettling, mayReadPush else { return }
    push.isReading = true
    // A page may be applied while the log is read: to say less than is here is safe.
    push.pages = pull.pages
    actions.append(
      .readPush(
        after: push.lookedThrough ?? push.sentThrough,
        maximumBytes: min(configuration.segmentBytes, max(1, spendableBytes))))
  }

  /// However much credit the hub grants, one run waits for the socket while the next is read: the kernel's buffer keeps
  /// the link busy, and more would only be held in memory. A drain needs the same memory whether the hub is faster or
  /// slower than the log.
  var maySend: Bool {
    push.credit > 0 && spendableBytes > 0
      && push.unsentBytes < min(configuration.windowBytes, configuration.segmentBytes)
  }

  /// The log may hold more that is to be pushed, and may be.
  var mayReadPush: Bool { spendableBytes > 0 && mayReadMore }

  /// The log may hold more that is to be pushed.
  var mayReadMore: Bool {
    configuration.mode.contains(.push) && !push.isExhausted && !isHeldBack
      && (configuration.isLive || push.sentThrough < target)
  }

  /// Stale commits are being recorded: what they lead to is held back from the moment it is written, which is before
  /// this session hears of it. What is read meanwhile could contain it.
  var isSettling: Bool {
    push.decision?.mayOfferAgain == true || push.recording?.mayOfferAgain == true
  }

  mutating func read(_ segment: PushSegment?, _ state: ReplicaState) {
    push.isReading = false
    if let segment {
      take(segment, state)
    } else {
      push.lookedThrough = nil
      exhausted(state)
    }
    proceed()
  }

  /// Holds the run for sending. Without pulling, re-offers would be stale once more: they go along with something new
  /// that follows, as decisions are cumulative and it would else wait for a pull as well; and otherwise not.
  private mutating func take(_ run: PushSegment, _ state: ReplicaState) {
    let isLooking = push.lookedThrough != nil
    push.lookedThrough = nil
    // What may have been read too early is read again.
    guard !isSettling, !isHeldBack else { return }
    if !awaitsPull || push.newsThrough > push.sentThrough {
      if !isLooking { push.held = run }
    } else if run.segment.hasNews {
      push.newsThrough = run.segment.through
      if !isLooking { push.held = run }
    } else if run.segment.through < state.local.version {
      push.lookedThrough = run.segment.through
    } else {
      exhausted(state)
    }
  }

  private mutating func exhausted(_ state: ReplicaState) {
    // A commit that was recorded after the log was read has not been looked for.
    push.isExhausted = state.local.version >= self.state.local.version
    push.exhaustedAt = state.local.version
  }

  /// The session itself led to new local commits. Without pulling they wait: they would be stale again.
  mutating func pushAlso(through version: Version) {
    guard configuration.mode.contains(.pull) else { return }
    push.isExhausted = false
    target = max(target, version)
  }

  private mutating func send(_ read: PushSegment) {
    var message = Push(read, confirmed: push.confirmed)
    message.pages = push.pages
    push.credit -= message.chargedBytes
    push.unsentBytes += message.chargedBytes
    budget.sentBytes += message.chargedBytes
    push.sentThrough = read.segment.through
    push.inFlight.append(
      OutboundPush.InFlight(
        through: read.segment.through, digest: read.segment.digest, localChanges: read.localChanges,
        localBytes: read.localBytes, superseded: read.localChanges - read.segment.changeCount,
        chargedBytes: message.chargedBytes))
    actions.append(.send(.push(message)))
  }

  mutating func receive(_ acknowledgement: Acknowledgement) {
    let decided = push.inFlight.prefix { $0.through <= acknowledgement.through }
    guard let last = decided.last, last.through == acknowledgement.through else {
      return violation("an acknowledgement through version \(acknowledgement.through) answers no push")
    }
    guard areAcceptable(acknowledgement, after: push.decidedThrough) else { return }
    head = max(head, acknowledgement.head)
    promise?.note(acknowledgement)
    push.decidedThrough = acknowledgement.through
    push.note(
      OutboundPush.Decision(
        acknowledgement: acknowledgement, digest: last.digest,
        localChanges: decided.reduce(0) { $0 + $1.localChanges },
        localBytes: decided.reduce(0) { $0 + $1.localBytes }, superseded: decided.reduce(0) { $0 + $1.superseded }))
    push.inFlight.removeFirst(decided.count)
    proceed()
  }

  /// Exceptions name what is being decided, each commit once and in order, and versions that the hub has.
  mutating func areAcceptable(_ acknowledgement: Acknowledgement, after version: Version) -> Bool {
    var last = version
    for exception in acknowledgement.exceptions {
      guard exception.version > last, exception.version <= acknowledgement.through else {
        violation(
          "an acknowledgement of the versions after \(version) through \(acknowledgement.through) names "
            + "\(exception.version) after \(last)")
        return false
      }
      if case .stale(let hubVersion) = exception.reason, hubVersion > acknowledgement.head {
        violation(
          "commit \(exception.version) is behind version \(hubVersion), and the hub ends at \(acknowledgement.head)")
        return false
      }
      last = exception.version
    }
    return true
  }

  mutating func count(_ outcome: Acknowledged) {
    report.pushedChanges += push.recording?.localChanges ?? 0
    report.pushedBytes += push.recording?.localBytes ?? 0
    report.supersededChanges += push.recording?.superseded ?? 0
    report.reoffered += outcome.reoffered
    report.parked += outcome.parked
    push.recording = nil
  }

  mutating func recorded(_ outcome: Acknowledged, _ state: ReplicaState) {
    if outcome.parked > 0, let parked = push.recording.flatMap({ ParkedCommits($0.acknowledgement) }) {
      actions.append(.notify(.parked(parked)))
    }
    count(outcome)
    self.state = state
    push.confirmed = state.shipped
    // What stale commits met is wanted now, and asked for with the next hello. Without pulling it waits.
    let goesOn = if case .open = phase { !budget.isPausing && !budget.isOver } else { false }
    if goesOn, configuration.mode.contains(.pull), !state.missing.isEmpty,
      !state.missing.subtracting(pull.missing.union(pull.covered)).isEmpty
    {
      return leaveAndBeginAgain()
    }
    // A re-offer is a new local commit.
    if outcome.reoffered > 0 { pushAlso(through: state.local.version) }
    proceed()
  }
}

extension OutboundPush.Decision {
  fileprivate var mayOfferAgain: Bool { isUnproven || !acknowledgement.exceptions.isEmpty }
}

extension CommitSegment {
  /// Whether anything but re-offers is in it.
  fileprivate var hasNews: Bool {
    let bytes = unsafe self.records.span.bytes
    var records = RecordCursor(over: bytes)
    var isEmpty = true
    while let record = try? records.next(in: bytes) {
      isEmpty = false
      guard let commit = try? CommitView(payload: record.payload, in: bytes), commit.header.flags.contains(.reoffer)
      else { return true }
    }
    return isEmpty
  }
}

extension ParkedCommits {
  /// Those that the hub refused; nil: none.
  fileprivate init?(_ acknowledgement: Acknowledgement) {
    let refused = acknowledgement.exceptions.compactMap { exception -> (version: Version, reason: String)? in
      if case .refused(_, let message) = exception.reason { (exception.version, message) } else { nil }
    }
    guard let first = refused.first, let last = refused.last else { return nil }
    self.init(versions: first.version...last.version, count: refused.count, reason: last.reason)
  }
}
