import Foundation
import KVLog
import KVStore
import Synchronization
import TestSupport
import Testing

/// The real files, with a switch that makes one kind of call fail.
final class FaultyFileSystem: LogFileSystem {
  enum Fault: Equatable { case none, synchronize, write, full }

  private let fault = Mutex((kind: Fault.none, remaining: 0))
  private let files = PosixFileSystem()
  /// How often a file was synchronised.
  let synchronizations = Atomic(0)
  /// When synchronisations of data began, in microseconds of the monotonic clock.
  let synchronizationTimes = Mutex<[Int]>([])
  /// How many milliseconds longer than the disk's own each synchronisation of data takes.
  let slowness = Atomic(0)

  /// Calls of this kind fail from now on, after `count` that do not.
  func set(_ kind: Fault, after count: Int = 0) { fault.withLock { $0 = (kind, count) } }

  func check(_ kind: Fault, _ code: Int32) throws(SystemError) {
    let fails = fault.withLock { fault in
      guard fault.kind == kind else { return false }
      fault.remaining -= 1
      return fault.remaining < 0
    }
    if fails { throw SystemError(code: code) }
  }

  func open(_ path: String, _ mode: LogFileMode) throws(SystemError) -> any LogFile {
    File(try files.open(path, mode), self)
  }
  func list(_ directory: String) throws(SystemError) -> [String] { try files.list(directory) }
  func rename(_ path: String, to target: String) throws(SystemError) { try files.rename(path, to: target) }
  func unlink(_ path: String) throws(SystemError) { try files.unlink(path) }
  func synchronizeDirectory(_ path: String) throws(SystemError) { try files.synchronizeDirectory(path) }
  func makeDirectory(_ path: String) throws(SystemError) { try files.makeDirectory(path) }

  private final class File: LogFile {
    let file: any LogFile
    let system: FaultyFileSystem

    init(_ file: any LogFile, _ system: FaultyFileSystem) {
      self.file = file
      self.system = system
    }

    func read(into buffer: inout [UInt8], _ range: Range<Int>, at offset: UInt64) throws(SystemError) -> Int {
      try file.read(into: &buffer, range, at: offset)
    }
    func write(_ bytes: RawSpan, at offset: UInt64) throws(SystemError) {
      try system.check(.write, EIO)
      try system.check(.full, ENOSPC)
      try file.write(bytes, at: offset)
    }
    func size() throws(SystemError) -> UInt64 { try file.size() }
    func truncate(to size: UInt64) throws(SystemError) { try file.truncate(to: size) }
    func synchronizeData() throws(SystemError) {
      system.synchronizationTimes.withLock { $0.append(monotonicMicroseconds()) }
      let slowness = system.slowness.load(ordering: .relaxed)
      if slowness > 0 { usleep(UInt32(slowness) * 1_000) }
      try system.check(.synchronize, EIO)
      system.synchronizations.add(1, ordering: .relaxed)
      try file.synchronizeData()
    }
    func synchronizeAll() throws(SystemError) {
      try system.check(.synchronize, EIO)
      try file.synchronizeAll()
    }
  }
}

@Suite struct FaultTests {
  @Test(
    "A failed sync or write poisons the store: writes fail, reads go on, reopening recovers",
    arguments: [FaultyFileSystem.Fault.synchronize, .write])
  func poisons(fault: FaultyFileSystem.Fault) async throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    let files = FaultyFileSystem()
    var options = Store.Options()
    options.fileSystem = files
    let store = try await Store.open(at: path, options: options)
    try await store.put("acknowledged", for: "a")
    files.set(fault)
    for _ in 0..<3 {
      do {
        try await store.put("lost?", for: "b")
        Issue.record("a write succeeded although the disk failed")
      } catch { #expect((error as? StoreError)?.code == .poisoned) }
      files.set(.none)
    }
    #expect(text(try store.value(for: "a")) == "acknowledged")
    #expect(try store.value(for: "b") == nil, "what is not known to be durable must not be visible")
    _ = try? await store.close()
    let reopened = try await Store.open(at: path)
    #expect(text(try reopened.value(for: "a")) == "acknowledged")
    try await reopened.put("again", for: "b")
    try await reopened.close()
    _ = try Store.verify(at: path)
  }

