// What a backlog needs of anonymous memory of which everything is in conflict, or refused.

import Foundation
import KVLog
import KVStore

extension StoreProcess {
  /// For each of the numbers: so many changes that all meet a change of the hub, drained to the end; then so many commits
  /// that the hub refuses, parked, listed, retried, refused again and dropped. Says for each its name, the number, how many
  /// there were, and the peak of anonymous memory in bytes.
  static func decisions(at path: String, counts: [Int]) async throws {
    let memory = PeakMemory()
    for count in counts {
      let hub = try await Store.open(at: "\(path).hub\(count)")
      let store = try await Store.open(at: "\(path)\(count)")
      func measure(_ name: String, _ body: () async throws -> Int) async throws {
        memory.begin()
        let seen = try await body()
        say("\(name) \(count) \(seen) \(memory.end())")
      }
      try write(count, to: hub, "theirs")
      try write(count, to: store, "mine")
      try await measure("conflicts") {
        while let feed = try hub.feedSegment(
          after: store.replicaState().cursor?.version ?? 0, excluding: store.identity, maximumBytes: 1 << 20)
        {
          _ = try await store.apply(feed, epoch: hub.identity, policy: .localWins)
        }
        while try await push(store, to: hub, refusing: false) {}
        guard try hub.value(for: key(count - 1)) == store.value(for: key(count - 1)) else { return -1 }
        return try pages { try store.conflicts(after: $0, limit: 1_000) }
      }
      try await measure("parked") {
        for number in 0..<count {
          try store.putBlocking([UInt8](repeating: 0x61, count: 100), for: key(number), durability: .relaxed)
        }
        while try await push(store, to: hub, refusing: true) {}
        return try pages { try store.parkedCommits(after: $0, limit: 1_000) }
      }
      try await measure("decided") {
        let retried = try await store.retryAllParked()
        while try await push(store, to: hub, refusing: true) {}
        let dropped = try await store.dropAllParked()
        return retried == dropped.commits ? store.counters().parkedCommits + retried : -1
      }
      try await store.close()
      try await hub.close()
    }
  }

  private static func pages<Entry: Identifiable>(_ page: (Entry.ID?) throws -> [Entry]) throws -> Int {
    var count = 0
    var last: Entry.ID?
    while case let entries = try page(last), let final = entries.last {
      count += entries.count
      last = final.id
    }
    return count
  }

  private static func write(_ count: Int, to store: Store, _ name: String) throws {
    for first in stride(from: 0, to: count, by: 1_000) {
      try store.writeBlocking { transaction in
        for number in first..<min(first + 1_000, count) {
          try transaction.put("\(name) \(number)" + String(repeating: "a", count: 90), for: key(number))
        }
      }
    }
  }

  /// In no order, as keys mostly are.
  private static func key(_ number: Int) -> String { "\(UInt64(number) &* 0x9E37_79B9_7F4A_7C15)" }

  private static func push(_ store: Store, to hub: Store, refusing: Bool) async throws -> Bool {
    let state = store.replicaState()
    guard var push = try store.pushSegment(after: state.shipped, maximumBytes: 1 << 20) else { return false }
    if refusing {
      let refusals = try refusals(of: push)
      push.refusals = refusals
    }
    let acknowledgement = try await hub.admit(
      push, from: store.identity, confirmed: state.shipped)
    _ = try await store.acknowledge(
      acknowledgement, digest: push.segment.digest, localChanges: push.localChanges, localBytes: push.localBytes,
      epoch: hub.identity)
    return true
  }

  private static func refusals(of push: PushSegment) throws -> [CommitRefusal] {
    let bytes = push.segment.records.bytes
    var records = RecordCursor(over: bytes)
    var refusals: [CommitRefusal] = []
    while let record = try records.next(in: bytes) {
      let commit = try CommitView(payload: record.payload, in: bytes)
      refusals.append(CommitRefusal(version: commit.header.version, code: 100, message: "no"))
    }
    return refusals
  }
}
