// How a session ends before everything is done: at the end of its budget, or because it is paused. Always at a durable cut:
// nothing is in flight, and what was decided or fed is recorded.
//
// Invariants
// - A budget is divided by need: what the hub may still send of its credit is set aside for it until it has nothing left.
// - However small it is, each direction comes forward by one message of a commit at least.
// - Paused, the session sends nothing more but answers and its goodbye, and asks for nothing.

import KVLog
import KVProtocol

/// What a session may spend, and has spent.
struct SessionBudget: Sendable {
  /// Bytes of commits in both directions; nil: any number.
  var bytes: Int?
  /// There is no time for more.
  var isOver = false
  var isPausing = false
  /// Bytes of pushes that were sent, and of feeds that were received.
  var sentBytes = 0
  var receivedBytes = 0

  var isLimited: Bool { bytes != nil || isOver || isPausing }
}

extension ReplicaSession {
  /// Bytes of a push that may go out now; at least 1 when any may.
  var spendableBytes: Int {
    if budget.isPausing { return 0 }
    // The first commit goes whatever it costs.
    let least = budget.sentBytes == 0 ? 1 : 0
    if budget.isOver { return least }
    guard let bytes = budget.bytes else { return .max }
    return max(least, bytes - budget.sentBytes - budget.receivedBytes - (expectsFeed ? max(0, pull.credit) : 0))
  }

  /// The hub has more, and credit to send it.
  var expectsFeed: Bool {
    configuration.mode.contains(.pull) && !budget.isPausing && pull.credit > 0
      && (pull.receivedThrough < head || !pull.missing.isEmpty)
      && !(budget.isOver && budget.receivedBytes > 0)
  }

  /// How much of what a feed used the hub is granted again.
  func regrant(_ used: Int) -> Int {
    if budget.isPausing || budget.isOver { return 0 }
    guard let bytes = budget.bytes else { return used }
    return max(0, min(used, bytes - budget.sentBytes - budget.receivedBytes - max(0, pull.credit)))
  }

  /// What the hub may send to begin with: half of the budget, which is shared with the pushes.
  static func firstCredit(_ configuration: Configuration) -> Int {
    guard let bytes = configuration.budgetBytes else { return configuration.windowBytes }
    return min(configuration.windowBytes, max(1, configuration.mode.contains(.push) ? bytes / 2 : bytes))
  }

  /// Time is up.
  mutating func runOut() {
    budget.isOver = true
    proceed()
  }

  mutating func pause() {
    guard !budget.isPausing else { return }
    budget.isPausing = true
    switch phase {
    case .connecting, .awaitingWelcome: leave()
    case .becomingNewIncarnation, .adopting, .rollingBack, .lapsing, .restoring, .checkingDigest, .open:
      // Neither has been promised to anybody: both come again.
      push.held = nil
      pull.waiting = []
      proceed()
    case .ended: break
    }
  }

  /// Nothing may be begun any more, and nothing is under way.
  var isCut: Bool {
    guard budget.isLimited, isAtRest, !mayReadPush else { return false }
    return budget.isPausing || !expectsFeed
  }

  /// What is in flight comes again, and is found decided.
  mutating func leaveAndBeginAgain() {
    actions.append(.send(.goodbye))
    phase = .ended
    actions.append(.beginAgain)
  }

  mutating func leave() {
    actions.append(.send(.goodbye))
    end(nil)
  }
}
