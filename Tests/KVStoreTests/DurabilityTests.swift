import Foundation
import KVLog
import KVStore
import Synchronization
import TestSupport
import Testing

@Suite struct DurabilityTests {
  @Test("A relaxed write returns before it is synchronised, and is soon after, once for all of them")
  func relaxed() async throws {
    let scratch = try Scratch()
    let files = FaultyFileSystem()
    var options = Store.Options()
    options.fileSystem = files
    options.durability = .relaxed
    let store = try await Store.open(at: scratch.path("store"), options: options)
    try await store.put("first", for: "key", durability: .durable)
    func count() -> Int { files.synchronizations.load(ordering: .relaxed) }
    let before = count()
    let start = ContinuousClock.now
    for number in 0..<100 { try await store.put("\(number)", for: "key \(number)") }
    // One each 40 ms, however long that took here.
    let most = Int((ContinuousClock.now - start) / .milliseconds(40)) + 1
    #expect(count() - before <= most)
    try await Task.sleep(for: .milliseconds(400))
    let after = count()
    #expect(after > before)
    try await Task.sleep(for: .milliseconds(200))
    #expect(count() == after)
    try await store.put("x", for: "relaxed")
    try await store.synchronize()
    #expect(count() > after)
    #expect(store.counters().localVersion == 102)
    try await store.close()
  }

  @Test("Each relaxed write is followed by a synchronisation within 100 ms, whatever the pauses between writes")
  func window() async throws {
    var random = SeededGenerator()
    let scratch = try Scratch()
    let probe = SchedulingProbe(disk: scratch.path)
    let files = FaultyFileSystem()
    var options = Store.Options()
    options.fileSystem = files
    options.durability = .relaxed
    let store = try await Store.open(at: scratch.path("store"), options: options)
    var writes: [(began: Int, returned: Int)] = []
    for burst in 0..<12 {
      for number in 0..<random.below(30) {
        let began = monotonicMicroseconds()
        try store.putBlocking("v", for: "\(burst)/\(number)")
        writes.append((began, monotonicMicroseconds()))
        if random.chance(30) { try await Task.sleep(for: .microseconds(random.below(30_000))) }
      }
      try await Task.sleep(for: .microseconds(random.below(150_000)))
    }
    try await Task.sleep(for: .milliseconds(300))
    let synchronizations = files.synchronizationTimes.withLock { $0 }
    for (began, returned) in writes {
      let next = try #require(synchronizations.first { $0 >= began }, "a relaxed write was never synchronised")
      // The thread that synchronises is woken by a clock, and so is the one that says how late that is at present.
      let allowance = 2 * probe.worst(since: began, through: next)
      #expect(next - returned < 100_000 + allowance, "\(next - returned) us, seed \(random.seed)")
    }
    try await store.close()
  }

