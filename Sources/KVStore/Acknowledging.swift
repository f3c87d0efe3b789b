// What the hub has decided, as the replica records it: stale commits are offered again, refused ones are parked.
//
// Invariants
// - What an exception leads to is in the block of the acknowledgement: after a crash it is all there or not at all.
// - Where a stale commit has a key outside of the store's scopes, what it met is not here: that key is wanted as well, and
//   nothing is offered before it came. With more of these than a store may ask for, the commit is parked.
// - A refused commit consumes its place. It is parked whole, but for changes that lost a conflict meanwhile, which are
//   void and in the journal; nothing waits for it.
// - A block stays bounded, however many commits were refused: then the acknowledgement is recorded in parts, of which
//   each says through which version it goes.
// - Of what others brought back to a restored hub, the last commit alone proves nothing about those before it: what is here
//   of them may have been found stale, or refused, and never been heard of. So all that is still current of them, after what
//   the hub has was pulled, is offered again.

package import KVLog

extension Store {
  /// Records what the hub has decided. `localChanges` and `localBytes` count the local changes that it newly covers;
  /// `digest` is this log's at `ack.through`. `isUnproven`: the hub knows of the last commit only, from others, and what it
  /// has of the rest was pulled.
  package func acknowledge(
    _ ack: Acknowledgement, digest: Digest, localChanges: Int, localBytes: Int, epoch: Identity,
    isUnproven: Bool = false
  ) async throws -> Acknowledged {
    let token = lease
    var total = Acknowledged()
    var left = Decided(
      acknowledgement: ack, digest: digest, localChanges: localChanges, localBytes: localBytes, isUnproven: isUnproven)
    while true {
      let (outcome, rest) = try await perform { [self, left] group in
        try group.checkLease(token)
        try group.checkHub(epoch)
        return try Acknowledging(log: self, group: group).record(left, epoch: epoch)
      }
      total.add(outcome)
      guard let rest else { return total }
      left = rest
    }
  }
}

/// An acknowledgement, with what is known here of the versions that it covers.
struct Decided: Sendable {
  var acknowledgement: Acknowledgement
  var digest: Digest
  var localChanges: Int
  var localBytes: Int
  /// What is not among the exceptions need not be on the hub.
  var isUnproven = false
}

struct Acknowledging<Log: CommitLog, Group: WriteGroup> {
  let log: Log
  let group: Group

  /// What the exceptions lead to, as far as one block takes it.
  private struct Consequences {
    var reoffers: [(of: Version, Reoffer)] = []
    var parked: [ParkedRecord] = []
    var holdUntil: Version = 0
    /// With the keys that are wanted because of them.
    var subscription: Subscription
    var bytes = 0
    /// Not all exceptions were looked at, but those through this version.
    var through: Version?
  }

  /// Records the acknowledgement, or a part of it; then the rest comes back.
  func record(_ decided: Decided, epoch: Identity) throws -> (Acknowledged, rest: Decided?) {
    let ack = decided.acknowledgement
    guard ack.through > group.state.shipped else { return (Acknowledged(), nil) }
    guard decided.localChanges <= group.state.pendingChanges, decided.localBytes <= group.state.pendingBytes else {
      throw StoreError(
        .replication,
        "an acknowledgement covers \(decided.localChanges) changes, and only \(group.state.pendingChanges) are pending.",
        path: group.path)
    }
    let consequences = try decided.isUnproven ? unproven(ack) : consequences(of: ack.exceptions)
    var part = decided
    var rest: Decided?
    if let through = consequences.through, through < ack.through {
      part = try self.part(of: decided, through: through)
      rest = decided
      rest?.acknowledgement.exceptions.removeAll { $0.version <= through }
      rest?.localChanges -= part.localChanges
      rest?.localBytes -= part.localBytes
    }
    // Before the acknowledgement, which holds back what is offered again until all that is wanted was loaded.
    if consequences.subscription != group.state.subscription {
      group.append(SubscriptionRecord(consequences.subscription))
    }
    group.append(
      AcknowledgementRecord(
        through: part.acknowledgement.through, digest: part.digest, changes: UInt64(part.localChanges),
        bytes: UInt64(part.localBytes), epoch: epoch, holdUntil: consequences.holdUntil,
        head: ack.head),
      durably: !ack.exceptions.isEmpty || decided.isUnproven)
    for record in consequences.parked { try group.append(record) }
    var succession = SuccessionRecord([])
    for (version, reoffer) in consequences.reoffers {
      succession.steps.append(.init(version: version, successor: try reoffer.append(to: group)))
    }
    try group.append(succession)
    let outcome = Acknowledged(
      reoffered: consequences.reoffers.count, holdUntil: consequences.holdUntil, parked: consequences.parked.count)
    return (outcome, rest)
  }

  /// The acknowledgement as it would be if the hub had decided only through a version before.
  private func part(of decided: Decided, through version: Version) throws -> Decided {
    let counts = try log.localChanges(after: group.state.shipped, through: version, group.published)
    var part = decided
    part.acknowledgement.through = version
    part.digest = try log.withStream(after: version - 1, through: group.published.position) { stream in
      _ = try stream.next(through: group.published.position) { _, _ in true }
      return try stream.digest
    }
    (part.localChanges, part.localBytes) = (counts.changes, counts.bytes)
    return part
  }

