// Bugs that a replicator could have, each of which the simulator must find. They are in what surrounds the cores here, in
// the simulation's stores, spaces and links: what is released has no switch for them.

enum DeliberateBug: String, CaseIterable, Sendable {
  case acknowledgedBeforeDurable = "the hub acknowledges before it is durable"
  case cursorBeforeData = "the cursor is durable before the changes it covers"
  case progressForgotten = "what was decided of a replica is not stored with its effects: no deduplication"
  case admissionSkipped = "the hub takes what was written without knowing of a newer change"
  case reofferForgotten = "a stale commit is not offered again"
  case parkedForgotten = "a refused commit is not parked"
  case epochIgnored = "a restored hub begins no new epoch"
  case tombstoneSweptEarly = "tombstones are swept at once"
  case acknowledgementBehindFeed = "a newer feed goes before an acknowledgement"
  case transactionSplit = "a transaction becomes several commits"
  case voidChangeShipped = "a change that lost a conflict is shipped"
  case conflictUnrecorded = "the value that lost is not kept"
  case confirmedBeforeDurable =
    "exceptions are confirmed before they are recorded durably, and the hub forgets that they were"
  case restorationForgotten = "what a restored hub has lost of others is not brought back"
  case restoredTwice = "what is brought back is not compared with what is there"
  case incarnationKept = "a copy goes on under the name of its original"
  case heartbeatForgotten = "nobody looks whether a link is dead"
}

extension DeliberateBug {
  /// What must be in a scenario for the bug to have a chance at all.
  func adjust(_ scenario: inout Scenario) {
    scenario.usesModelSpace = true
    switch self {
    case .parkedForgotten: scenario.refuses = true
    case .acknowledgedBeforeDurable: scenario.disasters += [.hubCrash, .hubCrash]
    case .cursorBeforeData, .confirmedBeforeDurable:
      scenario.disasters += [.replicaCrash, .replicaCrash, .replicaCrash, .replicaCrash]
    case .epochIgnored, .restorationForgotten, .restoredTwice: scenario.disasters += [.hubRestored]
    case .incarnationKept: scenario.disasters += [.cloned]
    default: break
    }
  }
}

extension DeliberateBug {
  /// So many seeds are enough: a few times what it takes at present.
  var foundWithin: Int { 500 }
}
