// A replica as a process: writes to its store for ever, replicates, and looks whether any transaction is seen in halves.
//
//   campaign replica STORE HUB NAME LEDGER SEED
//
// It says "open" when it begins. To the line "settle" it stops writing, waits until it and the hub have what the other has, and
// says "settled" with where it stands; to "end", it closes its store and says "closed". It ends with its standard input.

import Foundation
import KVReplicator
import KVStore
import Synchronization
import TestSupport

enum ReplicaProcess {
  static let command = "replica"

  static func run(_ arguments: [String]) async throws {
    guard arguments.count == 5, let seed = UInt64(arguments[4]) else { fatalError("STORE HUB NAME LEDGER SEED") }
    let ledger = try Ledger(arguments[3])
    do {
      try await Replica(arguments[0], HubAddress(arguments[1]), Writes(seed: seed, name: arguments[2]), ledger).work()
    } catch {
      try ledger.write("wrong \(arguments[2]) ended: \(error)")
      exit(70)
    }
  }
}

private final class Replica: Sendable {
  private let store: Store
  private let replicator: Replicator
  private let writes: Writes
  private let isWriting = Atomic(true)
  private let isWhole = Atomic(false)
  private let hasStopped = DispatchSemaphore(value: 0)
  private let ledger: Ledger
  private let first: Int

  init(_ path: String, _ hub: HubAddress, _ writes: Writes, _ ledger: Ledger) async throws {
    var random = SeededGenerator(seed: writes.seed)
    var options = Store.Options()
    // So small that segments and generations come and go all the time, and the index's map grows.
    options.indexMapBytes = 1 << 20
    options.segmentBytes = (16 << 10) << random.below(6)
    options.generationBytes = 192 << 10
    options.leaseMilliseconds = 500
    let store = try await Store.open(at: path, options: options)
    var configuration = Replicator.Configuration()
    configuration.history = random.chance(50) ? .latest : .every
    configuration.segmentBytes = 64 << random.below(12)
    configuration.memoryBudgetBytes = (8 << 10) << random.below(10)
    configuration.shortestRetry = .milliseconds(10)
    configuration.longestRetry = .milliseconds(300)
    self.store = store
    self.writes = writes
    replicator = Replicator(store, hub: hub, configuration: configuration)
    first = try Self.recover(store, writes, ledger)
    self.ledger = ledger
  }

  /// Looks what became of the transaction that was under way when the process was killed; the number of the next one.
  private static func recover(_ store: Store, _ writes: Writes, _ ledger: Ledger) throws -> Int {
    let contents = Ledger.Contents(ledger.path)
    let found = try number(store.value(for: "left/\(writes.name)"))
    let done = contents.done.max() ?? 0
    guard found == done || found == contents.open else {
      try ledger.write("wrong \(writes.name) has transaction \(found) after a restart, and had acknowledged \(done)")
      exit(70)
    }
    if let open = contents.open { try ledger.write(found == open ? "found \(open)" : "lost \(open)") }
    return contents.last + 1
  }

  private static func number(_ value: [UInt8]?) -> Int {
    value.flatMap { Int(String(decoding: $0, as: UTF8.self)) } ?? 0
  }

  func work() async throws {
    Thread.detachNewThread { [self] in look() }
    Thread.detachNewThread { [self] in write() }
    say("open")
    let running = Task { [replicator] in try await replicator.run() }
    Task {
      do {
        try await running.value
      } catch {
        fail("its replicator ended: \(error)")
      }
    }
    Task {
      try await replicator.caughtUp()
      isWhole.store(true, ordering: .relaxed)
    }
    while let line = await nextLine() {
      switch line {
      case "settle":
        await stopWriting()
        try await replicator.caughtUp()
        let counters = store.counters()
        say("settled \(counters.serverVersion) \(counters.pendingChanges)")
      case "end":
        await stopWriting()
        running.cancel()
        _ = try? await running.value
        try await store.close()
        say("closed")
        exit(0)
      default: fatalError("unknown line \(line)")
      }
    }
    exit(0)
  }

  private func nextLine() async -> String? {
    await withCheckedContinuation { continuation in
      Thread.detachNewThread { continuation.resume(returning: readLine()) }
    }
  }

  private func say(_ line: String) {
    print(line)
    fflush(nil)
  }

  private func fail(_ words: String) {
    try? ledger.write("wrong \(writes.name): \(words)")
    exit(70)
  }

  // MARK: Writing

  private func stopWriting() async {
    guard isWriting.exchange(false, ordering: .relaxed) else { return }
    await withCheckedContinuation { continuation in
      Thread.detachNewThread { [hasStopped] in
        hasStopped.wait()
        continuation.resume()
      }
    }
  }

  private func write() {
    var random = SeededGenerator(seed: writes.seed &+ UInt64(first))
    var number = first
    while isWriting.load(ordering: .relaxed) {
      do {
        try ledger.write("begin \(number)")
        try write(writes.transaction(number))
        try ledger.write("done \(number)")
      } catch {
        fail("a write failed: \(error)")
      }
      number += 1
      if random.chance(60) { usleep(UInt32(random.below(random.chance(20) ? 60_000 : 6_000))) }
    }
    hasStopped.signal()
  }

  private func write(_ planned: Writes.Transaction) throws {
    let (writes, name) = (writes, writes.name)
    try store.writeBlocking { transaction in
      try transaction.put("\(planned.number)", for: "left/\(name)")
      try transaction.put(writes.ownValue(planned), for: Writes.own(name, planned.number))
      if let deleted = planned.deletes { try transaction.delete(Writes.own(name, deleted)) }
      for key in planned.shared {
        let former = try transaction.value(for: "shared/\(key)").map { String(decoding: $0, as: UTF8.self) }
        try transaction.put(writes.sharedValue(planned.number, over: former), for: "shared/\(key)")
      }
      try transaction.put("\(planned.number)", for: "right/\(name)")
    }
  }

  // MARK: Looking

  /// Both halves of each transaction, for ever.
  private func look() {
    while true {
      usleep(5_000)
      // What a new replica is brought up with comes in key order: it is whole when it has caught up.
      guard isWhole.load(ordering: .relaxed) else { continue }
      let halves = try? store.read { snapshot in
        try Run.names.first { name in
          try Self.number(snapshot.value(for: "left/\(name)")) != Self.number(snapshot.value(for: "right/\(name)"))
        }
      }
      if let name = halves ?? nil { fail("half a transaction of \(name) is seen") }
    }
  }
}
