// Damage at rest: random bits, missing ends and swapped pages in every file of a store. Whoever opens and reads what is left
// gets correct data or a typed error; the process goes on.
//
// KVSYNC_CAMPAIGN=10000 runs so many cases instead of a few.

import Foundation
import KVLog
import KVStore
import TestSupport
import Testing

/// Stores in each state that a store can be found in, and what they hold.
private struct Specimens {
  enum Kind: String, CaseIterable { case closed, crashed, backup }

  let scratch: Scratch
  /// The rows after each version.
  var states: [Version: [[UInt8]: [UInt8]]] = [:]
  var changes: [StoreChange] = []
  var conflicts: [Conflict]
  var counters: Counters
  /// Where the index ends in the crashed store: what follows lies in the log alone.
  let folded: Version
  var last: Version { counters.localVersion }
  var absent: [[UInt8]] = []

  init(_ random: inout SeededGenerator) async throws {
    scratch = try Scratch(inMemory: true)
    var options = Store.Options()
    options.segmentBytes = 64 << 10
    options.logRetention = .all
    let hub = try await Store.open(at: scratch.path("hub"))
    let other = try await Store.open(at: scratch.path("other"))
    let path = scratch.path("closed")
    var store = try await Store.open(at: path, options: options)
    let exchange = Exchange(hub: hub, segmentBytes: 20_000)
    for round in 0..<60 {
      try await Self.write(to: store, 3, &random)
      if round % 10 == 0 { try await Self.write(to: other, 2, &random) }
      if round % 15 == 14 { try await exchange.settle([store, other], policy: .lastWriterWins) }
    }
    try await store.close()
    store = try await Store.open(at: path, options: options)
    folded = store.counters().localVersion
    try await Self.write(to: store, 25, &random)
    try FileManager.default.copyItem(atPath: path, toPath: scratch.path("crashed"))
    try await store.backup(to: scratch.path("backup"))
    counters = store.counters()
    conflicts = try store.conflicts()
    try await store.close()
    options.readOnly = true
    let view = try await Store.open(at: path, options: options)
    var rows: [[UInt8]: [UInt8]] = [:]
    for try await change in view.changes(after: 0) {
      changes.append(change)
      rows[change.key] = change.value
      states[change.version] = rows
    }
    try await view.close()
    absent = (0..<400).map { Array("key \($0)".utf8) }.filter { rows[$0] == nil }
    try await hub.close()
    try await other.close()
  }

  private static func write(to store: Store, _ count: Int, _ random: inout SeededGenerator) async throws {
    for _ in 0..<count {
      let changes = (0..<random.below(5) + 1).map { _ in
        (
          "key \(random.below(400))",
          random.chance(85) ? random.bytes(random.chance(4) ? 9_000 : random.below(300)) : nil
        )
      }
      try await store.write { transaction in
        for (key, value) in changes {
          if let value { try transaction.put(value, for: key) } else { try transaction.delete(key) }
        }
      }
    }
  }
}

/// Changes a file as a failing disk would.
private enum Damage {
  static func strike(_ directory: String, _ random: inout SeededGenerator) throws -> (file: String, text: String) {
    let files = try FileManager.default.subpathsOfDirectory(atPath: directory).sorted().filter { name in
      var isDirectory: ObjCBool = false
      return unsafe FileManager.default.fileExists(atPath: "\(directory)/\(name)", isDirectory: &isDirectory)
        && !isDirectory.boolValue
    }
    let logs = files.filter { $0.hasSuffix(".kvlog") }
    let file =
      random.chance(55)
      ? "index.mdb" : random.chance(70) ? logs[random.below(logs.count)] : files[random.below(files.count)]
    let url = URL(fileURLWithPath: "\(directory)/\(file)")
    var bytes = [UInt8](try Data(contentsOf: url))
    guard !bytes.isEmpty else { return (file, "empty") }
    let pages = (bytes.count + 4_095) / 4_096
    var text: String
    switch random.below(10) {
    case 0..<5:
      let (place, bit) = (random.below(bytes.count), random.below(8))
      bytes[place] ^= 1 << UInt8(bit)
      text = "bit \(bit) of byte \(place)"
    case 5:
      let page = random.below(pages) * 4_096
      // Mostly where a page says what it holds.
      let places = (0..<4).map { _ in min(bytes.count - 1, page + random.below(random.chance(50) ? 64 : 4_096)) }
      for place in places { bytes[place] ^= 1 << UInt8(random.below(8)) }
      text = "bits of bytes \(places)"
    case 6..<9:
      let (first, second) = (random.below(pages), random.below(pages))
      let (left, right) = (first * 4_096, second * 4_096)
      for offset in 0..<4_096 where left + offset < bytes.count && right + offset < bytes.count {
        bytes.swapAt(left + offset, right + offset)
      }
      text = "pages \(first) and \(second) swapped"
    default:
      let count = random.below(bytes.count)
      bytes.removeLast(bytes.count - count)
      text = "cut to \(count) bytes"
    }
    try Data(bytes).write(to: url)
    return (file, "\(file): \(text)")
  }
}

