// Replicas and a hub that meet by files: what sessions promise holds of files too, in any mixture of both.

import Foundation
import KVHub
import KVHubEmbedded
import KVLog
import KVProtocol
import KVReplicator
import KVStore
import Synchronization
import TestSupport
import Testing

@Suite struct FileExchangeTests {
  let bench: Workbench

  init() throws { bench = try Workbench() }

  private func write(_ store: Store, _ random: inout SeededGenerator) async throws {
    let changes = (0...random.below(3)).map { _ in
      ("k\(random.below(30))", random.chance(80) ? random.bytes(1...40) : nil)
    }
    try await store.write { transaction in
      for (key, value) in changes {
        if let value { try transaction.put(value, for: key) } else { try transaction.delete(key) }
      }
    }
  }

  @Test("A file's replica is its holder's, and what a hub refuses of a file is parked with the answer")
  func rules() async throws {
    let hub = try EmbeddedHubStorage(directory: bench.file("hub"))
    let store = try await bench.store("a")
    try await store.put("fine", for: "a")
    try await store.put("too long", for: "b")
    let exchange = FileExchange(store)
    try await exchange.export(to: bench.file("out"))
    var options = Hub.Options()
    options.limits.valueBytes = 4
    let seen = Mutex<[String?]>([])
    options.validate = { commit in
      seen.withLock { $0.append(commit.principal) }
      return nil
    }
    let report = try await hub.importChanges(from: bench.file("out"), into: "space", holder: "alice", options: options)
    #expect(report.commits == 2 && report.refused == 1 && report.stale == 0)
    #expect(seen.withLock { $0 } == ["alice"])
    for holder in ["mallory", nil] {
      let refused = await #expect(throws: StoreError.self) {
        try await hub.importChanges(from: bench.file("out"), into: "space", holder: holder)
      }
      #expect(refused?.code == .replication && refused?.message.contains("another holder") == true)
    }
    _ = try await hub.exportAnswer(to: bench.file("back"), for: bench.file("out"), of: "space")
    #expect(try await exchange.importAnswer(from: bench.file("back")).parked == 1)
    #expect(try store.parkedCommits().map(\.code) == [CommitRefusal.valueTooLong])
    try await hub.close()
  }

  @Test("With files alone, lost, doubled, late and in any order, and sessions in between, everything arrives once")
  func converges() async throws {
    var random = SeededGenerator()
    var stores: [Store] = []
    for name in ["a", "b", "c"] { stores.append(try await bench.store(name)) }
    var files: [(from: Int?, path: String)] = []
    for round in 0..<60 {
      let index = random.below(3)
      for _ in 0..<random.below(6) { try await write(stores[index], &random) }
      let exchange = FileExchange(stores[index])
      switch random.below(8) {
      case 0..<3:
        let path = bench.file("\(round).out")
        try await exchange.export(to: path)
        files.append((index, path))
      case 3..<7:
        guard let (from, path) = files.randomElement(using: &random) else { continue }
        if let from {
          let hub = try EmbeddedHubStorage(directory: bench.file("hub"))
          do {
            _ = try await hub.importChanges(from: path, into: "space")
            _ = try await hub.exportAnswer(to: bench.file("\(round).back"), for: path, of: "space")
            files.append((nil, bench.file("\(round).back")))
            if random.chance(60) {
              _ = try await FileExchange(stores[from]).importAnswer(from: bench.file("\(round).back"))
            }
          } catch let error as StoreError where error.code == .replication {
            // Something before it was never brought.
          }
          try await hub.close()
        } else {
          do {
            _ = try await exchange.importAnswer(from: path)
          } catch let error as StoreError where error.code == .foreign || error.code == .replication {
            // Another store's, or something before it was never brought.
          }
        }
      default:
        let hub = try await bench.hub(.embedded)
        _ = try await Replicator(stores[index], hub: try hub.address(), configuration: .small).syncOnce()
        await hub.shutdown()
      }
    }
    let hub = try EmbeddedHubStorage(directory: bench.file("hub"))
    var isAtRest = false
    for round in 0..<12 where !isAtRest {
      isAtRest = true
      for (index, store) in stores.enumerated() {
        let (imported, report) = try await bench.carry(store, hub, "last\(round)-\(index)")
        if imported.commits > 0 || report.pulledCommits > 0 || report.pendingChanges > 0 { isAtRest = false }
      }
    }
    #expect(isAtRest, "it does not come to rest")
    let expected = try contents(stores[0])
    for store in stores {
      #expect(try contents(store) == expected)
      #expect(store.counters().pendingChanges == 0 && store.counters().pendingBytes == 0)
      #expect(store.counters().serverVersion == stores[0].counters().serverVersion)
    }
    try await hub.close()
    let served = try await bench.hub(.embedded)
    for store in stores { #expect(try await Replicator(store, hub: try served.address()).compare().isEqual) }
    await served.shutdown()
  }

  @Test("The same file twice, and one from before a session, change nothing")
  func isIdempotent() async throws {
    let (a, b) = (try await bench.store("a"), try await bench.store("b"))
    let hub = try EmbeddedHubStorage(directory: bench.file("hub"))
    for number in 0..<10 { try await a.put("\(number)", for: "k\(number % 4)") }
    let exchange = FileExchange(a)
    let exported = try await exchange.export(to: bench.file("1"))
    #expect(exported.pendingChanges == 10 && exported.supersededChanges == 6 && exported.commits == 4)
    #expect(a.counters().pendingChanges == 10)
    let first = try await hub.importChanges(from: bench.file("1"), into: "space")
    #expect(first.commits == 4 && first.hubVersion == 4 && first.replica == a.identity)
    let second = try await hub.importChanges(from: bench.file("1"), into: "space")
    #expect(second.commits == 0 && second.skippedCommits == 4 && second.hubVersion == 4)
    _ = try await hub.exportAnswer(to: bench.file("1.back"), for: bench.file("1"), of: "space")
    #expect(try await exchange.importAnswer(from: bench.file("1.back")).pushedChanges == 10)
    #expect(a.counters().pendingChanges == 0 && a.counters().serverVersion == 4)
    let state = a.counters()
    #expect(try await exchange.importAnswer(from: bench.file("1.back")) == SyncReport())
    #expect(a.counters() == state)
    try await bench.carry(b, hub, "b")
    #expect(try contents(b) == contents(a))
    // A session goes further than the files.
    try await hub.close()
    let served = try await bench.hub(.embedded)
    try await a.put("later", for: "k0")
    try await b.put("of b", for: "b")
    for store in [a, b, a] { _ = try await Replicator(store, hub: try served.address()).syncOnce() }
    await served.shutdown()
    let again = try EmbeddedHubStorage(directory: bench.file("hub"))
    #expect(try await again.importChanges(from: bench.file("1"), into: "space").commits == 0)
    _ = try await again.exportAnswer(to: bench.file("2.back"), for: bench.file("1"), of: "space")
    let later = a.counters()
    for name in ["1.back", "2.back"] {
      #expect(try await exchange.importAnswer(from: bench.file(name)) == SyncReport())
    }
    #expect(a.counters() == later)
    #expect(try contents(a) == contents(b))
    try await again.close()
  }

  @Test("What met newer changes of others comes back as such, is offered again, and is resolved")
  func exceptionsTravel() async throws {
    let (a, b) = (try await bench.store("a"), try await bench.store("b"))
    let hub = try EmbeddedHubStorage(directory: bench.file("hub"))
    try await bench.carry(a, hub, "a0")
    try await bench.carry(b, hub, "b0")
    try await a.put("a", for: "k")
    try await a.put("a", for: "only a")
    try await bench.carry(a, hub, "a1")
    try await Task.sleep(for: .milliseconds(3))
    try await b.write { transaction in
      try transaction.put("b", for: "k")
      try transaction.put("b", for: "only b")
    }
    let exchange = FileExchange(b)
    try await exchange.export(to: bench.file("b1"))
    #expect(try await hub.importChanges(from: bench.file("b1"), into: "space").stale == 1)
    // Imported again before the replica has heard of it: still one, and still told.
    #expect(try await hub.importChanges(from: bench.file("b1"), into: "space").commits == 0)
    _ = try await hub.exportAnswer(to: bench.file("b1.back"), for: bench.file("b1"), of: "space")
    let report = try await exchange.importAnswer(from: bench.file("b1.back"))
    #expect(report.reoffered == 1 && report.conflicts == 1 && report.pulledChanges == 2)
    try await bench.carry(b, hub, "b2")
    try await bench.carry(a, hub, "a2")
    #expect(try contents(a) == contents(b))
    #expect(try a.value(for: "k") == Array("b".utf8) && b.counters().pendingChanges == 0)
    try await hub.close()
  }

  @Test("Re-offers that wait for a pull are not exported before it")
  func heldBack() async throws {
    let (a, b) = (try await bench.store("a"), try await bench.store("b"))
    let served = try await bench.hub(.embedded)
    try await a.put("a", for: "k")
    try await b.put("b", for: "k")
    _ = try await Replicator(a, hub: try served.address()).syncOnce()
    #expect(try await Replicator(b, hub: try served.address()).syncOnce(.push).awaitsPull)
    await served.shutdown()
    let held = try await FileExchange(b).export(to: bench.file("held"))
    #expect(held.awaitsPull && held.commits == 0 && held.pendingChanges == 0)
    let hub = try EmbeddedHubStorage(directory: bench.file("hub"))
    try await bench.carry(b, hub, "b1")
    try await bench.carry(b, hub, "b2")
    #expect(b.counters().pendingChanges == 0)
    try await hub.close()
  }

  @Test("A gap, another store's file, another space and a file of the wrong side are refused, and nothing changes")
  func misfits() async throws {
    let (a, b) = (try await bench.store("a"), try await bench.store("b"))
    let hub = try EmbeddedHubStorage(directory: bench.file("hub"))
    func refused(_ code: StoreError.Code, _ text: String, _ body: () async throws -> Void) async throws {
      let before = [a.counters(), b.counters()]
      do {
        try await body()
        Issue.record("\(text): it was taken")
      } catch let error as StoreError {
        #expect(error.code == code && error.message.contains(text), "\(error)")
      }
      #expect([a.counters(), b.counters()] == before)
    }
    try await a.put("1", for: "x")
    try await bench.carry(a, hub, "first")
    try await a.put("2", for: "x")
    try await FileExchange(a).export(to: bench.file("second"))
    try await refused(.foreign, "for the store \(a.identity)") {
      _ = try await FileExchange(b).importAnswer(from: bench.file("first.back"))
    }
    try await refused(.foreign, "comes from a replica") {
      _ = try await FileExchange(a).importAnswer(from: bench.file("second"))
    }
    try await refused(.corrupt, "comes from a hub") {
      _ = try await hub.importChanges(from: bench.file("first.back"), into: "space")
    }
    // A replica that knows another space.
    _ = try await carryElsewhere(b, hub)
    try await refused(.replication, "epoch") {
      _ = try await hub.importChanges(from: bench.file("second"), into: "elsewhere")
    }
    try await refused(.noStore, "no such space") {
      _ = try await hub.importChanges(from: bench.file("second"), into: "nowhere")
    }
    // The hub answers a later state than the replica has: what lies before is missing.
    try await b.put("b", for: "b")
    try await hub.close()
    let other = try EmbeddedHubStorage(directory: bench.file("other"))
    try await refused(.noStore, "no such space") {
      _ = try await other.importChanges(from: bench.file("second"), into: "space")
    }
    try await other.close()
    for path in ["first.out", "second"] {
      await #expect(throws: StoreError.self, "the name is taken") {
        try await FileExchange(a).export(to: bench.file(path))
      }
    }
    await #expect(throws: StoreError.self) {
      try await FileExchange(a).export(to: bench.file("missing/directory/file"))
    }
  }

  private func carryElsewhere(_ store: Store, _ hub: EmbeddedHubStorage) async throws -> SyncReport {
    let exchange = FileExchange(store)
    try await exchange.export(to: bench.file("elsewhere"))
    _ = try await hub.importChanges(from: bench.file("elsewhere"), into: "elsewhere")
    _ = try await hub.exportAnswer(to: bench.file("elsewhere.back"), for: bench.file("elsewhere"), of: "elsewhere")
    return try await exchange.importAnswer(from: bench.file("elsewhere.back"))
  }

  @Test("A file that lacks what lies before it is refused, at the hub and at the replica, until that has come")
  func gap() async throws {
    let (a, b) = (try await bench.store("a"), try await bench.store("b"))
    let hub = try EmbeddedHubStorage(directory: bench.file("hub"))
    try await a.put("1", for: "x")
    try await bench.carry(a, hub, "a1")
    try await b.close()
    try FileManager.default.copyItem(atPath: bench.file("b"), toPath: bench.file("b0"))
    let ahead = try await bench.store("b")
    try await bench.carry(ahead, hub, "b1")
    try await hub.close()
    try FileManager.default.copyItem(atPath: bench.file("hub"), toPath: bench.file("hub1"))
    let current = try EmbeddedHubStorage(directory: bench.file("hub"))
    for number in 2..<4 {
      try await a.put("\(number)", for: "x")
      try await bench.carry(a, current, "a\(number)")
    }
    try await bench.carry(ahead, current, "b2")
    try await ahead.close()
    // The hub as it was before: what the replica was told lies between.
    try await a.put("4", for: "x")
    try await FileExchange(a).export(to: bench.file("a4"))
    let older = try EmbeddedHubStorage(directory: bench.file("hub1"))
    await #expect(throws: StoreError.self) { try await older.importChanges(from: bench.file("a4"), into: "space") }
    try await older.close()
    #expect(try await current.importChanges(from: bench.file("a4"), into: "space").commits == 1)
    try await current.close()
    // The replica as it was before it had pulled anything.
    let behind = try await bench.store("b0")
    do {
      _ = try await FileExchange(behind).importAnswer(from: bench.file("b2.back"))
      Issue.record("it was taken")
    } catch let error as StoreError {
      #expect(error.code == .replication && error.message.contains("this store has 0"), "\(error)")
    }
    #expect(behind.counters().serverVersion == 0)
    #expect(try await FileExchange(behind).importAnswer(from: bench.file("b1.back")).pulledChanges == 1)
    #expect(try await FileExchange(behind).importAnswer(from: bench.file("b2.back")).pulledChanges == 2)
    try await behind.close()
  }

  @Test("Cut off anywhere, with any bit flipped, extended or of a newer format: refused as a whole, nothing lost")
  func damage() async throws {
    var random = SeededGenerator()
    let a = try await bench.store("a")
    for number in 0..<60 { try await a.put(random.bytes(10...60), for: "k\(number)") }
    let hub = try EmbeddedHubStorage(directory: bench.file("hub"))
    let exchange = FileExchange(a)
    try await exchange.export(to: bench.file("sound"))
    let sound = try Data(contentsOf: URL(fileURLWithPath: bench.file("sound")))
    func refused(_ bytes: Data, _ codes: [StoreError.Code], _ comment: String) async throws {
      try bytes.write(to: URL(fileURLWithPath: bench.file("broken")))
      do {
        _ = try await hub.importChanges(from: bench.file("broken"), into: "space")
        Issue.record("it was taken: \(comment), seed \(random.seed)")
      } catch let error as StoreError {
        #expect(codes.contains(error.code), "\(comment): \(error), seed \(random.seed)")
      }
    }
    for length in [0, 5, 9, 30, 55, 56, 60, sound.count - 1] + (0..<20).map({ _ in random.below(sound.count) }) {
      try await refused(sound.prefix(length), [.corrupt, .foreign], "cut after \(length)")
    }
    for _ in 0..<60 {
      var bytes = sound
      let place = random.below(sound.count)
      bytes[place] ^= 1 << UInt8(random.below(8))
      try await refused(bytes, [.corrupt, .foreign, .newerFormat], "flipped at \(place)")
    }
    try await refused(sound + [0], [.corrupt], "extended")
    // A whole frame, with its own checksum, taken out or doubled.
    let bounds = frames(of: sound)
    #expect(bounds.count == 3)
    for (index, frame) in bounds.enumerated() {
      try await refused(sound[..<frame.lowerBound] + sound[frame.upperBound...], [.corrupt], "without frame \(index)")
      try await refused(sound[..<frame.upperBound] + sound[frame.lowerBound...], [.corrupt], "frame \(index) twice")
    }
    var newer = sound
    newer[8] = 2
    try await refused(newer, [.newerFormat], "newer")
    try await refused(Data("key\tvalue\n".utf8), [.foreign], "a text")
    // Nothing was made of any of them.
    #expect(!FileManager.default.fileExists(atPath: bench.file("hub/spaces/space")))
    #expect(try await hub.importChanges(from: bench.file("sound"), into: "space").commits == 60)
    _ = try await hub.exportAnswer(to: bench.file("back"), for: bench.file("sound"), of: "space")
    let back = try Data(contentsOf: URL(fileURLWithPath: bench.file("back")))
    for _ in 0..<40 {
      var bytes = back
      bytes[random.below(back.count)] ^= 1 << UInt8(random.below(8))
      try (random.chance(50) ? bytes : back.prefix(random.below(back.count)))
        .write(to: URL(fileURLWithPath: bench.file("broken")))
      await #expect(throws: StoreError.self, "seed \(random.seed)") {
        try await exchange.importAnswer(from: bench.file("broken"))
      }
      #expect(a.counters().pendingChanges == 60 && a.counters().serverVersion == 0)
    }
    #expect(try await exchange.importAnswer(from: bench.file("back")).pushedChanges == 60)
    try await hub.close()
  }

  /// Where the frames of a file lie.
  private func frames(of file: Data) -> [Range<Int>] {
    var frames: [Range<Int>] = []
    var start = ExchangeFilePreamble.byteCount
    while start < file.count {
      let length = file[start..<start + 4].reversed().reduce(0) { $0 << 8 | Int($1) }
      frames.append(start..<start + 4 + length)
      start += 4 + length
    }
    return frames
  }

  @Test("A large commit and a long backlog travel by file, in many parts")
  func large() async throws {
    let (a, b) = (try await bench.store("a"), try await bench.store("b"))
    try await a.write { transaction in
      for number in 0..<3 { try transaction.put([UInt8](repeating: 7, count: 2 << 20), for: "large\(number)") }
    }
    for block in 0..<40 {
      try await a.write { transaction in
        for number in 0..<200 { try transaction.put([UInt8](repeating: 1, count: 300), for: "\(block)/\(number)") }
      }
    }
    let hub = try EmbeddedHubStorage(directory: bench.file("hub"))
    let exported = try await FileExchange(a).export(to: bench.file("a.out"))
    #expect(exported.segments > 3 && exported.commits == 41)
    #expect(try await hub.importChanges(from: bench.file("a.out"), into: "space").changes == 8_003)
    let (_, pulled) = try await bench.carry(b, hub, "b")
    #expect(pulled.pulledChanges == 8_003)
    #expect(try contents(b) == contents(a))
    try await hub.close()
  }
}
