// The contests of a feed: keys with a pending local change that a remote change has come for.
//
// Invariants
// - A key is contested once in a group, with the last of the remote changes.
// - What this store wrote itself, what it wrote when its copy was still the same store, and what it had of others before the hub was
//   restored, is no other side: it comes back from the hub, and whatever was written knowing of it stands.

import KVLog

/// A pending local change and the last remote change of the same key.
struct Contest {
  var key: [UInt8]
  var local: Row
  var localValue: [UInt8]
  var remote: CommitHeader
  var remoteIsDeletion: Bool
  var remoteValue: [UInt8]

  /// Who wrote the remote side.
  enum Remote {
    case another
    /// Somebody of whom this store knew it when it wrote the local side; or this store, before that.
    case earlier
    /// It is the local side. Nothing is contested any more: what comes after it was written knowing of it.
    case same
  }

  private(set) var writer = Remote.another

  var outcome = ConflictRecord.Outcome.remoteWon
  /// A resolution commit puts this, or deletes the key.
  var resolution: Resolution?

  enum Resolution {
    case local
    case merged([UInt8]?)
  }

  /// `isEarlier`: the local side was written knowing of the remote commit.
  init(
    _ change: ChangeView, of remote: CommitHeader, isEarlier: Bool, in bytes: RawSpan, local: Row, localValue: [UInt8]
  ) {
    key = bytes.extracting(change.key).copied()
    self.local = local
    self.localValue = localValue
    self.remote = remote
    remoteIsDeletion = change.isDeletion
    remoteValue = bytes.extracting(change.value).copied()
    writer = isSame ? .same : isEarlier ? .earlier : .another
  }

  mutating func meet(_ change: ChangeView, of remote: CommitHeader, isEarlier: Bool, in bytes: RawSpan) {
    self.remote = remote
    remoteIsDeletion = change.isDeletion
    remoteValue = bytes.extracting(change.value).copied()
    // Who has met another side meets nothing earlier any more.
    if writer == .earlier { writer = isSame ? .same : isEarlier ? .earlier : .another }
  }

  /// A copy of a store offers with the time of its writing what the store had pending; so it is one write, whoever brings it.
  private var isSame: Bool { isEqual && local.time == remote.time }

  var isEqual: Bool { local.isTombstone == remoteIsDeletion && localValue == remoteValue }

  func localIsLater(of identity: Identity) -> Bool {
    (local.time, identity) > (remote.time, remote.origin)
  }

  var losingValue: [UInt8] {
    switch outcome {
    case .identical: []
    case .localWon: remoteValue
    case .remoteWon, .merged, .unresolved: localValue
    }
  }

  /// What it will add to the block, about: the record of the conflict, and the change that resolves it.
  func bytes(_ policy: ConflictPolicy) -> Int {
    let values =
      switch policy.effective(for: key) {
      case .remoteWins: localValue.count
      case .lastWriterWins, .localWins, .manual: localValue.count + remoteValue.count
      case .merge, .mergeWithBase, .perPrefix: 2 * localValue.count + remoteValue.count
      }
    return 256 + 2 * key.count + values
  }
}

/// The contests of one group, by key.
struct Contests {
  var all: [Contest] = []
  var bytes = 0
  private var places: [[UInt8]: Int] = [:]
  /// Those whose remote side is the commit being recorded.
  private var met: [Int] = []

  mutating func add(_ contest: Contest, _ policy: ConflictPolicy) {
    places[contest.key] = all.count
    met.append(all.count)
    all.append(contest)
    bytes += contest.bytes(policy)
  }

  /// Whether the key is contested already: then with this change from now on, if it still is.
  mutating func meet(_ change: ChangeView, of remote: CommitHeader, isEarlier: Bool, in bytes: RawSpan) -> Bool {
    guard !all.isEmpty, let place = places[bytes.extracting(change.key).copied()] else { return false }
    guard all[place].writer != .same else { return true }
    all[place].meet(change, of: remote, isEarlier: isEarlier, in: bytes)
    met.append(place)
    return true
  }

  /// The commit is recorded here under this header.
  mutating func recorded(_ header: CommitHeader) {
    for place in met { all[place].remote = header }
    met.removeAll(keepingCapacity: true)
  }
}