  @Test("A failure to synchronise relaxed writes poisons the store")
  func relaxedFailure() async throws {
    let scratch = try Scratch()
    let files = FaultyFileSystem()
    var options = Store.Options()
    options.fileSystem = files
    let store = try await Store.open(at: scratch.path("store"), options: options)
    try await store.put("a", for: "key")
    files.set(.synchronize)
    try await store.put("b", for: "key", durability: .relaxed)
    try await Task.sleep(for: .milliseconds(500))
    await #expect { try await store.put("c", for: "key", durability: .relaxed) } throws: {
      ($0 as? StoreError)?.code == .poisoned
    }
    #expect(text(try store.value(for: "key")) == "b")
    files.set(.none)
    try await store.close()
  }

  @Test("What a loss of power takes of relaxed writes is the end of them: whole transactions, in order")
  func powerLoss() async throws {
    var random = SeededGenerator()
    let scratch = try Scratch()
    let path = scratch.path("store")
    let store = try await Store.open(at: path)
    try await store.put("durable", for: "base")
    let durable = try store.logEnd()
    for number in 0..<60 {
      try await store.write(durability: .relaxed) { transaction in
        try transaction.put("\(number)", for: "a/\(number)")
        try transaction.put("\(number)", for: "b/\(number)")
      }
    }
    let end = try store.logEnd()
    for _ in 0..<25 {
      // What the disk has after the loss: the log up to some byte, and zeros or what was there before it from there on.
      let copy = scratch.path("copy")
      try? FileManager.default.removeItem(atPath: copy)
      try FileManager.default.copyItem(atPath: path, toPath: copy)
      let cut = UInt64.random(in: durable...end, using: &random)
      let file = try FileHandle(forWritingTo: URL(fileURLWithPath: "\(copy)/log/00000000000000000001.kvlog"))
      try file.seek(toOffset: cut)
      let garbage = random.chance(50) ? [UInt8](repeating: 0, count: Int(end - cut)) : random.bytes(Int(end - cut))
      try file.write(contentsOf: garbage)
      try file.close()
      let again = try await Store.open(at: copy)
      let all = try contents(again)
      let survived = (all.count - 1) / 2
      #expect(all.count == 1 + 2 * survived)
      for number in 0..<survived {
        #expect(all[Array("a/\(number)".utf8)] != nil && all[Array("b/\(number)".utf8)] != nil)
      }
      try await again.close()
    }
    try await store.close()
  }

  @Test("A store of 100 keys takes at most 2 MB on disk, open or closed")
  func tiny() async throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    func bytesOnDisk() throws -> Int {
      var bytes = 0
      for name in try FileManager.default.subpathsOfDirectory(atPath: path) {
        var status = stat()
        if unsafe stat("\(path)/\(name)", &status) == 0 { bytes += Int(status.st_blocks) * 512 }
      }
      return bytes
    }
    let store = try await Store.open(at: path)
    for number in 0..<100 { try await store.put(String(repeating: "v", count: 100), for: "key \(number)") }
    #expect(try bytesOnDisk() <= 2_000_000)
    try await store.close()
    #expect(try bytesOnDisk() <= 2_000_000)
    let again = try await Store.open(at: path)
    #expect(try bytesOnDisk() <= 2_000_000)
    try await again.close()
  }

  /// `KVSYNC_PLATEAU` has the number of changes of the long run, with the sizes of a real store.
  @Test("Written to and acknowledged for ever, the log, the tail and the index stop growing")
  func plateau() async throws {
    var random = SeededGenerator()
    let scratch = try Scratch()
    let long = Int(ProcessInfo.processInfo.environment["KVSYNC_PLATEAU"] ?? "")
    var options = Store.Options()
    if long == nil {
      options.segmentBytes = 256 << 10
      options.generationBytes = 1 << 20
      options.logRetention = .acknowledged(bytes: 1 << 20)
    }
    let changes = long ?? 100_000
    let keys = long == nil ? 1_500 : changes / 100
    let store = try await Store.open(at: scratch.path("store"), options: options)
    let value = [UInt8](repeating: 0x61, count: 100)
    var half = Sizes()
    var largest = Sizes()
    var behind = Sizes()
    for commit in 0..<changes / 1_000 {
      let chosen = (0..<1_000).map { _ in random.below(keys) }
      let deletes = commit % 10 == 9
      try await store.write { transaction in
        for key in chosen {
          if deletes { try transaction.delete("key \(key)") } else { try transaction.put(value, for: "key \(key)") }
        }
      }
      let state = store.replicaState()
      _ = try await store.acknowledge(
        Acknowledgement(through: state.local.version, exceptions: [], head: 1), digest: state.local.digest,
        localChanges: state.pendingChanges, localBytes: state.pendingBytes, epoch: Identity(high: 1, low: 1))
      if commit % (changes / 1_000 / 50) == 0 {
        behind.include(try store.information())
        // How far the folder is behind depends on what else the machine does; what is left when it is done does not.
        largest.include(long == nil ? try await settled(store, options.generationBytes) : try store.information())
      }
      if commit == changes / 2_000 { half = largest }
    }
    print("bytes at half \(half), in all \(largest), before the folder was done \(behind)")
    #expect(Double(largest.log) <= Double(half.log) * 1.1, "log \(half.log) then \(largest.log)")
    #expect(Double(largest.tail) <= Double(half.tail) * 1.1, "tail \(half.tail) then \(largest.tail)")
    // A small index varies by some pages, for its free list.
    let pages = long == nil ? 32 << 12 : 0
    #expect(Double(largest.index) <= Double(half.index + pages) * 1.1, "index \(half.index) then \(largest.index)")
    if long == nil {
      let generations = StoreLimits.sealedGenerations + 1
      #expect(behind.log <= (1 << 20) + generations * (1 << 20) + (3 << 20))
      #expect(behind.tail <= generations << 20)
    }
    try await store.close()
  }

  private struct Sizes {
    var log = 0
    var tail = 0
    var index = 0

    mutating func include(_ now: StoreInformation) {
      (log, tail, index) = (max(log, now.logBytes), max(tail, now.tailBytes), max(index, now.indexBytes))
    }
  }

  /// What there is when the folder has nothing to do: one generation, and the log that nothing holds back.
  private func settled(_ store: Store, _ generationBytes: Int) async throws -> StoreInformation {
    let deadline = ContinuousClock.now + .seconds(20)
    var last = try store.information()
    while true {
      try await Task.sleep(for: .milliseconds(2))
      let now = try store.information()
      if now.tailBytes <= generationBytes, now == last { return now }
      try #require(ContinuousClock.now < deadline, "the folder does not come to an end: \(now)")
      last = now
    }
  }
}