  private func consequences(
    of exceptions: [CommitException], areUnproven: Bool = false
  ) throws -> Consequences {
    var consequences = Consequences(subscription: group.state.subscription)
    // A hub that was restored tells again what was decided, and recorded here, a long time ago.
    let decided = max(group.state.shipped, group.state.acknowledged)
    for exception in exceptions where exception.version > decided {
      if consequences.bytes >= StoreLimits.feedBytes { return consequences }
      switch exception.reason {
      case .stale(let hubVersion):
        guard let reoffer = try reoffer(of: exception.version, &consequences.bytes) else { break }
        // What is not found stale again has met nothing.
        let outside = areUnproven ? [] : reoffer.keys.filter { !consequences.subscription.isWanted($0) }
        if let key = outside.first, !consequences.subscription.meet(outside) {
          // Which of its keys the hub found newer, it does not say.
          let name = "\"\(String(decoding: key.prefix(64), as: UTF8.self))\""
          let what =
            outside.count == 1
            ? "\(name) too, which is not in the scopes of this store"
            : "one of its \(outside.count) keys too that are not in the scopes of this store, such as \(name)"
          let reason = "another replica has written \(what): add a scope with it and retry, or drop the commit"
          if let record = try park(exception.version, ParkedCommit.outsideScopes, reason, &consequences.bytes) {
            consequences.parked.append(record)
          }
        } else {
          consequences.reoffers.append((exception.version, reoffer))
          consequences.holdUntil = max(consequences.holdUntil, hubVersion)
        }
      case .refused(let code, let message):
        if let record = try park(exception.version, code, message, &consequences.bytes) {
          consequences.parked.append(record)
        }
      }
      consequences.through = exception.version
    }
    consequences.through = nil
    return consequences
  }

  /// Takes every local commit that is decided for stale, but for those of which more is known.
  private func unproven(_ ack: Acknowledgement) throws -> Consequences {
    var exceptions: [CommitException] = []
    var through = max(group.state.shipped, group.state.acknowledged)
    let limit = group.published
    guard through < ack.through else { return Consequences(subscription: limit.subscription) }
    try log.withStream(after: through, through: limit.position) { stream in
      try stream.pass(through: limit.position, to: ack.through) { entry, _ in
        guard exceptions.count < StoreLimits.unprovenCommits else { return false }
        guard limit.isLocal(entry.header) else { return true }
        exceptions.append(
          CommitException(version: entry.header.version, reason: .stale(hubVersion: ack.head)))
        return true
      }
      through = stream.version
    }
    for known in ack.exceptions {
      if let place = exceptions.firstIndex(where: { $0.version == known.version }) { exceptions[place] = known }
    }
    var consequences = try consequences(of: exceptions, areUnproven: true)
    if consequences.through == nil, through < ack.through { consequences.through = through }
    return consequences
  }

  // MARK: Stale

  /// nil: nothing of it is current any more.
  private func reoffer(of version: Version, _ blockBytes: inout Int) throws -> Reoffer? {
    let reoffer = try withCommit(version) { entry, bytes in try Reoffer(current: entry, in: bytes, group) }
    blockBytes += reoffer?.payloadBytes ?? 0
    return reoffer
  }

  // MARK: Refused

  /// nil: everything in it has lost a conflict, or it is parked: a hub that was restored refuses it once more.
  private func park(
    _ version: Version, _ code: UInt16, _ reason: String, _ blockBytes: inout Int
  ) throws -> ParkedRecord? {
    guard try !group.isParked(version) else { return nil }
    let record = try withCommit(version) { entry, bytes -> [UInt8]? in
      guard version <= group.state.voidThrough else { return bytes.extracting(entry.record).copied() }
      var kept: [Range<Int>] = []
      var changes = ChangeCursor(entry.view)
      while let change = try changes.next(in: bytes) {
        let key = bytes.extracting(change.key).copied()
        if try group.voidThrough(of: key) < version {
          kept.append(change.key.lowerBound - ChangeEncoding.headerByteCount..<change.value.upperBound)
        }
      }
      var record: [UInt8] = []
      record.append(commit: entry.header, changes: kept, in: bytes)
      return kept.isEmpty ? nil : record
    }
    guard let record else { return nil }
    blockBytes += record.count
    return try ParkedRecord(
      version: version, time: group.now(), code: code, reason: reason,
      record: record)
  }

  // MARK: The log

  private func withCommit<Result>(
    _ version: Version, _ body: (CommitStream.Entry, RawSpan) throws -> Result
  ) throws -> Result {
    var result: Result?
    let limit = group.published.position
    try log.withStream(after: version - 1, through: limit) { stream in
      _ = try stream.next(through: limit) { entry, bytes in
        guard entry.header.version == version, group.state.isLocal(entry.header) else { return true }
        result = try body(entry, bytes)
        return true
      }
    }
    guard let result else {
      throw StoreError(
        .replication, "the hub reports version \(version), which is not a commit of this store.", path: group.path)
    }
    return result
  }
}
