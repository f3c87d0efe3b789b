// Works out what a session would do, without a session: the log is read as for shipping, and the hub is asked for counts.
//
// Invariants
// - Neither side is changed: no space is made, no cursor moved, no session taken over; nothing is written here, not even a
//   record of having asked.
// - No snapshot is held while waiting for the network.
// - Memory is bounded: by one run of the log, and by one preview of the hub.

import KVLog
import KVProtocol
import KVStore
import KVTransport
import NIOPosix

struct Planner {
  let comparer: Comparer
  let history: ShippedHistory
  let segmentBytes: Int
  let direction: Replicator.Direction

  private var store: Store { comparer.store }

  @concurrent
  func run() async throws -> SyncPlan {
    var plan = SyncPlan()
    let state = store.replicaState()
    var messages = comparer.connection.messages.makeAsyncIterator()
    do {
      var decided = state.shipped
      var mayPull = true
      var history = history
      do {
        let (welcome, obstacle) = try await comparer.greet(&messages)
        plan.hubVersion = welcome.head.version
        plan.obstacle = obstacle
        if welcome.mayRefuse { history = .every }
        mayPull = obstacle == nil
        if mayPull { decided = max(decided, welcome.lastApplied) }
      } catch let error as ReplicatorError where error.code == .unknownSpace && state.mayCreateSpace {
        plan.createsSpace = true
        mayPull = false
      }
      if direction.mode.contains(.push) {
        try await addOutgoing(to: &plan, after: decided, through: state.local.version, history)
      }
      if mayPull, direction.mode.contains(.pull) {
        try await addIncoming(to: &plan, after: state.cursor?.version ?? 0, decided: decided, &messages)
      }
    } catch let error as TransportError {
      throw ReplicatorError(error)
    }
    return plan
  }

  /// `decided`: the hub has decided everything through here, though this store may not have heard of it.
  @concurrent
  private func addOutgoing(
    to plan: inout SyncPlan, after decided: Version, through end: Version, _ history: ShippedHistory
  ) async throws {
    let shipped = store.replicaState().shipped
    if decided > shipped {
      // Decided with the handshake.
      let counts = try store.localChanges(after: shipped, through: decided)
      plan.pendingChanges += counts.changes
      plan.pendingBytes += counts.bytes
    }
    let reader = PushReader(store, history: history)
    var after = decided
    while after < end {
      try Task.checkCancellation()
      let run = try await NIOThreadPool.singleton.runIfActive { [after, segmentBytes] in
        try reader.next(after: after, maximumBytes: segmentBytes)
      }
      guard let push = run else { break }
      after = push.segment.through
      plan.segmentsToSend += 1
      plan.pendingChanges += push.localChanges
      plan.pendingBytes += push.localBytes
      plan.supersededChanges += push.localChanges - push.segment.changeCount
      plan.changesToSend += push.segment.changeCount
      let bytes = unsafe push.segment.records.span.bytes
      var records = RecordCursor(over: bytes)
      while let record = try records.next(in: bytes) {
        let commit = try CommitView(payload: record.payload, in: bytes)
        plan.commitsToSend += 1
        plan.bytesToSend += commit.changes.count - commit.header.changeCount * ChangeEncoding.headerByteCount
      }
    }
  }

  @concurrent
  private func addIncoming(
    to plan: inout SyncPlan, after cursor: Version, decided: Version, _ messages: inout InboundMessages.AsyncIterator
  ) async throws {
    try await addSnapshot(to: &plan, decided: decided, &messages)
    // Of what comes with a snapshot, no feed brings anything.
    guard !store.replicaState().covered.isEmpty else { return }
    // The hub's head moves on while others write; what they write from now on is not waited for.
    let end = plan.hubVersion
    var after = cursor
    while after < end {
      let wantsKeys = store.replicaState().pendingChanges > 0
      try await comparer.connection.send(.previewRequest(PreviewRequest(after: after, wantsKeys: wantsKeys)))
      guard case .preview(let preview) = try await comparer.next(&messages), preview.through > after else {
        throw comparer.unexpected
      }
      after = preview.through
      plan.commitsToReceive += preview.commits
      plan.changesToReceive += preview.changes
      plan.bytesToReceive += preview.bytes
      plan.segmentsToReceive += preview.segments
      plan.expectedConflicts += try store.conflictingKeys(preview.keys, decided: decided)
    }
  }
}

extension Planner {
  /// What is missing comes as rows.
  @concurrent
  private func addSnapshot(
    to plan: inout SyncPlan, decided: Version, _ messages: inout InboundMessages.AsyncIterator
  ) async throws {
    for interval in store.replicaState().missing.intervals {
      var rest: KeyInterval? = interval
      while let interval = rest {
        let wantsKeys = store.replicaState().pendingChanges > 0
        try await comparer.connection.send(
          .previewRequest(PreviewRequest(after: 0, wantsKeys: wantsKeys, interval: interval)))
        guard case .preview(let preview) = try await comparer.next(&messages) else { throw comparer.unexpected }
        plan.changesToReceive += preview.changes
        plan.bytesToReceive += preview.bytes
        plan.segmentsToReceive += preview.segments
        plan.expectedConflicts += try store.conflictingKeys(preview.keys, decided: decided)
        rest = preview.end.map { KeyInterval(from: $0, end: interval.end) }
        if let rest, rest.isEmpty || !interval.from.lexicographicallyPrecedes(rest.from) { throw comparer.unexpected }
      }
    }
  }
}

extension ReplicaState {
  /// Whether the hub would make a space for this store; see `Handshake`.
  fileprivate var mayCreateSpace: Bool { cursor == nil && shipped == 0 }
}

extension Store {
  /// How many of the keys have another change pending here.
  fileprivate func conflictingKeys(_ keys: [Preview.Key], decided: Version) throws -> Int {
    guard !keys.isEmpty else { return 0 }
    return try read { snapshot in
      let acknowledged = max(try snapshot.counters.acknowledgedVersion, decided)
      return try keys.count { theirs in
        try snapshot.withRow(theirs.key.bytes) { row, value in
          row.serverVersion == 0 && row.version > acknowledged
            && (row.isTombstone != theirs.isDeletion || checksum128(value) != theirs.hash)
        } ?? false
      }
    }
  }
}
