// Snapshots: what they show, how long, and what they hold back.

import Foundation
import KVLog
import KVStore
import Synchronization
import TestSupport
import Testing

@Suite struct ReadingTests {
  @Test("A read that begins after a write returned sees it, whatever was read just before, on every thread")
  func readsAreCurrent() async throws {
    let scratch = try Scratch()
    let store = try await Store.open(at: scratch.path("store"))
    await withThrowingTaskGroup { group in
      for task in 0..<4 {
        group.addTask {
          for round in 0..<150 {
            #expect(try text(store.value(for: "k\(task)")) == (round == 0 ? nil : "\(round - 1)"))
            // Large enough to go through several generations of the tail, and folds, meanwhile.
            try await store.write { transaction in
              try transaction.put("\(round)", for: "k\(task)")
              try transaction.put([UInt8](repeating: 1, count: 5_000), for: "filler\(task)/\(round)")
            }
            #expect(try text(store.value(for: "k\(task)")) == "\(round)")
          }
        }
      }
    }
    try await store.close()
  }

  @Test("A scan that outlives its read goes on in the state of then, beside reads that see the present")
  func scanOutlivesRead() async throws {
    let scratch = try Scratch()
    let store = try await Store.open(at: scratch.path("store"))
    for index in 0..<100 { try await store.put("old", for: "k\(index)") }
    var scans = try (0..<3).map { _ in try store.read { try $0.scan() } }
    for index in 0..<100 { try await store.put("new", for: "k\(index)") }
    for index in scans.indices {
      #expect(Set(try contents(store).values.map { text($0) }) == ["new"])
      var values: Set<String> = []
      while let row = scans[index].next() { values.insert(row.valueText) }
      #expect(values == ["old"])
    }
    scans = []
    try await store.close()
    try await Store.open(at: scratch.path("store")).close()
  }

  @Test("A snapshot is never used by two reads at once, and one that a write overtook by none after it")
  func snapshotsAreNotShared() throws {
    let scratch = try Scratch()
    let store = try Store.openBlocking(at: scratch.path("store"))
    let kept = try store.read { $0 }
    try store.read { outer in
      #expect(outer !== kept)
      try store.read { #expect($0 !== outer && $0 !== kept) }
      try store.putBlocking("v", for: "k")
      #expect(try outer.value(for: "k") == nil)
    }
    #expect(text(try store.value(for: "k")) == "v")
    #expect(try kept.value(for: "k") == nil)
    try store.closeBlocking()
  }

  @Test("Reads that ended hold nothing back: the index grows no further with them than without")
  func readsHoldNothingBack() async throws {
    func indexBytes(reading: Bool) async throws -> Int {
      let scratch = try Scratch()
      let store = try await Store.open(at: scratch.path("store"))
      for round in 0..<60 {
        for part in 0..<4 {
          try await store.write { transaction in
            for key in 0..<150 {
              try transaction.put([UInt8](repeating: UInt8(round), count: 700), for: "key \(part * 150 + key)")
            }
          }
          if reading { _ = try store.value(for: "key 1") }
        }
      }
      try await store.close()
      let size = try FileManager.default.attributesOfItem(atPath: scratch.path("store/index.mdb"))[.size]
      return try #require(size as? Int)
    }
    let quiet = try await indexBytes(reading: false)
    let busy = try await indexBytes(reading: true)
    #expect(busy < quiet * 3 / 2, "\(busy) bytes with reads, \(quiet) without")
  }

  @Test("Reads in a cancelled task are carried out as in any other, and so are writes that were submitted")
  func cancelledTask() async throws {
    let scratch = try Scratch()
    let store = try await Store.open(at: scratch.path("store"))
    try await store.put("v", for: "k")
    let task = Task {
      while !Task.isCancelled { await Task.yield() }
      #expect(text(try store.value(for: "k")) == "v")
      #expect(try store.read { try $0.scan().map(\.keyText) } == ["k"])
      #expect(try store.count() == 1)
      try await store.put("w", for: "k")
      _ = try await store.write { try $0.put("x", for: "l") }
      // What goes on from commit to commit stops.
      await #expect(throws: CancellationError.self) { try await store.deleteRange(prefix: "") }
    }
    task.cancel()
    try await task.value
    #expect(try contents(store) == [Array("k".utf8): Array("w".utf8), Array("l".utf8): Array("x".utf8)])
    try await store.close()
  }

  @Test(
    "A store that is closed under its readers lets each finish in its own state, and refuses those that come after",
    arguments: [false, true])
  func closedUnderReaders(isFolded: Bool) async throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    var opened = try await Store.open(at: path)
    try await opened.write { transaction in
      for number in 0..<2_000 { try transaction.put([UInt8](repeating: 1, count: 200), for: "k\(number)") }
    }
    if isFolded {
      // Then closing changes nothing, and a snapshot of before looks as good as new.
      try await opened.close()
      opened = try await Store.open(at: path)
    }
    let store = opened
    // Outlives its read, and the store.
    var scan: Scan? = try store.read { try $0.scan() }
    let isReading = Gate()
    let isClosed = Gate()
    let reader = RunningThread {
      try store.read { snapshot throws in
        isReading.open()
        isClosed.wait()
        #expect(try snapshot.count(prefix: "k") == 2_000)
        #expect(try snapshot.value(for: "k7")?.count == 200)
        #expect(throws: StoreError.self) { try store.value(for: "k7") }
      }
    }
    isReading.wait()
    try await store.close()
    for refused in [{ _ = try store.value(for: "k7") }, { _ = try store.count() }, { _ = try store.read { $0 } }] {
      let error = #expect(throws: StoreError.self) { try refused() }
      #expect(error?.code == .closed)
    }
    // The files are still in use.
    await #expect(throws: StoreError.self) { try await Store.open(at: path) }
    isClosed.open()
    try reader.join()
    var rows = 0
    while scan?.next() != nil { rows += 1 }
    #expect(rows == 2_000)
    scan = nil
    let again = try await Store.open(at: path)
    #expect(try again.count() == 2_000)
    try await again.close()
  }

