// Full disks, by file systems in memory of a few kilobytes to some megabytes.

import Foundation
import KVLog
import KVStore
import TestSupport
import Testing

/// A file system of its own, unmounted when the test ends. Mounting needs root, and not every container allows it to root.
final class SmallDisk: Sendable {
  let path: String
  private let scratch: Scratch

  static let isAvailable: Bool = {
    guard getuid() == 0 else { return false }
    return (try? SmallDisk(kilobytes: 64)) != nil
  }()

  /// At a path of its own, or over a directory that is there.
  init(kilobytes: Int, over directory: String? = nil) throws {
    scratch = try Scratch()
    path = directory ?? scratch.path("disk")
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    try Self.run("mount", "-t", "tmpfs", "-o", "size=\(kilobytes)k", "kvsync-test", path)
  }

  deinit { try? Self.run("umount", "--lazy", path) }

  func resize(kilobytes: Int) throws { try Self.run("mount", "-o", "remount,size=\(kilobytes)k", path) }

  /// Writes until nothing more fits.
  func fill() {
    guard let file = unsafe fopen("\(path)/filling", "a") else { return }
    unsafe setbuf(file, nil)
    // A page at a time, as the file system gives it.
    let page = String(repeating: "a", count: 4_096)
    while unsafe fputs(page, file) >= 0 {}
    unsafe fclose(file)
  }

  /// Takes back what `fill` has written.
  func empty() { unsafe unlink("\(path)/filling") }

  private static func run(_ arguments: String...) throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = arguments
    process.standardError = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    if process.terminationStatus != 0 { throw CocoaError(.executableLoad) }
  }
}

