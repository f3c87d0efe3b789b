// What happens rarely in a simulation and must happen at all: each is counted, and a run of many seeds in which one of them
// never occurred has tested less than it says. Add a case, and count it where it happens.

@testable import KVStore

enum RarePath: String, CaseIterable {
  // The four cases of the handshake, and what they lead to.
  case resumed = "a session resumed where the one before had ended"
  case hubRestored = "a replica found that the hub was restored"
  case newEpoch = "the hub began a new epoch"
  case newIncarnation = "a replica went on as a new incarnation"
  case afterRestoring = "a replica that was restored went on as a new incarnation"
  case afterCloning = "a replica of which there are two went on as a new incarnation"
  case confirmedIsPending = "a new incarnation had pending again what the hub had confirmed"
  case broughtBack = "commits of others were brought back to the hub"
  case broughtBackByOthers = "a replica found that others had brought back its commits"
  case unheardOfferedAgain = "what the hub had decided, and nobody heard of, was offered again after it was restored"
  case restorationDeclined = "what was brought back was declined"
  case rowsOffered = "rows were offered, as the log no longer had their commits"
  case restoredWhileBringingBack = "the hub was restored again before everything was brought back"
  // Pushing.
  case decidedUnheard = "the welcome told of decisions whose acknowledgement was lost"
  case exceptionsToldAgain = "exceptions were told again, as nobody had confirmed them"
  case staleOfferedAgain = "a stale commit was offered again"
  case heldBack = "re-offers waited for a pull"
  case parked = "a refused commit was parked"
  case retried = "a parked commit was retried"
  case coalesced = "changes were passed over, as later ones had overwritten them"
  case emptyPush = "a push had no records"
  case sentAgain = "commits were sent again that the hub had decided"
  case gap = "a push was refused, as it left a gap"
  case largeCommit = "a commit was larger than a segment"
  case hubWindowOverdrawn = "a push was larger than the hub's whole window"
  // Conflicts.
  case localWon = "the local side of a conflict won"
  case remoteWon = "the remote side of a conflict won"
  case merged = "a conflict was merged"
  case unresolved = "a conflict was left to the program"
  case identical = "both sides had written the same"
  // Links.
  case cut = "a link was cut"
  case silent = "a dead link was found by its silence"
  case partitionToHub = "messages to the hub were held up"
  case partitionToReplica = "messages to a replica were held up"
  case partitionBoth = "messages were held up both ways"
  case replaced = "a newer session of a replica replaced an older one"
  // Sessions.
  case fenceServed = "somebody was told that the hub's versions were here"
  case budgetCut = "a session ended at its budget"
  case paused = "a session was paused"
  case stopped = "a session was stopped"
  case pushOnly = "a session only pushed"
  case pullOnly = "a session only pulled"
  // Crashes.
  case replicaCrash = "a replica crashed"
  case relaxedLost = "a replica lost writes that were not yet durable"
  case hubCrash = "the hub crashed"
  case hubCrashUndecided = "the hub crashed with pushes that were not acknowledged"
  case hubShutdown = "the hub shut down in good order"
  case logTruncated = "a replica's log lost its beginning"
  // Snapshots.
  case pageLoaded = "a page of a snapshot was loaded"
  case hubLogTruncated = "the hub's log lost its beginning"
  case lapsed = "a replica was away for longer than the hub keeps its log"

  /// What happens only where there are snapshots.
  var isOfSnapshots: Bool { self == .pageLoaded || self == .hubLogTruncated || self == .lapsed }

  init(_ conflict: ConflictRecord) {
    self =
      switch conflict.outcome {
      case .identical: .identical
      case .remoteWon: .remoteWon
      case .localWon: .localWon
      case .merged: .merged
      case .unresolved: .unresolved
      }
  }
}

/// How often each occurred.
struct RarePathCounts: Sendable {
  private var counts = [Int](repeating: 0, count: RarePath.allCases.count)

  private static let places: [RarePath: Int] = Dictionary(
    uniqueKeysWithValues: RarePath.allCases.enumerated().map { ($1, $0) })

  subscript(path: RarePath) -> Int {
    get { counts[Self.places[path] ?? 0] }
    set { counts[Self.places[path] ?? 0] = newValue }
  }

  mutating func add(_ other: RarePathCounts) {
    for index in counts.indices { counts[index] += other.counts[index] }
  }

  func missing(withSnapshots: Bool) -> [RarePath] {
    RarePath.allCases.filter { self[$0] == 0 && $0.isOfSnapshots == withSnapshots }
  }
}