private struct Campaign {
  let specimens: Specimens
  /// 0: indexes are used unwalked, as large ones are. Then nobody writes: liblmdb, which does that, believes its pages.
  let verifiedBytes: Int
  var random: SeededGenerator
  /// The file that names the case under way, for whoever finds this process dead.
  let note: String
  var refused = 0

  mutating func run(_ number: Int) async throws {
    let kind = Specimens.Kind.allCases[number % 3]
    let path = specimens.scratch.path("case")
    try? FileManager.default.removeItem(atPath: path)
    try FileManager.default.copyItem(atPath: specimens.scratch.path(kind.rawValue), toPath: path)
    let (file, text) = try Damage.strike(path, &random)
    let what: Comment = "seed \(random.seed), case \(number), \(kind): \(text)"
    try what.rawValue.write(toFile: note, atomically: false, encoding: .utf8)
    // An end of the log that is missing is one that was never written, as far as anybody can tell.
    let mayBeCut = kind == .crashed && file.hasPrefix("log/")
    let isVerified = typed(what) { _ = try Store.verify(at: path, options: options) }
    let isRead = await read(path, readOnly: true, mayBeCut, what)
    if isVerified { #expect(isRead, "what verify passes can be read: \(what)") }
    // Opening for writing takes longest.
    if number % 4 < 2, verifiedBytes > 0 { _ = await read(path, readOnly: false, mayBeCut, what) }
    if !isVerified { refused += 1 }
  }

  private var options: Store.Options {
    var options = Store.Options()
    options.verifiedIndexBytes = verifiedBytes
    return options
  }

  /// Whether it works; an error has to be one of the store's.
  @discardableResult
  private func typed(_ what: Comment, _ body: () throws -> Void) -> Bool {
    do {
      try body()
      return true
    } catch {
      #expect(error is StoreError, "\(error): \(what)")
      return false
    }
  }

  private func expect(_ isRight: Bool, _ what: Comment) {
    if !isRight { Issue.record(what) }
  }

  /// Reads everything there is, in every way; true when no error was met.
  private func read(_ path: String, readOnly: Bool, _ mayBeCut: Bool, _ what: Comment) async -> Bool {
    var options = options
    options.readOnly = readOnly
    options.createIfMissing = false
    options.logRetention = .all
    var opened: Store?
    typed(what) { opened = try Store.openBlocking(at: path, options: options) }
    guard let store = opened else { return false }
    var isWhole = true
    let version = store.counters().localVersion
    // A backup opened for writing has its own commits behind the source's.
    let known = store.identity == specimens.changes.first?.origin || readOnly ? version : min(version, specimens.last)
    guard let rows = specimens.states[known], known == specimens.last || mayBeCut && known >= specimens.folded else {
      Issue.record("version \(version): \(what)")
      return false
    }
    isWhole =
      typed(what) {
        expect(try contents(store) == rows, what)
      } && isWhole
    isWhole =
      typed(what) {
        let keys = try store.read { try $0.scan(reversed: true).map(\.key) }
        expect(keys.count == rows.count, what)
      } && isWhole
    for (key, value) in rows {
      isWhole = typed(what) { expect(try store.value(for: key) == value, what) } && isWhole
    }
    for key in specimens.absent where rows[key] == nil {
      isWhole = typed(what) { expect(try store.value(for: key) == nil, what) } && isWhole
    }
    isWhole = typed(what) { expect(try store.information().keys == rows.count, what) } && isWhole
    if known == specimens.last {
      isWhole = typed(what) { expect(try store.conflicts() == specimens.conflicts, what) } && isWhole
      if readOnly { expect(store.counters() == specimens.counters, what) }
    }
    do {
      // From where the log of this specimen begins, as far as it is the specimen's.
      let first = try store.information().firstLogVersion
      var expected = specimens.changes.filter { $0.version >= first && $0.version <= known }[...]
      if readOnly {
        for try await change in store.changes(after: first - 1) { expect(change == expected.popFirst(), what) }
        expect(expected.isEmpty, what)
      }
    } catch {
      #expect(error is StoreError, "\(error): \(what)")
      isWhole = false
    }
    if !readOnly {
      isWhole =
        typed(what) {
          try store.putBlocking("new", for: "new")
          expect(text(try store.value(for: "new")) == "new", what)
        } && isWhole
    }
    return typed(what) { try store.closeBlocking() } && isWhole
  }
}

@Suite struct BitRotTests {
  static let cases = ProcessInfo.processInfo.environment["KVSYNC_CAMPAIGN"].flatMap { Int($0) } ?? 100
  static let batches = (cases + 499) / 500

