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

  @Test("The same store is opened once in a process, however it is spelled and for whatever, and the error says why")
  func otherSpellings() async throws {
    // In a process of its own, whose current directory is nobody else's.
    await #expect(processExitsWith: .success) {
      let scratch = try Scratch()
      let path = scratch.path("store")
      #expect(FileManager.default.changeCurrentDirectoryPath(scratch.path))
      try FileManager.default.createSymbolicLink(atPath: "link", withDestinationPath: "store")
      try FileManager.default.createDirectory(atPath: "folder", withIntermediateDirectories: true)
      var readOnly = Store.Options()
      readOnly.readOnly = true
      try Store.openBlocking(at: path).closeBlocking()
      for first in [Store.Options(), readOnly] {
        var store: Store? = try Store.openBlocking(at: path, options: first)
        for spelling in [path, path + "/", "store", "./folder/../store//", "link", "link/."] {
          for options in [Store.Options(), readOnly] {
            do {
              _ = try Store.openBlocking(at: spelling, options: options)
              Issue.record("opened twice: \(spelling)")
            } catch {
              let error = error as? StoreError
              #expect(error?.code == .inUse, "\(spelling)")
              let message = error?.message ?? ""
              #expect(message.hasPrefix("this process has the store open"), "\(spelling): \(message)")
            }
          }
        }
        // The refusals have harmed nobody.
        if !first.readOnly { try store?.putBlocking("v", for: "k") }
        #expect(text(try store?.value(for: "k")) == "v")
        try store?.closeBlocking()
        store = nil
      }
      // Two stores are two stores, one inside the other's directory or not.
      let both = [try Store.openBlocking(at: "one"), try Store.openBlocking(at: "two")]
      for store in both { try store.closeBlocking() }
    }
  }

  #if !canImport(Darwin)
    @Test("Every file system that other machines may have too is known by its number, and those of one machine are not")
    func networkFileSystems() throws {
      let networks: [(kind: UInt64, name: String)] = [
        (0x6969, "NFS"), (0x517B, "SMB"), (0xFF53_4D42, "CIFS"), (0xFE53_4D42, "SMB 2"), (0x0102_1997, "9P"),
        (0x5346_414F, "AFS"), (0x6B41_4653, "AFS"), (0x00C3_6400, "Ceph"), (0x7375_7245, "Coda"), (0x564C, "NCP"),
        (0x6573_5546, "FUSE"), (0x0BD0_0BD0, "Lustre"), (0x0116_1970, "GFS2"), (0x7461_636F, "OCFS2"),
      ]
      for (kind, name) in networks { #expect(FileSystemKind.network(kind) == name) }
      // ext4, XFS, Btrfs, tmpfs, overlayfs, ZFS, F2FS, bcachefs, exFAT, and what could not be found out.
      for kind: UInt64 in [
        0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0x794C_7630, 0x2FC1_2FC1, 0xF2F5_2010, 0xCA45_1A4E, 0x2011_BAB0,
        0,
      ] { #expect(FileSystemKind.network(kind) == nil) }
      let error = FileSystemKind.refusal("NFS", "/mnt/store")
      #expect(error.code == .notAllowed && error.path == "/mnt/store")
      #expect(error.message.contains("network file system (NFS)") && error.message.contains("on a local disk"))
      #expect(FileSystemKind.network(holding: "/dev/shm/none") == nil)
    }
  #endif

  @Test("A store on a network file system is opened neither for writing nor for reading, and nothing is made there")
  func networkRefused() async throws {
    let scratch = try Scratch()
    for readOnly in [false, true] {
      for isThere in [false, true] {
        let path = scratch.path("\(readOnly)\(isThere)")
        if isThere { try await Store.open(at: path).close() }
        let before = try? FileManager.default.subpathsOfDirectory(atPath: path).sorted()
        var options = Store.Options()
        options.readOnly = readOnly
        options.network = { $0 == path ? "NFS" : nil }
        await #expect { try await Store.open(at: path, options: options) } throws: { error in
          (error as? StoreError)?.code == .notAllowed
            && "\(error)".hasPrefix("\(path): the path is on a network file system (NFS)")
        }
        #expect((try? FileManager.default.subpathsOfDirectory(atPath: path).sorted()) == before)
        #expect(FileManager.default.fileExists(atPath: path) == isThere)
      }
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
