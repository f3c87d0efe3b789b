import Foundation
import KVLog
import KVStore
import Synchronization
import TestSupport
import Testing

/// Following the changes of a store.
@Suite(.timeLimit(.minutes(1))) struct ObservationTests {
  let scratch: Scratch
  let path: String

  init() throws {
    scratch = try Scratch()
    path = scratch.path("store")
  }

  private func code(_ body: () async throws -> Void) async -> StoreError.Code? {
    do {
      try await body()
      return nil
    } catch { return (error as? StoreError)?.code }
  }

  /// A few keys, so that they are written again and again.
  private func fewKeys(_ random: inout SeededGenerator) -> [UInt8] { [UInt8(random.below(20)) * 12, 0] }

  // MARK: Every change

  @Test("Batches and elements tell every change of a range, whole commits at a time, from any batch's version on")
  func every() async throws {
    var random = SeededGenerator()
    var options = Store.Options()
    options.segmentBytes = 16 << 10
    let store = try await Store.open(at: path, options: options)
    let all = try await write(400, to: store, &random)
    for _ in 0..<20 {
      let range = randomRange(&random)
      var version = Version(random.below(400))
      let expected = all.filter { $0.version > version && $0.isIn(range) }
      guard let last = expected.last else { continue }
      var elements: [WrittenChange] = []
      for try await change in store.changes(after: version, in: range) {
        elements.append(WrittenChange(change))
        if elements.count == expected.count { break }
      }
      #expect(elements == expected, "seed \(random.seed)")

      var seen: [WrittenChange] = []
      while version < last.version {
        // Begun again and again at the version of a batch.
        for try await batch in store.changes(after: version, in: range).batches {
          seen += batch.map { WrittenChange($0) }
          version = batch.version
          if version >= last.version || random.chance(50) { break }
        }
        let whole = expected.filter { $0.version <= version }
        #expect(seen == whole, "seed \(random.seed)")
      }
    }
    try await store.close()
  }

  @Test("What is handed out while it is written comes once and in order, to a reader that dawdles too")
  func live() async throws {
    var random = SeededGenerator()
    let store = try await Store.open(at: path)
    let readers = (0..<3).map { reader in
      Task {
        var seen: [WrittenChange] = []
        for try await change in store.changes(after: 0) {
          if change.keyText == "end" { break }
          seen.append(WrittenChange(change))
          if reader == 2, seen.count % 50 == 0 { try await Task.sleep(for: .milliseconds(3)) }
        }
        return seen
      }
    }
    let all = try await write(300, to: store, &random)
    try await store.put("", for: "end")
    for reader in readers { #expect(try await reader.value == all, "seed \(random.seed)") }
  }

  // MARK: The latest

  @Test("With `latest` a batch has the newest change of each key, and batches add up to the store at their versions")
  func latest() async throws {
    var random = SeededGenerator()
    let store = try await Store.open(at: path)
    let all = try await write(500, to: store, &random, key: fewKeys)
    for _ in 0..<20 {
      let range = randomRange(&random)
      let start = Version(random.below(400))
      let expected = all.filter { $0.version > start && $0.isIn(range) }
      guard let last = expected.last else { continue }
      var sum: [[UInt8]: WrittenChange] = [:]
      var before = start
      var count = 0
      for try await batch in store.changes(after: start, in: range, delivery: .latest).batches {
        let changes = batch.map { WrittenChange($0) }
        #expect(Set(changes.map(\.key)).count == changes.count, "a key comes once in a batch, seed \(random.seed)")
        #expect(changes.map(\.version) == changes.map(\.version).sorted(), "seed \(random.seed)")
        #expect(changes.allSatisfy { $0.version > before && $0.version <= batch.version }, "seed \(random.seed)")
        for change in changes { sum[change.key] = change }
        var model: [[UInt8]: WrittenChange] = [:]
        for change in expected where change.version <= batch.version { model[change.key] = change }
        #expect(sum == model, "seed \(random.seed)")
        before = batch.version
        count += changes.count
        if before >= last.version { break }
      }
      #expect(count <= 20, "a reader this far behind gets each key once")
    }
  }

  @Test("Going on after the version of any change that `latest` handed out misses the newest change of no key")
  func latestResumes() async throws {
    var random = SeededGenerator()
    let store = try await Store.open(at: path)
    let all = try await write(200, to: store, &random, key: fewKeys)
    var model: [[UInt8]: WrittenChange] = [:]
    for change in all { model[change.key] = change }
    for _ in 0..<30 {
      var sum: [[UInt8]: WrittenChange] = [:]
      var taken = random.below(20)
      var whole: Version = 0
      var previous: Version = 0
      while sum != model {
        for try await change in store.changes(after: whole, delivery: .latest) {
          // A commit is whole when a change of a later one comes.
          if change.version > previous { whole = previous }
          previous = change.version
          sum[change.key] = WrittenChange(change)
          taken -= 1
          if taken == 0 || sum == model { break }
        }
        taken = 1_000
        previous = whole
      }
    }
  }

  @Test("A batch has a bounded number of changes and bytes, besides its last commit, and bounded log behind it")
  func batchesAreBounded() async throws {
    var random = SeededGenerator()
    let store = try await Store.open(at: path)
    // 36,000 small changes of distinct keys, then 6,000 of one key, then 30 large ones.
    for start in stride(from: 0, to: 36_000, by: 1_500) {
      try await store.write { transaction in
        for index in start..<start + 1_500 { try transaction.put("v", for: "key\(index)") }
      }
    }
    for _ in 0..<4 {
      try await store.write { transaction in
        for index in 0..<1_500 { try transaction.put("\(index)", for: "hot") }
      }
    }
    let large = random.bytes(300_000)
    for index in 0..<30 { try await store.put(large, for: "large\(index)") }
    for delivery in [ChangeDelivery.every, .latest] {
      var count = 0
      var hot = 0
      for try await batch in store.changes(after: 0, delivery: delivery).batches {
        #expect(batch.count < 4_096 + 1_500)
        #expect(batch.reduce(0) { $0 + $1.key.count + ($1.value?.count ?? 0) } < (1 << 20) + 310_000)
        count += batch.count
        hot += batch.count { $0.keyText == "hot" }
        if batch.version == store.counters().localVersion { break }
      }
      #expect(hot == (delivery == .every ? 6_000 : 1))
      #expect(count == 36_000 + 30 + hot)
    }
  }

  @Test("A reader of keys that nobody writes is told now and then how far it has come")
  func silence() async throws {
    var random = SeededGenerator()
    let store = try await Store.open(at: path)
    let value = random.bytes(3 << 20)
    for index in 0..<7 { try await store.put(value, for: "other\(index)") }
    for try await batch in store.changes(after: 0, prefix: "mine").batches {
      #expect(batch.isEmpty && batch.version >= 5)
      break
    }
    try await store.put("x", for: "mine")
    for try await batch in store.changes(after: 0, prefix: "mine").batches where !batch.isEmpty {
      #expect(batch.map(\.keyText) == ["mine"] && batch.version == 8)
      break
    }
  }

  // MARK: States

  @Test("A change is pending until the hub has decided it; what came from the hub is acknowledged")
  func pendingAndAcknowledged() async throws {
    let hub = try await Store.open(at: scratch.path("hub"))
    let other = try await Store.open(at: scratch.path("other"))
    let store = try await Store.open(at: path)
    let exchange = Exchange(hub: hub)
    try await store.put("1", for: "a")
    try await store.put("also", for: "a-also")
    #expect(try await first(2, of: store.changes(after: 0, prefix: "a")).map(\.state) == [.pending, .pending])
    #expect(try store.changeState(of: "a") == .pending)
    #expect(try store.changeState(of: "none") == nil)
    try await exchange.settle([store], policy: .lastWriterWins)
    #expect(try store.changeState(of: "a") == .acknowledged)
    try await other.put("2", for: "b")
    try await exchange.settle([other, store], policy: .lastWriterWins)
    try await store.delete("c")
    let changes = try await first(4, of: store.changes(after: 0))
    #expect(changes.map(\.kind) == [.local, .local, .remote, .local])
    #expect(changes.map(\.state) == [.acknowledged, .acknowledged, .acknowledged, .pending])
    #expect(try store.changeState(of: "c") == .pending)
  }

  private func first(_ count: Int, of changes: Changes) async throws -> [StoreChange] {
    var seen: [StoreChange] = []
    for try await change in changes {
      seen.append(change)
      if seen.count == count { break }
    }
    return seen
  }

  @Test("Two changes that met are conflicted, ours until the hub has decided it and the hub's for ever")
  func conflicted() async throws {
    let hub = try await Store.open(at: scratch.path("hub"))
    let other = try await Store.open(at: scratch.path("other"))
    let store = try await Store.open(at: path)
    let exchange = Exchange(hub: hub)
    try await store.write { transaction in
      try transaction.put("mine", for: "k")
      try transaction.put("free", for: "l")
    }
    try await Task.sleep(for: .milliseconds(3))
    try await other.put("theirs", for: "k")
    _ = try await exchange.push(other)
    _ = try await exchange.pull(store, policy: .lastWriterWins)
    // 1: mine, which lost; 2: theirs.
    var changes = try await first(3, of: store.changes(after: 0))
    #expect(changes.map(\.keyText) == ["k", "l", "k"])
    #expect(changes.map(\.state) == [.conflicted, .pending, .conflicted])
    #expect(try store.changeState(of: "k") == .conflicted)
    #expect(try store.changeState(of: "l") == .pending)
    try await exchange.settle([store], policy: .lastWriterWins)
    changes = try await first(3, of: store.changes(after: 0))
    #expect(changes.map(\.state) == [.acknowledged, .acknowledged, .conflicted])

    // 3: ours, which wins; 4: theirs; 5: the resolution.
    try await store.put("mine too", for: "k")
    try await other.put("theirs too", for: "k")
    _ = try await exchange.push(other)
    _ = try await exchange.pull(store, policy: .localWins)
    changes = try await first(3, of: store.changes(after: 2))
    #expect(changes.map(\.kind) == [.local, .remote, .resolution])
    #expect(changes.map(\.state) == [.conflicted, .conflicted, .pending])
    #expect(try store.changeState(of: "k") == .pending)
    // Coalesced, only what stands is left.
    #expect(try await first(1, of: store.changes(after: 2, delivery: .latest)).map(\.kind) == [.resolution])
    try await exchange.settle([store], policy: .localWins)
    #expect(try store.changeState(of: "k") == .acknowledged)
  }

  @Test("A receipt waits for what the hub decides, is cancelled alone, and ends with its store")
  func receipts() async throws {
    let hub = try await Store.open(at: scratch.path("hub"))
    let store = try await Store.open(at: path)
    let first = try await store.put("1", for: "a")
    let second = try await store.put("2", for: "b")
    let other = try await Store.open(at: scratch.path("other"))
    let elsewhere = try await other.put("1", for: "a")
    #expect(elsewhere.version == first.version && elsewhere != first && second != first && first == first)
    let waiting = Task { try await second.acknowledged() }
    let cancelled = Task { try await second.acknowledged() }
    try await Task.sleep(for: .milliseconds(5))
    cancelled.cancel()
    await #expect(throws: CancellationError.self) { try await cancelled.value }
    try await Exchange(hub: hub).settle([store], policy: .lastWriterWins)
    #expect(try await waiting.value == .applied)
    try await first.acknowledged()
    let third = try await store.put("3", for: "c")
    let never = Task { try await third.acknowledged() }
    try await store.close()
    #expect(await code { _ = try await never.value } == .closed)
    #expect(await code { _ = try await third.acknowledged() } == .closed)
  }

  // MARK: Ends

  @Test("Cancelling a task that waits for changes ends its wait, and one that never suspends stops after a batch")
  func cancellation() async throws {
    let store = try await Store.open(at: path)
    let waiting = Task { for try await _ in store.changes(after: 0) {} }
    try await Task.sleep(for: .milliseconds(5))
    waiting.cancel()
    await #expect(throws: CancellationError.self) { try await waiting.value }

    for _ in 0..<10 {
      try await store.write { transaction in for index in 0..<1_000 { try transaction.put("v", for: "k\(index)") } }
    }
    let handle = Mutex<Task<Int, any Error>?>(nil)
    let busy = Task {
      var seen = 0
      do {
        for try await _ in store.changes(after: 0) {
          seen += 1
          while seen == 10, !Task.isCancelled {
            handle.withLock { $0 }?.cancel()
            await Task.yield()
          }
        }
      } catch is CancellationError {}
      return seen
    }
    handle.withLock { $0 = busy }
    let seen = try await busy.value
    #expect(seen >= 10 && seen <= 5_000)
  }

  @Test("Hundreds of suspended iterations keep no thread, and one write goes to them all")
  func suspended() async throws {
    let store = try await Store.open(at: path)
    let readers = (0..<300).map { _ in
      Task {
        for try await change in store.changes(after: 0) { return change.keyText }
        return ""
      }
    }
    try await Task.sleep(for: .milliseconds(5))
    try await store.put("v", for: "k")
    for reader in readers { #expect(try await reader.value == "k") }
  }

  @Test("A store that is closed ends every iteration with `closed`, be it waiting or between two changes")
  func closing() async throws {
    let store = try await Store.open(at: path)
    try await store.put("v", for: "k")
    let waiting = Task { for try await _ in store.changes(after: 1) {} }
    var between = store.changes(after: 0).makeAsyncIterator()
    #expect(try await between.next()?.version == 1)
    try await store.close()
    #expect(await code { try await waiting.value } == .closed)
    #expect(await code { _ = try await between.next() } == .closed)
    #expect(await code { for try await _ in store.changes(after: 0) {} } == .closed)
  }

  @Test("A poisoned store hands out everything before the failed write, and then its error")
  func poisoned() async throws {
    let files = FaultyFileSystem()
    var options = Store.Options()
    options.fileSystem = files
    let store = try await Store.open(at: path, options: options)
    for index in 0..<10 { try await store.put("v", for: "k\(index)") }
    files.set(.synchronize)
    _ = try? await store.put("lost?", for: "k")
    let seen = Mutex(0)
    #expect(await code { for try await _ in store.changes(after: 0) { seen.withLock { $0 += 1 } } } == .poisoned)
    #expect(seen.withLock { $0 } == 10)
    _ = try? await store.close()
  }

  @Test("In a store opened read-only the sequence ends at the newest version")
  func readOnly() async throws {
    var random = SeededGenerator()
    let store = try await Store.open(at: path)
    let all = try await write(50, to: store, &random)
    try await store.close()
    var options = Store.Options()
    options.readOnly = true
    let view = try await Store.open(at: path, options: options)
    var seen: [WrittenChange] = []
    for try await change in view.changes(after: 0) { seen.append(WrittenChange(change)) }
    #expect(seen == all, "seed \(random.seed)")
    try await view.close()
  }

  @Test("A version that the log has lost is `expired`, and the version that the error names can be gone on after")
  func expired() async throws {
    let hub = try await Store.open(at: scratch.path("hub"))
    let store = try await Store.open(at: path, options: Expiry.options)
    try await store.put("v", for: "k")
    var reader = store.changes(after: 0).makeAsyncIterator()
    #expect(try await reader.next()?.version == 1)
    try await Expiry(hub: hub).expire(store, beyond: 1)
    let error = await #expect(throws: StoreError.self) { for try await _ in store.changes(after: 0) {} }
    var available = try #require(error?.availableVersion)
    #expect(error?.code == .expired && available > 0)
    var first: Version?
    while first == nil {
      do {
        for try await change in store.changes(after: available) {
          first = change.version
          break
        }
      } catch let error as StoreError where error.code == .expired {
        // More of the log was given back meanwhile: then a later version is named.
        #expect(try #require(error.availableVersion) > available)
        available = try #require(error.availableVersion)
      }
    }
    #expect(first == available + 1)
    // Nor does a reader that fell behind pass over what is missing.
    #expect(await code { while try await reader.next() != nil {} } == .expired)
  }
}