  @Test("A damaged value is an error for whoever reads it; its key, and who looks at keys alone, can go on")
  func damagedValue() throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    var store = try Store.openBlocking(at: path)
    let value = (0..<3_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    for number in 0..<5 { try store.putBlocking(number == 2 ? value : [1], for: "k\(number)") }
    let version = try store.version(of: "k2")
    try store.closeBlocking()
    var file = try Data(contentsOf: URL(fileURLWithPath: path + "/index.mdb"))
    let found = try #require(file.range(of: Data(value)))
    file[found.lowerBound + 1_500] ^= 4
    try file.write(to: URL(fileURLWithPath: path + "/index.mdb"))
    store = try Store.openBlocking(at: path)
    let error = #expect(throws: StoreError.self) { try store.value(for: "k2") }
    #expect(error?.code == .corrupt && error?.path == path && error?.message.contains("k2") == true)
    #expect(throws: StoreError.self) { try store.entry(for: "k2") }
    #expect(throws: StoreError.self) { try store.read { try $0.scan().map(\.keyText) } }
    #expect(try store.contains("k2") && store.version(of: "k2") == version)
    #expect(try store.read { try Array($0.keys()).count } == 5)
    #expect(try store.count(prefix: "k") == 5)
    #expect(try store.value(for: "k3") == [1])
    try store.closeBlocking()
  }

