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

  init(kilobytes: Int) throws {
    scratch = try Scratch()
    path = scratch.path("disk")
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
        let (key, value) = (random.bytes(16), random.bytes(2_000))
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
      for key in model.keys.sorted(by: { $0.lexicographicallyPrecedes($1) }).prefix(30) {
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