@Suite(.enabled(if: SmallDisk.isAvailable, "Needs root, and leave to mount.")) struct DiskTests {
  @Test("A full disk fails the write in question, loses nothing, and writing works again afterwards")
  func fullDisk() async throws {
    let disk = try SmallDisk(kilobytes: 6 << 10)
    let path = disk.path + "/store"
    let store = try await Store.open(at: path)
    var model: [[UInt8]: [UInt8]] = [:]
    var failure: StoreError?
    var random = SeededGenerator(seed: 3)
    for _ in 0..<4000 {
      let (key, value) = (random.bytes(16), random.bytes(4000))
      do {
        try await store.put(value, for: key)
        model[key] = value
      } catch {
        failure = error as? StoreError
        break
      }
    }
    #expect(failure?.code == .full)
    #expect(model.count > 50)
    #expect(try contents(store) == model)
    try disk.resize(kilobytes: 64 << 10)
    try await Task.sleep(for: .milliseconds(1500))
    try await store.put("works", for: "again")
    model[Array("again".utf8)] = Array("works".utf8)
    #expect(try contents(store) == model)
    try await store.close()
    #expect(try Store.verify(at: path).keys == model.count)
  }

  enum Part: CaseIterable { case log, tail, index }

  @Test(
    "Whichever part has no room, each transaction of many writers is there whole or not at all, and all go on when there is",
    arguments: Part.allCases, [false, true])
  func fullPart(part: Part, rowsAreLate: Bool) async throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    var options = Store.Options()
    options.segmentBytes = 64 << 10
    options.generationBytes = 512 << 10
    // What is durable and large enough is in the log first, where one process has the store for itself.
    options.durability = rowsAreLate ? .durable : .relaxed
    options.isExclusive = rowsAreLate
    options.lateGroupBytes = 1
    try await Store.open(at: path, options: options).close()
    var disk: SmallDisk?
    /// Moves what the store has under this name to a disk of its own.
    func move(_ name: String, kilobytes: Int) throws {
      let own = try SmallDisk(kilobytes: kilobytes)
      try FileManager.default.moveItem(atPath: "\(path)/\(name)", toPath: "\(own.path)/\(name)")
      try FileManager.default.createSymbolicLink(
        atPath: "\(path)/\(name)", withDestinationPath: "\(own.path)/\(name)")
      disk = own
    }
    switch part {
    case .log: try move("log", kilobytes: 3 << 10)
    case .index: try move("index.mdb", kilobytes: 512)
    case .tail: break
    }
    var store = try await Store.open(at: path, options: options)
    // Opening makes the tail's directory anew; what is mapped already stays where it is.
    if part == .tail { disk = try SmallDisk(kilobytes: 700, over: path + "/tail") }

    @Sendable func keys(_ writer: Int, _ number: Int) -> [String] { (0..<50).map { "\(writer)/\(number)/\($0)" } }
    let value = [UInt8](repeating: 7, count: 100)
    @Sendable func write(_ writer: Int, _ number: Int, to store: Store) async throws {
      try await store.write { transaction in
        for key in keys(writer, number) { try transaction.put(value, for: key) }
        // A transaction that reads has its rows in the tail before its block is in the log.
        if writer.isMultiple(of: 2) { #expect(try transaction.contains(keys(writer, number)[number % 50])) }
      }
    }
    var written: [[Int]] = Array(repeating: [], count: 8)
    var codes: Set<StoreError.Code?> = []
    let full = store
    let outcomes = await withTaskGroup(of: (Int, [Int], [StoreError?]).self) { group in
      for writer in 0..<8 {
        group.addTask {
          var (successes, failures): ([Int], [StoreError?]) = ([], [])
          for number in 0..<1_000 where failures.count < 3 {
            do {
              try await write(writer, number, to: full)
              successes.append(number)
            } catch { failures.append(error as? StoreError) }
          }
          return (writer, successes, failures)
        }
      }
      return await group.reduce(into: []) { $0.append($1) }
    }
    for (writer, successes, failures) in outcomes {
      written[writer] = successes
      // Who does not read does not wait for its rows.
      let isLate = rowsAreLate && !writer.isMultiple(of: 2)
      let isThrough = isLate && successes.count + failures.count == 1_000
      #expect(failures.count == 3 || isThrough, "the disk never was full")
      codes.formUnion(failures.map { $0?.code })
    }
    #expect(codes == [.full])
    func expected() -> Set<[UInt8]> {
      Set(written.indices.flatMap { writer in written[writer].flatMap { keys(writer, $0) } }.map { [UInt8]($0.utf8) })
    }
    #expect(written.map(\.count).reduce(0, +) > 20)
    do {
      #expect(try Set(contents(store).keys) == expected())
    } catch {
      // There is no room for the rows of what is durable, and nothing older is shown instead.
      #expect(rowsAreLate && (error as? StoreError)?.code == .full, "\(error)")
    }

    // Closed without room, it has all of it when there is.
    let closesFull = rowsAreLate && part != .tail
    if closesFull { try await store.close() }
    // Less than all rows together need that wait for the tail.
    try disk?.resize(kilobytes: 64 << 10)
    if closesFull { store = try await Store.open(at: path, options: options) }
    let deadline = ContinuousClock.now + .seconds(20)
    for writer in 0..<8 {
      for number in 2_000..<2_010 {
        while true {
          do {
            try await write(writer, number, to: store)
            break
          } catch { try #require((error as? StoreError)?.code == .full && ContinuousClock.now < deadline, "\(error)") }
          try await Task.sleep(for: .milliseconds(20))
        }
        written[writer].append(number)
      }
    }
    #expect(try Set(contents(store).keys) == expected())
    try await store.close()
    // Over the tail lies a disk that the next opening could not remove.
    if part == .tail { disk = nil }
    let again = try await Store.open(at: path, options: options)
    #expect(try Set(contents(again).keys) == expected())
    try await again.close()
    #expect(try Store.verify(at: path).keys == expected().count)
    withExtendedLifetime(disk) {}
  }

  @Test("On a full disk deletions and acknowledgements still work, and make room for writes, without reopening")
  func reserve() async throws {
    let disk = try SmallDisk(kilobytes: 16 << 10)
    var random = SeededGenerator()
    var options = Store.Options()
    options.segmentBytes = 256 << 10
    let path = disk.path + "/store"
    let store = try await Store.open(at: path, options: options)
    var model: [[UInt8]: [UInt8]] = [:]
    func fileSize(_ path: String) throws -> Int {
      try FileManager.default.attributesOfItem(atPath: path)[.size] as? Int ?? 0
    }
    func fillUp() async {
      while true {
        let (key, value) = (random.bytes(16), random.bytes(1_500 + random.below(1_000)))
        do {
          try await store.put(value, for: key)
          model[key] = value
        } catch {
          #expect((error as? StoreError)?.code == .full)
          return
        }
      }
    }
    for round in 0..<3 {
      await fillUp()
      // Somebody else takes what the store has left for folding: only the reserve is there.
      if round == 0 { disk.fill() }
      #expect(model.count > 200)
      for key in model.keys.sorted(by: { $0.lexicographicallyPrecedes($1) }).prefix(100) {
        try await store.delete(key)
        model[key] = nil
      }
      #expect(try contents(store) == model)
      let state = store.replicaState()
      _ = try await store.acknowledge(
        Acknowledgement(through: state.local.version, exceptions: [], head: 1), digest: state.local.digest,
        localChanges: state.pendingChanges, localBytes: state.pendingBytes, epoch: Identity(high: 1, low: 1))
      #expect(store.counters().pendingChanges == 0)
      disk.empty()
      // The folder gives the acknowledged log back; nobody has to do anything.
      let deadline = ContinuousClock.now + .seconds(20)
      while true {
        do {
          try await store.put("there is room", for: "round \(round)")
          break
        } catch { #expect((error as? StoreError)?.code == .full && ContinuousClock.now < deadline, "\(error)") }
        try await Task.sleep(for: .milliseconds(50))
      }
      model[Array("round \(round)".utf8)] = Array("there is room".utf8)
      while try fileSize("\(path)/reserve") == 0 {
        try #require(ContinuousClock.now < deadline, "the reserve is taken again")
        try await Task.sleep(for: .milliseconds(50))
      }
      // From now on half of it is overwritten, so that the index does not grow for ever.
      for key in Array(model.keys.prefix(model.count / 2)) {
        if (try? await store.delete(key)) != nil { model[key] = nil }
      }
    }
    #expect(try contents(store) == model)
    try await store.close()
    #expect(try Store.verify(at: path).keys == model.count)
  }

  @Test("On a disk of any size, opening, writing, closing and reading end with an error at worst, never with a signal")
  func anySize() async throws {
    await #expect(processExitsWith: .success) {
      for kilobytes in [8, 32, 64, 100, 128, 160, 200, 400, 560, 600, 620, 700, 800, 1_024, 1_200, 2_048, 4_096] {
        let disk = try SmallDisk(kilobytes: kilobytes)
        let path = disk.path + "/store"
        var stored: Set<[UInt8]> = []
        do {
          let store = try await Store.open(at: path)
          do {
            for number in 0..<2_000 {
              let key = [UInt8]("\(number)".utf8)
              try await store.put([UInt8](repeating: 7, count: 3_000), for: key)
              stored.insert(key)
            }
          } catch { #expect((error as? StoreError)?.code == .full) }
          // What was stored is safe, so closing succeeds, folded or not.
          try await store.close()
        } catch {
          #expect((error as? StoreError)?.code == .full, "\(kilobytes) kB: \(error)")
          #expect(stored.isEmpty)
        }
        var options = Store.Options()
        options.readOnly = true
        do {
          #expect(try Set(contents(Store.openBlocking(at: path, options: options)).keys) == stored, "\(kilobytes) kB")
        } catch {
          #expect((error as? StoreError)?.code == .noStore && stored.isEmpty, "\(kilobytes) kB: \(error)")
        }
        // Not a byte left, for the writer's scratch or for a reader's lock file.
        disk.fill()
        _ = try? await Store.open(at: path).close()
        try? FileManager.default.removeItem(atPath: path + "/index.mdb-lock")
        disk.fill()
        _ = try? Store.openBlocking(at: path, options: options)
        try disk.resize(kilobytes: 64 << 10)
        let again = try await Store.open(at: path)
        #expect(try Set(contents(again).keys) == stored, "\(kilobytes) kB")
        try await again.put("v", for: "with room")
        try await again.close()
      }
    }
  }
}