  /// `KVSYNC_VALUES` has the number of values of the long run: more than the tail holds, so that the folder is behind.
  @Test("Values of 16 MiB, one after the other, hold up neither reads nor small writes of other threads")
  func largeValuesDoNotStall() async throws {
    let count = Int(ProcessInfo.processInfo.environment["KVSYNC_VALUES"] ?? "") ?? 5
    let scratch = try Scratch()
    let store = try await Store.open(at: scratch.path("store"))
    try await store.put("v", for: "small")
    let large = [UInt8](repeating: 3, count: LogLimits.maximumValueBytes)
    let disk = try (0..<3).map { _ in try timeToWrite(large, to: scratch.path("plain")) }.max() ?? .zero
    let (probe, began) = (SchedulingProbe(disk: scratch.path), monotonicMicroseconds())
    let reads = RepeatingThread {
      let bytes = try store.value(for: "small")?.count
      #expect(bytes == 1)
    }
    let writes = RepeatingThread { try store.putBlocking("w", for: "small", durability: .relaxed) }
    var values: [Duration] = []
    for number in 0..<count {
      let start = ContinuousClock.now
      try await store.put(large, for: "large\(number % 4)")
      values.append(ContinuousClock.now - start)
    }
    let later = try (0..<3).map { _ in try timeToWrite(large, to: scratch.path("plain")) }.max() ?? .zero
    let (read, write, value) = (try reads.end(), try writes.end(), Latencies(values))
    print("read \(read); small write \(write); value \(value); 16 MiB written to the disk \(disk), later \(later)")
    // Reads wait for nobody, whatever the folder has to do; on a machine that runs other tests too they wait for a core.
    let late = Duration.microseconds(probe.worst(since: began))
    #expect(read.percentile99 < .milliseconds(20) + late, "\(read), late by \(late)")
    #expect(read.longest < .milliseconds(250) + late * 2, "\(read), late by \(late)")
    // A write waits for the group that is under way, and for what shares its own.
    #expect(
      write.longest < max(.seconds(1), max(disk, later) * 5) + late * 2,
      "\(write), the disk \(disk) and \(later), late by \(late)")
    #expect(
      value.longest < max(.seconds(1), max(disk, later) * 5) + late * 2,
      "\(value), the disk \(disk) and \(later), late by \(late)")
    #expect(try store.value(for: "large\((count - 1) % 4)") == large)
    try await store.close()
  }
}

/// What the disk takes for so many bytes, in the middle of whatever else it has to do.
private func timeToWrite(_ bytes: [UInt8], to path: String) throws -> Duration {
  let start = ContinuousClock.now
  let file = try PosixFileSystem().open(path, .create)
  try file.write(bytes.bytes, at: 0)
  try file.synchronizeData()
  return ContinuousClock.now - start
}

/// How long many calls took.
private struct Latencies: CustomStringConvertible {
  private let sorted: [Duration]

  init(_ durations: [Duration]) { sorted = durations.sorted() }

  var count: Int { sorted.count }
  var median: Duration { sorted[count / 2] }
  var percentile99: Duration { sorted[count * 99 / 100] }
  var longest: Duration { sorted[count - 1] }
  var description: String { "\(count): median \(median), 99 % \(percentile99), longest \(longest)" }
}

/// A thread that calls its body again and again until it is told to end.
private final class RepeatingThread: Sendable {
  private let isOver = Atomic(false)
  private let durations = Mutex<[Duration]>([])
  private let thread = Mutex<RunningThread?>(nil)

  init(_ body: @escaping @Sendable () throws -> Void) {
    let running = RunningThread { [self] in
      while !isOver.load(ordering: .acquiring) {
        let start = ContinuousClock.now
        try body()
        let took = ContinuousClock.now - start
        durations.withLock { $0.append(took) }
        usleep(500)
      }
    }
    thread.withLock { $0 = running }
  }

  func end() throws -> Latencies {
    isOver.store(true, ordering: .releasing)
    try thread.withLock { $0 }?.join()
    return Latencies(durations.withLock { $0 })
  }
}

/// Holds threads until it is opened.
private final class Gate: Sendable {
  private let isOpen = DispatchSemaphore(value: 0)

  func open() { isOpen.signal() }

  func wait() { isOpen.wait() }
}

/// A thread whose end, and error, can be waited for.
private final class RunningThread: @unchecked Sendable {
  // Sound to send: `error` is written before the signal and read after it.
  private let ended = DispatchSemaphore(value: 0)
  private var error: (any Error)?

  init(_ body: @escaping @Sendable () throws -> Void) {
    Thread { [self] in
      do { try body() } catch { self.error = error }
      ended.signal()
    }.start()
  }

  func join() throws {
    ended.wait()
    if let error { throw error }
  }
}
