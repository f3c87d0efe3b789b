// Backups: of one version, verified, whole or not there; and what becomes of them when they are opened for writing.

import Foundation
import KVLog
import TestSupport
import Testing

@testable import KVStore

@Suite struct BackupTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func code(_ body: () throws -> Void) -> StoreError.Code? {
    do {
      try body()
      return nil
    } catch { return (error as? StoreError)?.code }
  }

  private func openReadOnly(_ path: String) throws -> Store {
    var options = Store.Options()
    options.readOnly = true
    options.createIfMissing = false
    return try Store.openBlocking(at: path, options: options)
  }

  private func openExisting(_ path: String) throws -> Store {
    var options = Store.Options()
    options.createIfMissing = false
    return try Store.openBlocking(at: path, options: options)
  }

  /// Random transactions over few keys, so that commits are overwritten wholly and in part.
  private func write(_ store: Store, _ count: Int, _ random: inout SeededGenerator) throws {
    for _ in 0..<count {
      let changes = (0..<random.below(4) + 1).map { _ in
        ("k\(random.below(40))", random.chance(75) ? random.bytes(0...300) : nil)
      }
      try store.writeBlocking { transaction in
        for (key, value) in changes {
          if let value { try transaction.put(value, for: key) } else { try transaction.delete(key) }
        }
      }
    }
  }

  @Test("A backup made while others write is of one version, and the source goes on")
  func isOfOneVersion() async throws {
    let path = scratch.path("source")
    let store = try await Store.open(at: path)
    let value = [UInt8](repeating: 7, count: 400)
    let writing = Task {
      var number = 0
      while !Task.isCancelled {
        number += 1
        let (text, row) = ("\(number)", number % 50)
        try await store.write { transaction in
          try transaction.put(text, for: "a")
          for index in 0..<40 { try transaction.put(value, for: "row \(row) \(index)") }
          try transaction.put(text, for: "z")
        }
      }
    }
    while store.counters().localVersion < 20 { try await Task.sleep(for: .milliseconds(2)) }
    for round in 0..<3 {
      let before = store.counters().localVersion
      let report = try await store.backup(to: scratch.path("copy\(round)"))
      #expect(report.lastVersion >= before)
      let copy = try openReadOnly(scratch.path("copy\(round)"))
      #expect(text(try copy.value(for: "a")) == "\(report.lastVersion)")
      #expect(text(try copy.value(for: "z")) == "\(report.lastVersion)")
      #expect(try copy.information().keys == report.keys)
    }
    writing.cancel()
    try? await writing.value
    #expect(store.counters().localVersion > 20)
    try await store.close()
  }

  @Test("A backup can be read as it is, knows what its source knew, and is changed by nobody who reads it")
  func readsAsItIs() async throws {
    var random = SeededGenerator()
    let hub = try await Store.open(at: scratch.path("hub"))
    let exchange = Exchange(hub: hub)
    let (first, second) = (try await Store.open(at: scratch.path("a")), try await Store.open(at: scratch.path("b")))
    try write(first, 40, &random)
    try write(second, 40, &random)
    try await exchange.settle([first, second], policy: .lastWriterWins)
    try write(first, 30, &random)
    #expect(first.counters().conflicts > 0 && first.counters().pendingChanges > 0)
    let report = try await first.backup(to: scratch.path("copy"))
    #expect(report.lastVersion == first.counters().localVersion && report.digest == first.head().digest)
    let names = try FileManager.default.subpathsOfDirectory(atPath: scratch.path("copy")).sorted()
    #expect(!names.contains("log") && names.contains("undelivered"))
    let copy = try openReadOnly(scratch.path("copy"))
    #expect(try contents(copy) == contents(first))
    #expect(copy.counters() == first.counters())
    #expect(copy.identity == first.identity && copy.incarnation == first.incarnation)
    #expect(try copy.conflicts().map(\.losingValue) == first.conflicts().map(\.losingValue))
    try copy.closeBlocking()
    #expect(try Store.verify(at: scratch.path("copy")) == report)
    #expect(try FileManager.default.subpathsOfDirectory(atPath: scratch.path("copy")).sorted() == names)
    // A backup of a backup is one of the same store and version.
    let again = try openReadOnly(scratch.path("copy"))
    #expect(try again.backupBlocking(to: scratch.path("second")).digest == report.digest)
    #expect(try contents(openReadOnly(scratch.path("second"))) == contents(first))
  }

  @Test("Two copies of a backup become two stores, whose rows are those of the source")
  func becomesAnother() throws {
    var random = SeededGenerator()
    let source = try Store.openBlocking(at: scratch.path("source"))
    try write(source, 60, &random)
    try source.backupBlocking(to: scratch.path("one"))
    try FileManager.default.copyItem(atPath: scratch.path("one"), toPath: scratch.path("two"))
    var identities = Set([source.identity])
    for name in ["one", "two"] {
      let path = scratch.path(name)
      let copy = try openExisting(path)
      #expect(identities.insert(copy.identity).inserted && copy.incarnation == copy.identity)
      #expect(try contents(copy) == contents(source))
      #expect(copy.counters().localVersion >= source.counters().localVersion)
      let identity = copy.identity
      try copy.putBlocking("new", for: name)
      try copy.closeBlocking()
      #expect(!FileManager.default.fileExists(atPath: path + "/undelivered"))
      _ = try Store.verify(at: path)
      let again = try openExisting(path)
      #expect(again.identity == identity)
      #expect(text(try again.value(for: name)) == "new")
      try again.closeBlocking()
    }
  }

  @Test(
    "What the source had not delivered is offered once by the copy: commit by commit, at its time, what is current of it",
    .timeLimit(.minutes(1)))
  func offersWhatWasPending() async throws {
    let hub = try await Store.open(at: scratch.path("hub"))
    let exchange = Exchange(hub: hub)
    let source = try await Store.open(at: scratch.path("a"))
    try await source.put("delivered", for: "old")
    #expect(try await exchange.push(source))
    try await source.write { transaction in
      try transaction.put("1", for: "x")
      try transaction.put("2", for: "y")
    }
    try await source.put("3", for: "z")
    try await source.put("4", for: "z")
    try await source.delete("old")
    var times: [[UInt8]: HybridTime] = [:]
    for try await change in source.changes(after: 1) {
      times[change.key] = change.time
      if change.version == 5 { break }
    }
    try await source.backup(to: scratch.path("copy"))
    try await source.close()
    let copy = try openExisting(scratch.path("copy"))
    #expect(copy.counters().localVersion == 8 && copy.counters().pendingChanges == 4)
    #expect(copy.counters().pendingBytes == 4 + 2 + 3)
    // What the source had delivered comes back and is no conflict with what it wrote later, even if the hub's side wins.
    try await exchange.settle([copy], policy: .remoteWins)
    #expect(copy.counters().pendingChanges == 0 && copy.counters().pendingBytes == 0)
    #expect(copy.counters().conflicts == 0)
    #expect(try contents(hub) == contents(copy) && contents(hub)[Array("old".utf8)] == nil)
    var seen: [String] = []
    for try await change in hub.changes(after: 1) {
      seen.append("\(change.version) \(change.keyText)")
      #expect(change.time == times[change.key] && change.origin == copy.identity)
      if change.version == 4 { break }
    }
    #expect(seen == ["2 x", "2 y", "3 z", "4 old"])
  }

  @Test(
    "Source and copies all go on, whatever was delivered when: everything converges and nothing is lost",
    .timeLimit(.minutes(1)),
    arguments: 0..<8)
  func convergesWithItsSource(run: Int) async throws {
    var random = SeededGenerator()
    let policy: ConflictPolicy = [.lastWriterWins, .localWins, .remoteWins][run % 3]
    let hub = try await Store.open(at: scratch.path("hub"))
    let exchange = Exchange(hub: hub, segmentBytes: 400)
    let source = try await Store.open(at: scratch.path("a"))
    let other = try await Store.open(at: scratch.path("b"))
    for round in 0..<8 {
      try write(source, random.below(6) + 1, &random)
      try write(other, random.below(3), &random)
      _ = try await exchange.push(source, losesAcknowledgement: random.chance(30))
      if random.chance(60) { _ = try await exchange.pull(source, policy: policy) }
      if random.chance(60) { _ = try await exchange.push(other) }
      if random.chance(60) { _ = try await exchange.pull(other, policy: policy) }
      try await source.put("\(round)", for: "only here \(round)")
    }
    try await source.backup(to: scratch.path("one"))
    try FileManager.default.copyItem(atPath: scratch.path("one"), toPath: scratch.path("two"))
    var replicas = [other, try openExisting(scratch.path("one")), try openExisting(scratch.path("two"))]
    // On every other run the source is gone.
    if run % 2 == 0 { replicas.append(source) }
    for replica in replicas { try write(replica, random.below(5), &random) }
    try await exchange.settle(replicas, policy: policy, seed: random.seed)
    let expected = try contents(hub)
    for replica in replicas {
      #expect(try contents(replica) == expected)
      #expect(replica.counters().pendingChanges == 0 && replica.counters().pendingBytes == 0)
    }
    for round in 0..<8 { #expect(expected[Array("only here \(round)".utf8)] == Array("\(round)".utf8)) }
    for replica in replicas { try await replica.close() }
    for name in ["one", "two"] { _ = try Store.verify(at: scratch.path(name)) }
  }

  @Test("A first opening for writing that is cut off at any step leaves the backup, or the store that it became")
  func adoptionIsCutOff() throws {
    var random = SeededGenerator()
    let source = try Store.openBlocking(at: scratch.path("source"))
    try write(source, 40, &random)
    try source.backupBlocking(to: scratch.path("backup"))
    let expected = try contents(source)
    var identities: Set<Identity> = [source.identity]
    for steps in 0...5 {
      let path = scratch.path("copy\(steps)")
      try FileManager.default.copyItem(atPath: scratch.path("backup"), toPath: path)
      let directory = StoreDirectory(path: path)
      let adoption = Adoption(directory, try directory.readManifest(), Store.Options())
      if steps > 0 { try adoption.beginLog() }
      if steps > 1 { try adoption.adoptCounters() }
      if steps == 3 { try directory.write("kvsync st", to: directory.creating) }
      if steps > 3 { try adoption.replaceManifest() }
      if steps > 4 { adoption.tidy() }
      for _ in 0..<2 {
        let view = try openReadOnly(path)
        #expect(try contents(view) == expected, "\(steps)")
        #expect((view.identity == source.identity) == (steps < 4))
        try view.closeBlocking()
        _ = try Store.verify(at: path)
      }
      let copy = try openExisting(path)
      #expect(identities.insert(copy.identity).inserted)
      #expect(try contents(copy) == expected, "\(steps)")
      #expect(copy.counters().pendingChanges > 0 && copy.counters().pendingChanges <= source.counters().pendingChanges)
      try copy.closeBlocking()
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: path)
          .filter { !$0.hasPrefix("lock") && $0 != "index.mdb-lock" && $0 != "reserve" }
          .sorted() == ["index.mdb", "kvsync.store", "log"])
      #expect(try Store.verify(at: path).keys == expected.count)
    }
  }

  @Test("A failed write of the new log leaves the backup as it was")
  func adoptionFails() throws {
    var random = SeededGenerator()
    let source = try Store.openBlocking(at: scratch.path("source"))
    try write(source, 40, &random)
    try source.backupBlocking(to: scratch.path("copy"))
    let expected = try contents(source)
    for fault in [FaultyFileSystem.Fault.full, .write, .synchronize] {
      let files = FaultyFileSystem()
      var options = Store.Options()
      options.fileSystem = files
      for count in 0..<3 {
        files.set(fault, after: count)
        _ = try? Store.openBlocking(at: scratch.path("copy"), options: options).closeBlocking()
        guard try StoreDirectory(path: scratch.path("copy")).readManifest().backup != nil else { break }
        #expect(try contents(openReadOnly(scratch.path("copy"))) == expected)
      }
    }
    #expect(try contents(openExisting(scratch.path("copy"))) == expected)
  }

  @Test("A backup of an empty store is one, and becomes an empty store that synchronises")
  func emptyStore() async throws {
    let source = try await Store.open(at: scratch.path("source"))
    try await source.backup(to: scratch.path("copy"))
    #expect(try Store.verify(at: scratch.path("copy")).keys == 0)
    let (hub, replica) = (try openExisting(scratch.path("copy")), try await Store.open(at: scratch.path("replica")))
    #expect(try hub.digest(at: 0) == .origin(of: hub.identity))
    try await replica.put("v", for: "k")
    try await Exchange(hub: hub).settle([replica], policy: .lastWriterWins)
    #expect(text(try hub.value(for: "k")) == "v")
    try await hub.close()
    #expect(try Store.verify(at: scratch.path("copy")).keys == 1)
  }

  @Test("A place that is taken is refused and left as it is; an empty directory will do")
  func refusesTakenPlaces() throws {
    let source = try Store.openBlocking(at: scratch.path("source"))
    try source.putBlocking("v", for: "k")
    try Store.openBlocking(at: scratch.path("other")).closeBlocking()
    try FileManager.default.createDirectory(atPath: scratch.path("notes"), withIntermediateDirectories: false)
    try Data("n".utf8).write(to: URL(fileURLWithPath: scratch.path("notes/file")))
    for place in ["other", "notes", "source", "notes/file"] {
      let before = try FileManager.default.subpathsOfDirectory(atPath: scratch.path).sorted()
      #expect(code { try source.backupBlocking(to: scratch.path(place)) } == .exists, "\(place)")
      #expect(try FileManager.default.subpathsOfDirectory(atPath: scratch.path).sorted() == before)
    }
    #expect(code { try source.backupBlocking(to: scratch.path("none/copy")) } == .noStore)
    try FileManager.default.createDirectory(atPath: scratch.path("empty"), withIntermediateDirectories: false)
    #expect(try source.backupBlocking(to: scratch.path("empty")).keys == 1)
    try source.closeBlocking()
    #expect(code { try source.backupBlocking(to: scratch.path("late")) } == .closed)
    #expect(!FileManager.default.fileExists(atPath: scratch.path("late")))
  }

  @Test("A backup that is cancelled or fails leaves nothing behind")
  func leavesNothing() async throws {
    var random = SeededGenerator()
    let source = try await Store.open(at: scratch.path("source"))
    for _ in 0..<30 {
      let value = random.bytes(60_000)
      for index in 0..<10 { try source.putBlocking(value, for: "k\(random.below(1_000)) \(index)") }
    }
    for limit in 0..<6 {
      var calls = 0
      #expect(throws: CancellationError.self) {
        try source.backupBlocking(to: scratch.path("copy")) { _ in
          calls += 1
          if calls > limit { throw CancellationError() }
        }
      }
      #expect(!FileManager.default.fileExists(atPath: scratch.path("copy")))
    }
    let path = scratch.path("copy")
    let task = Task { try await source.backup(to: path) }
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    #expect(!FileManager.default.fileExists(atPath: path))
    #expect(try await source.backup(to: path).keys == source.information().keys)
  }

  @Test("A backup that is killed is no store, and the next one to the same place begins again", arguments: 1...6)
  func isKilled(call: Int) async throws {
    let (path, copy) = (scratch.path("source"), scratch.path("copy"))
    do {
      let source = try Store.openBlocking(at: path)
      let value = [UInt8](repeating: 1, count: 60_000)
      for index in 0..<200 { try source.putBlocking(value, for: "k\(index)") }
      try source.closeBlocking()
    }
    await #expect(processExitsWith: .signal(SIGKILL)) {
      [path = path as String, copy = copy as String, call = call as Int] in
      let source = try Store.openBlocking(at: path)
      var calls = 0
      try source.backupBlocking(to: copy) { _ in
        calls += 1
        if calls == call { kill(getpid(), SIGKILL) }
      }
    }
    #expect(code { _ = try openReadOnly(copy) } == .noStore)
    #expect(code { _ = try openExisting(copy) } == .noStore)
    let source = try Store.openBlocking(at: path)
    #expect(try source.backupBlocking(to: copy).keys == 200)
    #expect(try contents(openReadOnly(copy)) == contents(source))
  }

  @Test("Damage in the source is an error, and does not get into a copy")
  func damagedSource() throws {
    let path = scratch.path("source")
    do {
      let source = try Store.openBlocking(at: path)
      for index in 0..<20 { try source.putBlocking("value of \(index)", for: "k\(index)") }
      try source.closeBlocking()
    }
    var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path + "/index.mdb")))
    var damaged = 0
    for place in bytes.indices.dropLast(12) where bytes[place...].starts(with: Array("value of 7".utf8)) {
      bytes[place] ^= 1
      damaged += 1
    }
    #expect(damaged > 0)
    try Data(bytes).write(to: URL(fileURLWithPath: path + "/index.mdb"))
    let source = try openReadOnly(path)
    #expect(code { try source.backupBlocking(to: scratch.path("copy")) } == .corrupt)
    #expect(!FileManager.default.fileExists(atPath: scratch.path("copy")))
  }

  @Test("A copy that the disk did not keep as it was written is no backup, and nothing is left of it", arguments: 0..<3)
  func copyIsVerified(part: Int) throws {
    let source = try Store.openBlocking(at: scratch.path("source"))
    for index in 0..<20 { try source.putBlocking("value of \(index)", for: "key of \(index)") }
    let copy = scratch.path("copy")
    var calls = 0
    try source.backupBlocking(to: copy) { _ in calls += 1 }
    try FileManager.default.removeItem(atPath: copy)
    // The same again, and when all of it is copied and nothing looked at yet, a byte of a value, a key or the log turns.
    let last = calls
    calls = 0
    func damage() throws {
      let log = try #require(FileManager.default.contentsOfDirectory(atPath: copy + "/undelivered").min())
      let file = URL(fileURLWithPath: part < 2 ? copy + "/index.mdb" : "\(copy)/undelivered/\(log)")
      let text = Data((part == 1 ? "key of 7" : "value of 7").utf8)
      let place = try #require(try Data(contentsOf: file).range(of: text)?.upperBound) - 1
      let handle = try FileHandle(forUpdating: file)
      try handle.seek(toOffset: UInt64(place))
      try handle.write(contentsOf: Data("8".utf8))
      try handle.close()
    }
    let result = code {
      try source.backupBlocking(to: copy) { _ in
        calls += 1
        if calls == last { try damage() }
      }
    }
    #expect(calls == last && result == .corrupt)
    #expect(!FileManager.default.fileExists(atPath: copy))
    #expect(try source.backupBlocking(to: copy).keys == 20)
  }

  @Test(
    "A full disk fails the backup and leaves nothing",
    .enabled(if: SmallDisk.isAvailable, "Needs root, and leave to mount."))
  func fullDisk() throws {
    let source = try Store.openBlocking(at: scratch.path("source"))
    let value = [UInt8](repeating: 1, count: 60_000)
    for index in 0..<100 { try source.putBlocking(value, for: "k\(index)") }
    for kilobytes in [16, 100, 500, 3_000, 8_000] {
      let disk = try SmallDisk(kilobytes: kilobytes)
      #expect(code { try source.backupBlocking(to: disk.path + "/copy") } == .full, "\(kilobytes) kB")
      #expect(!FileManager.default.fileExists(atPath: disk.path + "/copy"))
    }
  }
}
