import Foundation
import KVLog
import KVStore
import TestSupport
import Testing

@Suite struct LifecycleTests {
  private func code(_ body: () async throws -> Void) async -> StoreError.Code? {
    do {
      try await body()
      return nil
    } catch { return (error as? StoreError)?.code }
  }

  @Test("What is not a store is refused and left as it is")
  func refusesOtherThings() async throws {
    let scratch = try Scratch()
    var existing = Store.Options()
    existing.createIfMissing = false
    #expect(await code { _ = try await Store.open(at: scratch.path("none"), options: existing) } == .noStore)
    var readOnly = Store.Options()
    readOnly.readOnly = true
    #expect(await code { _ = try await Store.open(at: scratch.path("none"), options: readOnly) } == .noStore)
    #expect(!FileManager.default.fileExists(atPath: scratch.path("none")))

    try Data("notes".utf8).write(to: URL(fileURLWithPath: scratch.path("notes.txt")))
    #expect(await code { _ = try await Store.open(at: scratch.path) } == .foreign)
    #expect(await code { _ = try await Store.open(at: scratch.path("notes.txt")) } == .foreign)
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path) == ["notes.txt"])

    let path = scratch.path("store")
    try await Store.open(at: path).close()
    let manifest = URL(fileURLWithPath: path + "/kvsync.store")
    let text = try String(contentsOf: manifest, encoding: .utf8)
    try text.replacingOccurrences(of: "format 1", with: "format 2").write(
      to: manifest, atomically: true, encoding: .utf8)
    #expect(await code { _ = try await Store.open(at: path) } == .newerFormat)
    try text.replacingOccurrences(of: "identity ", with: "identity 0").write(
      to: manifest, atomically: true, encoding: .utf8)
    #expect(await code { _ = try await Store.open(at: path) } == .corrupt)
    try text.write(to: manifest, atomically: true, encoding: .utf8)
    try await Store.open(at: path).close()
  }

  @Test("One handle writes; readers beside it see what was durable when they were opened")
  func oneWriterManyReaders() async throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    let store = try await Store.open(at: path)
    try await store.put("1", for: "k")
    #expect(await code { _ = try await Store.open(at: path) } == .inUse)
    var options = Store.Options()
    options.readOnly = true
    let log = try FileManager.default.subpathsOfDirectory(atPath: path).sorted()
    let reader = try openCopyReadOnly(of: path, scratch)
    #expect(text(try reader.value(for: "k")) == "1")
    #expect(await code { try await reader.put("2", for: "k") } == .readOnly)
    #expect(try reader.information().keys == 1)
    #expect(try FileManager.default.subpathsOfDirectory(atPath: path).sorted() == log)
    try await store.close()
    #expect(await code { try await store.put("3", for: "k") } == .closed)
    #expect(await code { _ = try store.value(for: "k") } == .closed)
  }

  @Test("A read of a read-only store may contain another, and scans in both go on")
  func nestedReads() throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    let store = try Store.openBlocking(at: path)
    for index in 0..<10 { try store.putBlocking("v\(index)", for: "k\(index)") }
    let view = try openCopyReadOnly(of: path, scratch)
    try view.read { snapshot in
      for row in try snapshot.scan() {
        #expect(try view.value(for: row.key) == row.value)
        #expect(try view.read { try Array($0.scan()).count } == 10)
      }
    }
    try store.closeBlocking()
  }

  @Test("Whoever closes a store that is being closed waits until it is")
  func concurrentClose() async throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    for _ in 0..<10 {
      let store = try await Store.open(at: path)
      try await store.write { for index in 0..<2_000 { try $0.put("v", for: "k\(index)") } }
      async let first: Void = store.close()
      try await Task.sleep(for: .milliseconds(1))
      try await store.close()
      // The lock is free now, whichever of the two closed.
      try await Store.open(at: path).close()
      try await first
    }
  }

  @Test("A store is not closed from within a transaction, and goes with its last user wherever that is")
  func endsOnItsOwnThread() throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    let store = try Store.openBlocking(at: path)
    try store.writeBlocking { transaction in
      #expect(throws: StoreError.self) { try store.closeBlocking() }
      try transaction.put("v", for: "k")
    }
    #expect(try store.contains("k"))
    try store.closeBlocking()
    for _ in 0..<100 {
      let store = try Store.openBlocking(at: path)
      #expect(throws: CancellationError.self) {
        try store.writeBlocking { transaction in
          _ = try store.contains("k")
          throw CancellationError()
        }
      }
    }
  }

  @Test("A store whose log or index has gone is damaged, and never begun again", arguments: ["log", "index.mdb"])
  func missingParts(part: String) async throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    let store = try await Store.open(at: path)
    try await store.put("v", for: "k")
    try await store.close()
    try FileManager.default.removeItem(atPath: "\(path)/\(part)")
    var readOnly = Store.Options()
    readOnly.readOnly = true
    #expect(await code { _ = try await Store.open(at: path) } == .corrupt)
    #expect(await code { _ = try await Store.open(at: path, options: readOnly) } == .corrupt)
    #expect(await code { _ = try Store.verify(at: path) } == .corrupt)
    #expect(!FileManager.default.fileExists(atPath: "\(path)/\(part)"))
    try Data().write(to: URL(fileURLWithPath: "\(path)/\(part)"))
    #expect(await code { _ = try await Store.open(at: path) } == .corrupt)
    #expect(await code { _ = try Store.verify(at: path) } == .corrupt)
  }

  @Test("A flipped bit anywhere in the manifest is damage, or at worst a newer format, and never another store")
  func damagedManifest() async throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    try await Store.open(at: path).close()
    let manifest = URL(fileURLWithPath: path + "/kvsync.store")
    let intact = try Data(contentsOf: manifest)
    for place in intact.indices {
      for bit in 0..<8 {
        var damaged = intact
        damaged[place] ^= 1 << bit
        try damaged.write(to: manifest)
        let code = await code { _ = try await Store.open(at: path) }
        #expect(code == .corrupt || code == .newerFormat, "byte \(place), bit \(bit): \(String(describing: code))")
      }
    }
    try Data().write(to: manifest)
    #expect(await code { _ = try await Store.open(at: path) } == .corrupt)
    try intact.write(to: manifest)
    try await Store.open(at: path).close()
  }

  @Test("Any path will do: of one letter, with a slash at the end, from the current directory")
  func paths() async throws {
    let scratch = try Scratch()
    let store = try await Store.open(at: scratch.path("s/"))
    try await store.close()
    // In a process of its own, whose current directory is nobody else's.
    await #expect(processExitsWith: .success) {
      let scratch = try Scratch()
      #expect(FileManager.default.changeCurrentDirectoryPath(scratch.path))
      try Store.openBlocking(at: "s").closeBlocking()
      try Store.openBlocking(at: "./s/").closeBlocking()
      #expect(FileManager.default.fileExists(atPath: scratch.path("s/kvsync.store")))
    }
  }

  /// Opens what a crash at this moment would leave, without writing to it.
  private func openCopyReadOnly(of path: String, _ scratch: Scratch) throws -> Store {
    let copy = scratch.path("copy")
    try FileManager.default.copyItem(atPath: path, toPath: copy)
    var options = Store.Options()
    options.readOnly = true
    return try Store.openBlocking(at: copy, options: options)
  }

  @Test("A creation that was cut off is begun again")
  func creationIsAtomic() async throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    try await Store.open(at: path).close()
    try FileManager.default.moveItem(atPath: path + "/kvsync.store", toPath: path + "/kvsync.store.creating")
    let store = try await Store.open(at: path)
    try await store.put("v", for: "k")
    try await store.close()
    #expect(try Store.verify(at: path).keys == 1)
  }

  @Test("Damage in a row or in the log is an error and never a value", arguments: 0..<40)
  func damageIsFound(run: Int) async throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("seed \(seed)")
    var random = SeededGenerator(seed: seed)
    let scratch = try Scratch()
    let path = scratch.path("store")
    let store = try await Store.open(at: path)
    var model: [[UInt8]: [UInt8]] = [:]
    for index in 0..<50 {
      let (key, value) = (Array("key-\(index)".utf8), random.bytes(50))
      try await store.put(value, for: key)
      model[key] = value
    }
    try await store.close()
    let segment = path + "/log/" + (try FileManager.default.contentsOfDirectory(atPath: path + "/log")).sorted()[0]
    var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: segment)))
    let place = Int.random(in: 0..<bytes.count, using: &random)
    bytes[place] ^= UInt8(1) << UInt8.random(in: 0..<8, using: &random)
    try Data(bytes).write(to: URL(fileURLWithPath: segment))
    #expect(throws: StoreError.self) { try Store.verify(at: path) }
  }

  @Test(
    "Damage in log that is not folded yet is refused by every way of opening, and nothing is cut", arguments: 0..<20)
  func damageInUnfoldedLogIsRefused(run: Int) async throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("seed \(seed)")
    var random = SeededGenerator(seed: seed)
    let scratch = try Scratch()
    let store = try await Store.open(at: scratch.path("store"))
    for index in 0..<50 { try await store.put(random.bytes(50), for: "key-\(index)") }
    let path = scratch.path("copy")
    try FileManager.default.copyItem(atPath: scratch.path("store"), toPath: path)
    let end = Int(try store.logEnd())
    try await store.close()
    let segment = path + "/log/" + (try FileManager.default.contentsOfDirectory(atPath: path + "/log")).sorted()[0]
    let intact = [UInt8](try Data(contentsOf: URL(fileURLWithPath: segment)))
    var bytes = intact
    // The last block alone has nothing behind it that vouches for it.
    let place = Int.random(in: 0..<end * 9 / 10, using: &random)
    bytes[place] ^= UInt8(1) << UInt8.random(in: 0..<8, using: &random)
    try Data(bytes).write(to: URL(fileURLWithPath: segment))
    var readOnly = Store.Options()
    readOnly.readOnly = true
    #expect(await code { _ = try await Store.open(at: path, options: readOnly) } != nil)
    #expect(await code { _ = try Store.verify(at: path) } != nil)
    #expect(await code { _ = try await Store.open(at: path) } != nil)
    #expect(try [UInt8](Data(contentsOf: URL(fileURLWithPath: segment))) == bytes)
    try Data(intact).write(to: URL(fileURLWithPath: segment))
    #expect(try Store.verify(at: path).keys == 50)
  }
}