  @Test("When a sync fails under 64 writers, all that is pending and all that comes fails with one and the same error")
  func pendingWrites() async throws {
    var random = SeededGenerator()
    let scratch = try Scratch()
    let path = scratch.path("store")
    let files = FaultyFileSystem()
    var options = Store.Options()
    options.fileSystem = files
    let store = try await Store.open(at: path, options: options)
    // Writes wait while others are synchronised, so that there is always something pending.
    files.slowness.store(5, ordering: .relaxed)
    // Making room in the log takes synchronisations too.
    try await store.put("v", for: "first")
    files.set(.synchronize, after: Int.random(in: 0..<6, using: &random))
    let outcomes = await withTaskGroup(of: (keys: [String], error: StoreError?).self) { group in
      for writer in 0..<64 {
        group.addTask {
          var keys: [String] = []
          while keys.count < 1_000 {
            let key = "\(writer)/\(keys.count)"
            do {
              if writer % 2 == 0 {
                try await store.put("v", for: key)
              } else {
                try await store.write { try $0.put("v", for: key) }
              }
            } catch { return (keys, error as? StoreError) }
            keys.append(key)
          }
          return (keys, nil)
        }
      }
      return await group.reduce(into: []) { $0.append($1) }
    }
    files.set(.none)
    var errors = outcomes.compactMap(\.error)
    #expect(errors.count == 64)
    for round in 0..<4 {
      do {
        switch round {
        case 0: try await store.put("v", for: "later")
        case 1: try await store.put("v", for: "later", durability: .relaxed)
        case 2: try await store.delete("later")
        default: try await store.synchronize()
        }
        Issue.record("a write succeeded after the disk had failed")
      } catch { errors.append(try #require(error as? StoreError)) }
    }
    #expect(errors.allSatisfy { $0.code == .poisoned })
    let messages = Set(errors.map(\.description))
    #expect(messages.count == 1, "\(messages)")
    let message = try #require(messages.first)
    #expect(message.contains(path) && message.contains("Input/output error"))
    #expect(message.hasSuffix("Close and reopen it: what was acknowledged is safe."))
    let acknowledged = Set((["first"] + outcomes.flatMap(\.keys)).map { [UInt8]($0.utf8) })
    #expect(try Set(contents(store).keys) == acknowledged, "reads show what is known to be durable, and nothing else")
    try await store.close()
    let reopened = try await Store.open(at: path)
    #expect(try Set(contents(reopened).keys).isSuperset(of: acknowledged))
    try await reopened.put("v", for: "works")
    try await reopened.close()
    _ = try Store.verify(at: path)
  }

  @Test("A log that cannot grow fails the write and nothing else; the next write works when there is room")
  func fullLog() async throws {
    let scratch = try Scratch()
    let files = FaultyFileSystem()
    var options = Store.Options()
    options.fileSystem = files
    let store = try await Store.open(at: scratch.path("store"), options: options)
    files.set(.full)
    let large = [UInt8](repeating: 1, count: 1 << 20)
    do {
      try await store.put(large, for: "large")
      Issue.record("a write succeeded although there was no room")
    } catch { #expect((error as? StoreError)?.code == .full) }
    #expect(store.counters().localVersion == 0)
    #expect(try store.value(for: "large") == nil)
    files.set(.none)
    try await store.put(large, for: "large")
    #expect(try store.value(for: "large") == large)
    try await store.close()
    #expect(try Store.verify(at: scratch.path("store")).keys == 1)
  }

  @Test("A commit of the index that fails poisons the store; reads go on, and reopening recovers all of it")
  func failedCommit() async throws {
    // In a process of its own, in which no file may become larger than the index is.
    await #expect(processExitsWith: .success) {
      let scratch = try Scratch()
      let path = scratch.path("store")
      var options = Store.Options()
      options.segmentBytes = 64 << 10
      options.generationBytes = 192 << 10
      options.durability = .relaxed
      var random = SeededGenerator()
      var model: [[UInt8]: [UInt8]] = [:]
      func write(_ store: Store) throws {
        let rows = (0..<50).map { _ in (random.bytes(16), random.bytes(100)) }
        try store.writeBlocking { transaction in
          for (key, value) in rows { try transaction.put(value, for: key) }
        }
        for (key, value) in rows { model[key] = value }
      }
      var store = try Store.openBlocking(at: path, options: options)
      for _ in 0..<150 { try write(store) }
      try store.closeBlocking()
      let bytes = try FileManager.default.attributesOfItem(atPath: path + "/index.mdb")[.size] as? Int ?? 0
      // Neither the log nor the tail comes near to that.
      #expect(bytes > 512 << 10)
      signal(SIGXFSZ, SIG_IGN)
      var unlimited = rlimit()
      unsafe getrlimit(fileSizeLimit, &unlimited)
      var limit = unlimited
      limit.rlim_cur = rlim_t(bytes)
      unsafe setrlimit(fileSizeLimit, &limit)
      store = try Store.openBlocking(at: path, options: options)
      var failure: StoreError?
      for _ in 0..<5_000 where failure == nil {
        do { try write(store) } catch { failure = error as? StoreError }
      }
      #expect(failure?.code == .poisoned)
      #expect(failure?.message.contains("cannot commit a transaction in \(path)/index.mdb") == true)
      #expect(failure?.message.hasSuffix("Close and reopen it: what was acknowledged is safe.") == true)
      #expect(throws: StoreError.self) { try store.synchronizeBlocking() }
      #expect(try contents(store) == model)
      try store.closeBlocking()
      unsafe setrlimit(fileSizeLimit, &unlimited)
      store = try Store.openBlocking(at: path, options: options)
      #expect(try contents(store) == model)
      for _ in 0..<100 { try write(store) }
      #expect(try contents(store) == model)
      try store.closeBlocking()
      #expect(try Store.verify(at: path).keys == model.count)
    }
  }

  @Test("Acknowledged log is given back in whole segments, swept tombstones with it, and pending log never")
  func truncates() async throws {
    let scratch = try Scratch()
    var options = Store.Options()
    options.segmentBytes = 256 << 10
    options.logRetention = .acknowledged(bytes: 0)
    var hubOptions = options
    hubOptions.logRetention = .all
    let hub = try await Store.open(at: scratch.path("hub"), options: hubOptions)
    let replica = try await Store.open(at: scratch.path("replica"), options: options)
    let exchange = Exchange(hub: hub, segmentBytes: 256 << 10)
    for round in 0..<30 {
      try await replica.write { transaction in
        for key in 0..<100 { try transaction.put([UInt8](repeating: UInt8(round), count: 1000), for: "k\(key)") }
        try transaction.delete("gone\(round)")
      }
    }
    let pending = try replica.information()
    #expect(pending.firstLogVersion == 1)
    #expect(pending.logBytes > 3_000_000)
    try await exchange.settle([replica], policy: .lastWriterWins)
    // The folder gives log back after it has folded.
    for round in 0..<30 {
      try await replica.write { transaction in
        for key in 0..<100 { try transaction.put([UInt8](repeating: UInt8(round), count: 1000), for: "k\(key)") }
      }
      try await exchange.settle([replica], policy: .lastWriterWins)
    }
    try await replica.close()
    let reopened = try await Store.open(at: scratch.path("replica"), options: options)
    let left = try reopened.information()
    #expect(left.logBytes < 2_000_000)
    #expect(left.firstLogVersion > 30)
    #expect(left.keys == 100)
    #expect(try contents(reopened) == contents(hub))
    await #expect(throws: StoreError.self) {
      for try await _ in reopened.changes(after: 0) {}
    }
    try await reopened.close()
    let report = try Store.verify(at: scratch.path("replica"))
    #expect(report.tombstones == 0)
    try await hub.close()
  }

  @Test("A read-only view shows nothing of the log that it could not make durable")
  func viewIsDurable() async throws {
    let scratch = try Scratch()
    let store = try await Store.open(at: scratch.path("store"))
    try await store.put("v", for: "k")
    try FileManager.default.copyItem(atPath: scratch.path("store"), toPath: scratch.path("copy"))
    try await store.close()
    let files = FaultyFileSystem()
    var options = Store.Options()
    options.readOnly = true
    options.fileSystem = files
    files.set(.synchronize)
    await #expect(throws: StoreError.self) { try await Store.open(at: scratch.path("copy"), options: options) }
    files.set(.none)
    #expect(text(try await Store.open(at: scratch.path("copy"), options: options).value(for: "k")) == "v")
  }
}

#if canImport(Glibc)
  private let fileSizeLimit = __rlimit_resource_t(RLIMIT_FSIZE.rawValue)
#else
  private let fileSizeLimit = RLIMIT_FSIZE
#endif
