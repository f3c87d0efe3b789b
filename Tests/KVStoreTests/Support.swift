// What the store's tests share: looking at what a store holds, and a replica–hub exchange without a network.

import Foundation
import KVLog
import KVStore
import TestSupport
import Testing

func contents(_ store: Store) throws -> [[UInt8]: [UInt8]] {
  try store.read { snapshot in
    var all: [[UInt8]: [UInt8]] = [:]
    for row in try snapshot.scan() { all[row.key] = row.value }
    return all
  }
}

func text(_ bytes: [UInt8]?) -> String? { bytes.map { String(decoding: $0, as: UTF8.self) } }

/// A hub that keeps its whole log, in a directory of its own, and replicas beside it.
struct HubFixture {
  let scratch: Scratch
  let hub: Store
  var exchange: Exchange

  init() async throws {
    scratch = try Scratch()
    var options = Store.Options()
    options.logRetention = .all
    hub = try await Store.open(at: scratch.path("hub"), options: options)
    exchange = Exchange(hub: hub)
  }

  func replica(_ name: String = "replica", _ options: Store.Options = Store.Options()) throws -> Store {
    try Store.openBlocking(at: scratch.path(name), options: options)
  }

  func replicas(_ count: Int) throws -> [Store] { try (0..<count).map { try replica("r\($0)") } }
}

/// Pushes and pulls until nothing moves, as the replicator would, straight from store to store.
struct Exchange {
  let hub: Store
  var segmentBytes = 2_000
  var history = ShippedHistory.latest
  var tuning = PushReader.Tuning()
  /// Why the hub refuses a change, if it does, and with it the commit.
  var refusal: @Sendable (_ key: [UInt8], _ value: [UInt8]?) -> (code: UInt16, message: String)? = { _, _ in nil }

  /// Sends one run; with `losesAcknowledgement` the replica never hears of it. Returns whether there was one.
  func push(_ replica: Store, losesAcknowledgement: Bool = false) async throws -> Bool {
    try await cover(replica)
    let state = replica.replicaState()
    guard state.holdUntil == 0,
      var push = try PushReader(replica, history: history, tuning: tuning)
        .next(after: state.shipped, maximumBytes: segmentBytes)
    else { return false }
    push.refusals = try refusals(in: push)
    push.coverage = state.covered
    let ack = try await hub.admit(
      push, from: replica.incarnation, confirmed: state.shipped)
    if losesAcknowledgement { return true }
    // What the hub reports may lie beyond this push, when the acknowledgement of an earlier one was lost.
    let counts = try replica.localChanges(after: state.shipped, through: ack.through)
    let digest = try #require(try replica.digest(at: ack.through))
    _ = try await replica.acknowledge(
      ack, digest: digest, localChanges: counts.changes, localBytes: counts.bytes, epoch: hub.identity)
    return true
  }

  private func refusals(in push: PushSegment) throws -> [CommitRefusal] {
    let bytes = push.segment.records.bytes
    var records = RecordCursor(over: bytes)
    var refusals: [CommitRefusal] = []
    while let record = try records.next(in: bytes) {
      let commit = try CommitView(payload: record.payload, in: bytes)
      var changes = ChangeCursor(commit)
      var reason: (code: UInt16, message: String)?
      while let change = try changes.next(in: bytes) {
        let value = change.isDeletion ? nil : bytes.extracting(change.value).copied()
        reason = reason ?? refusal(bytes.extracting(change.key).copied(), value)
      }
      if let reason {
        refusals.append(CommitRefusal(version: commit.header.version, code: reason.code, message: reason.message))
      }
    }
    return refusals
  }

  /// Who comes first to the hub is fed everything from its beginning, commit by commit.
  private func cover(_ replica: Store) async throws {
    let state = replica.replicaState()
    guard let missing = state.missing.intervals.first, state.cursor?.version ?? 0 == 0 else { return }
    let start = Position(identity: hub.identity, version: 0, digest: .origin(of: hub.identity))
    let nothing = SnapshotPage(position: start, applied: .max, interval: missing, record: [])
    _ = try await replica.load(nothing, policy: .remoteWins)
  }

  func pull(_ replica: Store, policy: ConflictPolicy) async throws -> Bool {
    try await cover(replica)
    let state = replica.replicaState()
    guard
      let feed = try hub.feedSegment(
        after: state.cursor?.version ?? 0, excluding: replica.incarnation, within: state.covered,
        maximumBytes: segmentBytes)
    else { return false }
    _ = try await replica.apply(feed, epoch: hub.identity, policy: policy)
    return true
  }

  func settle(_ replicas: [Store], policy: ConflictPolicy, seed: UInt64 = 0) async throws {
    for _ in 0..<2_000 {
      var moved = false
      for replica in replicas {
        while try await pull(replica, policy: policy) { moved = true }
        if try await push(replica) { moved = true }
      }
      if !moved { return }
    }
    Issue.record("the exchange does not come to an end (seed \(seed))")
  }
}

extension Store {
  /// Where the newest segment's blocks end.
  func logEnd() throws -> UInt64 { try read { try $0.state.position.offset } }
}

/// Makes a store lose the beginning of its log: what a hub has decided, once it is folded, goes with its segments.
struct Expiry {
  let exchange: Exchange

  /// Options of a store whose log goes as soon as it may.
  static var options: Store.Options {
    var options = Store.Options()
    options.segmentBytes = 16 << 10
    options.logRetention = .acknowledged(bytes: 0)
    return options
  }

  init(hub: Store) {
    exchange = Exchange(hub: hub, segmentBytes: 256 << 10)
  }

  /// Writes keys that begin with `~`, new ones so that generations fill up, until the log of `replica` begins after
  /// `version`.
  func expire(_ replica: Store, beyond version: Version) async throws {
    for round in 0..<200 {
      if try replica.information().firstLogVersion > version + 1 { return }
      try await replica.write { transaction in
        for key in 0..<8 {
          try transaction.put([UInt8](repeating: UInt8(round), count: 16_000), for: "~\(round)-\(key)")
        }
      }
      try await exchange.settle([replica], policy: .lastWriterWins)
    }
    Issue.record("the log never gave version \(version) back")
  }
}