  @Test("A row under a damaged key is missed by nobody: to look for it is an error, and so is to walk over it")
  func damagedKeys() throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    let store = try Store.openBlocking(at: path)
    for index in 10..<90 { try store.putBlocking("value", for: "key <\(index)>") }
    try store.closeBlocking()
    let index = URL(fileURLWithPath: path + "/index.mdb")
    let intact = [UInt8](try Data(contentsOf: index))
    var opened = 0
    for number in 10..<90 {
      let key = Array("key <\(number)>".utf8)
      var bytes = intact
      // The last byte but one, by a bit that mostly leaves the key in its place.
      for place in bytes.indices.dropLast(key.count) where bytes[place...].starts(with: key) {
        bytes[place + key.count - 1] ^= 4
      }
      try Data(bytes).write(to: index)
      var options = Store.Options()
      options.readOnly = true
      guard let view = try? Store.openBlocking(at: path, options: options) else { continue }
      opened += 1
      #expect(throws: StoreError.self) { try view.value(for: key) }
      #expect(throws: StoreError.self) { try view.read { Array(try $0.scan()) } }
    }
    #expect(opened > 40)
  }

  /// In a process of its own: should it die of what it reads, that is a failure like others.
  @Test(
    "After any damage to any file, whoever reads gets correct data or a typed error", arguments: 0..<batches,
    [StoreLimits.verifiedIndexBytes, 0])
  func damageIsNeverData(batch: Int, verifiedBytes: Int) async throws {
    let count = min(500, Self.cases - batch * 500)
    for seed in SeededGenerator.seeds(Self.batches > 1 ? 0 : 1, fresh: 1) {
      let notes = try Scratch(inMemory: true)
      let note = notes.path("case")
      let ended = await #expect(processExitsWith: .success) {
        [count = count as Int, seed = seed as UInt64, note = note as String, verifiedBytes = verifiedBytes as Int] in
        var random = SeededGenerator(seed: seed)
        let specimens = try await Specimens(&random)
        var campaign = Campaign(specimens: specimens, verifiedBytes: verifiedBytes, random: random, note: note)
        for number in 0..<count { try await campaign.run(number) }
        #expect(campaign.refused > count / 3, "otherwise this shows nothing")
      }
      if ended == nil {
        Issue.record("it ended in \((try? String(contentsOfFile: note, encoding: .utf8)) ?? "no case")")
      }
    }
  }
}
