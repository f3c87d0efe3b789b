// The session's half that applies what the hub feeds, and the one queue of writes to the store.

import KVLog
import KVProtocol
import KVStore

/// What a hub feeds: what others write, and snapshots of what is missing.
enum Arrival: Sendable {
  case feed(Feed)
  case page(Page)

  var chargedBytes: Int {
    switch self {
    case .feed(let feed): feed.chargedBytes
    case .page(let page): page.chargedBytes
    }
  }
}

/// Feeds between the hub and the store.
struct InboundFeed: Sendable {
  /// Applied through here.
  var cursor: Version
  /// Received through here, without a gap.
  var receivedThrough: Version
  /// Received and not yet applied, with the credit that each used; bounded by the credit granted.
  var waiting: [Arrival] = []
  /// The keys that the replica has, and those that it is to get, as far as pages were received…
  var covered = Coverage.none
  var missing = Coverage.none
  /// …and how many of them were applied.
  var pages: UInt32 = 0
  /// Whether they come with deletions.
  var isWithDeletions = false
  /// The hub cannot go on with what is here.
  var hasLapsed = false
  /// Live keys that came with them.
  var loadedKeys = 0
  /// Bytes the hub may still send; a feed may overdraw it.
  var credit: Int
  var isApplying = false
  /// What is being applied is a page.
  var isLoading = false
  /// The credit that what is being applied used.
  var applyingBytes = 0

  init(cursor: Version, credit: Int) {
    self.cursor = cursor
    self.credit = credit
    receivedThrough = cursor
  }

  /// What is applied next: a page, or as many feeds as follow one another, up to so many bytes, as one run.
  mutating func takeNext(atMost bytes: Int) -> Arrival? {
    guard case .feed(let first)? = waiting.first else {
      guard let page = waiting.first else { return nil }
      applyingBytes = page.chargedBytes
      waiting.removeFirst()
      return page
    }
    var run = first
    applyingBytes = waiting[0].chargedBytes
    var count = 1
    for arrival in waiting.dropFirst() {
      guard case .feed(let next) = arrival, run.segment.records.count + next.segment.records.count <= bytes else {
        break
      }
      run.segment.records.append(contentsOf: next.segment.records)
      run.segment.changeCount += next.segment.changeCount
      run.segment.through = next.segment.through
      run.segment.digest = next.segment.digest
      applyingBytes += next.chargedBytes
      count += 1
    }
    waiting.removeFirst(count)
    return .feed(run)
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
    pull.waiting.append(.feed(feed))
    proceed()
  }

  mutating func receive(_ page: Page) {
    guard configuration.mode.contains(.pull) else { return violation("a page came that was not asked for") }
    // It comes again: the coverage has not grown.
    if budget.isPausing { return }
    let interval = page.snapshot.interval
    let version = page.snapshot.position.version
    guard pull.credit > 0 else { return violation("a page came without credit") }
    // Another replica has found meanwhile that the hub was restored.
    guard page.snapshot.position.identity == epoch else { return leaveAndBeginAgain() }
    guard let missing = pull.missing.intervals.first,
      interval.from == missing.from, Coverage([interval]).subtracting(pull.missing).isEmpty,
      version >= pull.receivedThrough
    else { return violation("a page of version \(version) came that does not fit what is here") }
    pull.credit -= page.chargedBytes
    budget.receivedBytes += page.chargedBytes
    fedHead = max(fedHead, page.head)
    pull.covered.insert(interval)
    pull.missing.remove(interval)
    pull.receivedThrough = version
    var page = page
    page.snapshot.isWithDeletions = pull.isWithDeletions
    pull.waiting.append(.page(page))
    proceed()
  }

  // MARK: Lapsed

  /// The hub no longer has what follows on what is here.
  mutating func lapse() {
    phase = .lapsing
    actions.append(.notify(.lapsed))
    actions.append(.lapse)
  }

  mutating func lapsed(_ state: ReplicaState) {
    guard case .lapsing = phase else { return }
    self.state = state
    open()
  }

  /// Begins the next write of the store if none is under way: decisions before feeds. A decision that came after a feed
  /// may go before it: a commit that the hub took is not touched by what was fed before, else it had been stale.
  mutating func pumpStore() {
    guard !isWritingStore else { return }
    if let decision = push.decision ?? provenDecision {
      push.decision = nil
      push.unproven = nil
      push.recording = decision
      actions.append(.acknowledge(decision, epoch: epoch))
    } else if let next = pull.takeNext(atMost: ProtocolLimits.admissionBytes) {
      pull.isApplying = true
      switch next {
      case .feed(let run): actions.append(.apply(run.segment, epoch: epoch))
      case .page(let page):
        pull.isLoading = true
        actions.append(.load(page.snapshot))
      }
    }
  }

  /// What others brought back was pulled.
  private var provenDecision: OutboundPush.Decision? {
    guard let decision = push.unproven, pull.cursor >= decision.acknowledgement.head, state.missing.isEmpty else {
      return nil
    }
    return decision
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
    guard !outcome.lacksDeletions else { return leaveAndBeginAgain() }
    count(outcome)
    if pull.isLoading {
      pull.isLoading = false
      pull.pages += 1
      pull.loadedKeys += outcome.changes
      actions.append(.notify(.loadingSnapshot(keys: pull.loadedKeys)))
    }
    let granted = regrant(pull.applyingBytes)
    pull.credit += granted
    if granted > 0 { actions.append(.send(.credit(granted))) }
    // A resolution is a new local commit, also that of two equal writes whose later time stands.
    if outcome.resolutions > 0 { pushAlso(through: state.local.version) }
    proceed()
  }
}
