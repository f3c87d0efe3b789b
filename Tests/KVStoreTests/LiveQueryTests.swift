import Foundation
import KVLog
import KVStore
import Synchronization
import TestSupport
import Testing

/// Rows, then changes: whatever happens meanwhile, they add up.
@Suite(.timeLimit(.minutes(1))) struct LiveQueryTests {
  let scratch: Scratch
  let path: String

  init() throws {
    scratch = try Scratch()
    path = scratch.path("store")
  }

  /// What a store held at each of its versions, in a range.
  private struct History {
    let range: KeyRange
    private var versions: [[[UInt8]: [UInt8]]] = [[:]]

    init(_ range: KeyRange) { self.range = range }

    mutating func add(_ written: [WrittenChange]) {
      for change in written {
        while versions.count <= Int(change.version) { versions.append(versions[versions.count - 1]) }
        if change.isIn(range) { versions[Int(change.version)][change.key] = change.value }
      }
    }

    func contents(at version: Version) -> [[UInt8]: [UInt8]] { versions[min(Int(version), versions.count - 1)] }
  }

  /// Adds elements up as a reader would, and checks what each of them promises.
  private struct Replay {
    var contents: [[UInt8]: [UInt8]] = [:]
    var resets = 0
    private(set) var currents: [Version] = []
    private(set) var rows = 0
    private(set) var changes = 0
    private var lastRow: [UInt8] = []
    private var lastChange: Version = 0
    private var told: Set<WrittenChange> = []

    mutating func take(_ element: LiveQuery.Element) {
      switch element {
      case .reset:
        self = Replay(resets: resets + 1)
      case .row(let row):
        rows += 1
        #expect(currents.isEmpty, "rows come before the first `current`")
        #expect(lastRow.lexicographicallyPrecedes(row.key), "rows come in the order of their keys, each once")
        lastRow = row.key
        contents[row.key] = row.value
        told.insert(WrittenChange(version: row.version, key: row.key, value: row.value))
      case .change(let change):
        changes += 1
        let isPassed = !lastRow.lexicographicallyPrecedes(change.key)
        #expect(isPassed || !currents.isEmpty, "nothing is told before its row")
        #expect(change.version >= lastChange, "changes come in the order of the log")
        lastChange = change.version
        #expect(told.insert(WrittenChange(change)).inserted, "nothing is told twice")
        contents[change.key] = change.value
      case .current(let version):
        #expect(version > currents.last ?? 0 || currents.isEmpty)
        currents.append(version)
      }
    }

    private init(resets: Int) { self.resets = resets }
    init() {}
  }

  private func key(_ random: inout SeededGenerator) -> [UInt8] { Array("k\(random.below(200))".utf8) }

  @Test(
    "What a live query has told adds up to the store at every `current`, whatever is written between its elements",
    arguments: SeededGenerator.seeds(6, from: 1, fresh: 2))
  func addsUp(seed: UInt64) async throws {
    var random = SeededGenerator(seed: seed)
    let store = try await Store.open(at: path)
    let range = random.chance(50) ? KeyRange(prefix: "k") : KeyRange(from: Array("k120".utf8), upTo: Array("k77".utf8))
    var history = History(range)
    history.add(try await write(60 + random.below(100), to: store, &random, key: key))
    var query = store.liveQuery(in: range)
    query.pageRows = 1 + random.below(12)
    var replay = Replay()
    let writes = [0, 5, 30, 60][random.below(4)]
    for try await element in query {
      replay.take(element)
      if case .current(let version) = element {
        #expect(replay.contents == history.contents(at: version), "version \(version), seed \(seed)")
        let isLate = store.counters().localVersion > 600
        if isLate, version == store.counters().localVersion { break }
        // Whether the reader is behind, and by how much, is chance.
        if !isLate { history.add(try await write(1 + random.below(60), to: store, &random, key: key)) }
      } else if store.counters().localVersion < 600, random.chance(writes) {
        history.add(try await write(1 + random.below(6), to: store, &random, key: key))
      }
    }
    let left = try contents(store).filter { WrittenChange(version: 0, key: $0.key, value: nil).isIn(range) }
    #expect(replay.contents == left, "seed \(seed)")
    #expect(replay.rows > 0 && replay.changes > 0 && replay.resets == 0)
    try await store.close()
  }

  @Test("Readers of any speed end with what a busy writer has written, in each of several ranges")
  func concurrentWriter() async throws {
    var random = SeededGenerator()
    let store = try await Store.open(at: path)
    try await write(200, to: store, &random, key: key)
    let readers = ["", "k", "k1", "k15", "none"].enumerated().map { index, prefix in
      Task {
        var query = store.liveQuery(prefix: prefix)
        query.pageRows = 5 + 40 * index
        var replay = Replay()
        for try await element in query {
          replay.take(element)
          if case .change(let change) = element, change.keyText == "end" { break }
          if prefix != "", case .current(let version) = element, version >= 500 { break }
          if prefix == "none", case .current = element { break }
          if index % 2 == 1 { try await Task.sleep(for: .microseconds(200)) }
        }
        replay.contents[Array("end".utf8)] = nil
        return replay
      }
    }
    try await write(298, to: store, &random, key: key)
    try await store.write { transaction in
      for prefix in ["k", "k1", "k15"] { try transaction.put("last", for: prefix) }
    }
    try await store.put("", for: "end")
    try await store.write { transaction in
      for prefix in ["k", "k1", "k15"] { try transaction.put("last", for: prefix) }
    }
    let all = try contents(store)
    for (reader, prefix) in zip(readers, ["", "k", "k1", "k15", "none"]) {
      let expected = all.filter { $0.key.starts(with: Array(prefix.utf8)) && text($0.key) != "end" }
      #expect(try await reader.value.contents == expected, "prefix \(prefix), seed \(random.seed)")
    }
  }

  @Test("A query that falls behind the log's retention begins again by itself, with a reset, and adds up")
  func resets() async throws {
    var random = SeededGenerator()
    let hub = try await Store.open(at: scratch.path("hub"))
    let store = try await Store.open(at: path, options: Expiry.options)
    let expiry = Expiry(hub: hub)
    for index in 0..<40 { try await store.put("\(index)", for: "k\(index)") }
    var query = store.liveQuery(prefix: "k")
    query.pageRows = 10
    var replay = Replay()
    var elements = 0
    // Once while rows are handed out, once after.
    let pauses = [1 + random.below(30), 60]
    for try await element in query {
      replay.take(element)
      elements += 1
      if pauses.contains(elements) {
        let version = store.counters().localVersion
        try await store.put("behind\(elements)", for: "k\(random.below(40))")
        try await store.delete("k\(random.below(40))")
        try await expiry.expire(store, beyond: version + 2)
      }
      if case .current(let version) = element, version == store.counters().localVersion {
        #expect(replay.contents == (try contents(store).filter { $0.key.starts(with: Array("k".utf8)) }))
        if replay.resets == 2 { break }
        try await store.put("\(elements)", for: "k\(random.below(40))")
      }
    }
    #expect(replay.resets == 2, "seed \(random.seed)")
  }

  @Test("Keys that were deleted, however many lie side by side, hide no row behind them")
  func tombstones() async throws {
    let store = try await Store.open(at: path)
    try await store.write { transaction in for index in 100..<300 { try transaction.delete("k\(index)") } }
    try await store.put("v", for: "k300")
    var query = store.liveQuery(prefix: "k")
    query.pageRows = 2
    var replay = Replay()
    for try await element in query {
      replay.take(element)
      if case .current = element { break }
    }
    #expect(replay.contents.count == 1 && replay.rows == 1)
  }

  @Test("The state of each row and change is that of the moment it was read")
  func states() async throws {
    let hub = try await Store.open(at: scratch.path("hub"))
    let store = try await Store.open(at: path)
    let other = try await Store.open(at: scratch.path("other"))
    let exchange = Exchange(hub: hub)
    try await other.put("theirs", for: "a")
    try await store.put("mine", for: "b")
    try await exchange.settle([other, store], policy: .lastWriterWins)
    try await store.put("pending", for: "c")
    try await store.put("older", for: "d")
    try await Task.sleep(for: .milliseconds(3))
    try await other.put("newer", for: "d")
    _ = try await exchange.push(other)
    _ = try await exchange.pull(store, policy: .lastWriterWins)
    var states: [String: StoreChange.State] = [:]
    for try await element in store.liveQuery() {
      if case .row(let row) = element { states[row.keyText] = row.state }
      if case .current = element { break }
    }
    #expect(states == ["a": .acknowledged, "b": .acknowledged, "c": .pending, "d": .conflicted])
  }

  @Test("An empty range is current at once; read-only, the sequence ends there; closed or cancelled, it throws")
  func ends() async throws {
    let store = try await Store.open(at: path)
    var empty = store.liveQuery(prefix: "x").makeAsyncIterator()
    #expect(try await empty.next() == .current(0))
    try await store.put("v", for: "k")
    let waiting = Task { for try await _ in store.liveQuery() {} }
    try await Task.sleep(for: .milliseconds(5))
    waiting.cancel()
    await #expect(throws: CancellationError.self) { try await waiting.value }
    let open = Task { for try await _ in store.liveQuery() {} }
    try await Task.sleep(for: .milliseconds(5))
    try await store.close()
    let error = await #expect(throws: StoreError.self) { try await open.value }
    #expect(error?.code == .closed)

    var options = Store.Options()
    options.readOnly = true
    let view = try await Store.open(at: path, options: options)
    var seen: [LiveQuery.Element] = []
    for try await element in view.liveQuery() { seen.append(element) }
    #expect(seen.count == 2 && seen.last == .current(1))
    try await view.close()
  }

  @Test("A poisoned store gives its rows and the changes before the failed write, and then its error")
  func poisoned() async throws {
    let files = FaultyFileSystem()
    var options = Store.Options()
    options.fileSystem = files
    let store = try await Store.open(at: path, options: options)
    try await store.put("v", for: "k")
    files.set(.synchronize)
    _ = try? await store.put("lost?", for: "k")
    var replay = Replay()
    let error = try await #require(throws: StoreError.self) {
      for try await element in store.liveQuery() { replay.take(element) }
    }
    #expect(error.code == .poisoned && replay.rows == 1 && replay.currents == [1])
    _ = try? await store.close()
  }
}
