import Foundation
import KVLog
import KVStore
import LMDB
import Synchronization
import TestSupport
import Testing

/// Several processes with one store open.
@Suite(.serialized) struct SharingTests {
  private func open(_ path: String) async throws -> Store {
    var options = Store.Options()
    // So small that segments and generations come and go all the time.
    options.segmentBytes = 16 << 10
    options.generationBytes = 192 << 10
    options.leaseMilliseconds = 500
    return try await Store.open(at: path, options: options)
  }

  private func start(_ arguments: String...) async throws -> ChildProcess {
    let child =
      switch arguments.count {
      case 2: try ChildProcess(arguments[0], arguments[1])
      case 3: try ChildProcess(arguments[0], arguments[1], arguments[2])
      case 4: try ChildProcess(arguments[0], arguments[1], arguments[2], arguments[3])
      default: try ChildProcess(arguments[0], arguments[1], arguments[2], arguments[3], arguments[4])
      }
    let answer = try await child.line()
    #expect(answer == "open")
    return child
  }

  @Test("A write that returned in one process is read by the next read in another, both ways")
  func visibility() async throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    let store = try await open(path)
    let echo = try await start("echo", path)
    for round in 0..<300 {
      try await store.put("\(round)", for: "key", durability: round % 2 == 0 ? .durable : .relaxed)
      try echo.send("key")
      #expect(try await echo.line() == "\(round)")
    }
    let writer = try await start("write", path, "w", "0")
    for _ in 0..<300 {
      let number = (try await writer.line()).split(separator: " ")[0]
      let seen = try #require(Int(text(try store.value(for: "left/w")) ?? ""))
      #expect(seen >= Int(number)!)
    }
    await writer.kill()
    try echo.endInput()
    #expect(try await echo.line() == "closed")
    try await store.close()
    #expect(try Store.verify(at: path).keys > 300)
  }

  /// `KVSYNC_KILLS` has the number of kills of the long run.
  @Test("Killed at random while three processes write: nothing acknowledged is lost, nobody held up, no reader stays")
  func kills() async throws {
    var generator = SeededGenerator()
    let scratch = try Scratch()
    let probe = SchedulingProbe(disk: scratch.path)
    let path = scratch.path("store")
    let kills = Int(ProcessInfo.processInfo.environment["KVSYNC_KILLS"] ?? "") ?? 60
    var acknowledged: [String: Set<Int>] = [:]
    var stalls: [Int] = []
    var dead: Set<Int32> = []
    func collect(_ child: ChildProcess, _ name: String) {
      dead.insert(child.identifier)
      for line in child.takeLines() {
        let words = line.split(separator: " ").compactMap { Int($0) }
        guard let number = words.first else { continue }
        acknowledged[name, default: []].insert(number)
        if words.count > 1 { stalls.append(words[1] * 1_000) }
      }
    }
    let names = ["a", "b", "c"]
    var children: [ChildProcess] = []
    for name in names { children.append(try ChildProcess("write", path, name, "0")) }
    // Keeps the store open throughout, so that survivors have to find out what the dead have left.
    let store = try await open(path)
    let start = monotonicMicroseconds()
    let arrivals = Mutex<[String: Int]>([:])
    let observer = Task {
      for try await change in store.changes(after: store.counters().localVersion) where change.keyText == "survivor" {
        let value = text(change.value) ?? ""
        arrivals.withLock { $0[value] = monotonicMicroseconds() }
        if value == "end" { break }
      }
    }
    /// When the survivor's writes had returned.
    var returned: [String: Int] = [:]
    var staleReaders = 0
    /// The first number that each of the three writes.
    var first = [0, 0, 0]
    func put(_ value: String) async throws {
      let began = monotonicMicroseconds()
      try await store.put(value, for: "survivor")
      let now = monotonicMicroseconds()
      stalls.append(now - began)
      returned[value] = now
    }
    for round in 0..<kills {
      try await Task.sleep(for: .microseconds(Int.random(in: 0..<60_000, using: &generator)))
      let victim = Int.random(in: 0..<3, using: &generator)
      await children[victim].kill()
      collect(children[victim], names[victim])
      if try store.readingProcesses().contains(children[victim].identifier) { staleReaders += 1 }
      // An unacknowledged write may be there or not: the next one has another number.
      let next = (acknowledged[names[victim]]?.max() ?? -1) + 1_000
      let relaxed = Bool.random(using: &generator)
      first[victim] = next
      children[victim] =
        relaxed
        ? try ChildProcess("write", path, names[victim], "\(next)", "relaxed")
        : try ChildProcess("write", path, names[victim], "\(next)")
      let began = monotonicMicroseconds()
      try store.read { snapshot in
        for name in names {
          let (left, right) = (try snapshot.value(for: "left/\(name)"), try snapshot.value(for: "right/\(name)"))
          #expect(left == right)
        }
      }
      stalls.append(monotonicMicroseconds() - began)
      try await put("\(round)")
    }
    // All three write, and so read, when they die for good.
    for (index, name) in names.enumerated() {
      let deadline = ContinuousClock.now + .seconds(10)
      while (acknowledged[name]?.max() ?? -1) < first[index], ContinuousClock.now < deadline {
        try await Task.sleep(for: .milliseconds(5))
        collect(children[index], name)
      }
    }
    for (name, child) in zip(names, children) {
      await child.kill()
      collect(child, name)
    }
    for name in names {
      let last = try #require(acknowledged[name]?.max())
      let value = try #require(Int(text(try store.value(for: "left/\(name)")) ?? ""))
      #expect(value >= last)
    }
    try await put("end")
    try await observer.value
    for (value, moment) in returned { stalls.append(try #require(arrivals.withLock { $0[value] }) - moment) }
    let longest = try #require(stalls.max())
    let late = probe.worst(since: start)
    #expect(
      longest < 1_000_000 + 2 * late,
      "\(longest) us, a thread or the disk late by \(late) us; seed \(generator.seed)")

    // Whoever folds next frees the readers of the dead, and whoever writes makes somebody fold.
    #expect(staleReaders > 0, "no process was killed while it held a snapshot")
    let value = [UInt8](repeating: 0, count: 8_000)
    for number in 0..<60 { try await store.put(value, for: "filling/\(number)", durability: .relaxed) }
    let deadline = ContinuousClock.now + .seconds(5)
    while try !store.readingProcesses().isDisjoint(with: dead), ContinuousClock.now < deadline {
      try await Task.sleep(for: .milliseconds(20))
    }
    #expect(try store.readingProcesses().intersection(dead).isEmpty)

    try await store.close()
    let again = try await open(path)
    let rows = try again.read { snapshot in try snapshot.scan(prefix: "row/").map(\.key) }
    var numbers: [String: Set<Int>] = [:]
    for key in rows {
      let parts = String(decoding: key, as: UTF8.self).split(separator: "/")
      numbers[String(parts[1]), default: []].insert(Int(parts[2])!)
    }
    for (name, all) in acknowledged {
      let lost = all.subtracting(numbers[name] ?? [])
      #expect(lost.isEmpty, "of \(all.count) writes of \(name): \(lost.sorted()); seed \(generator.seed)")
    }
    print("kills: \(kills), acknowledged: \(acknowledged.mapValues(\.count)), longest wait: \(longest) us")
    try await again.close()
    _ = try Store.verify(at: path)
  }

  @Test("An observer hears of each commit of another process within 50 ms, durable or relaxed, and sleeps in between")
  func observation() async throws {
    let probe = SchedulingProbe()
    let scratch = try Scratch()
    let path = scratch.path("store")
    let store = try await open(path)
    let follower = try await start("follow", path)
    #expect(try await follower.line() == "following")
    for round in 0..<50 {
      let began = monotonicMicroseconds()
      try await store.put("x", for: "k\(round)", durability: round % 2 == 0 ? .durable : .relaxed)
      let returned = monotonicMicroseconds()
      let words = try await follower.line().split(separator: " ")
      #expect(words[0] == "k\(round)")
      let arrival = try #require(Int(words[1]))
      // The thread that watches is woken, and wakes the one that runs the task, which may have to be started.
      let allowance = 3 * probe.worst(since: began, through: arrival)
      #expect(arrival - returned < 50_000 + allowance, "round \(round): \(arrival - returned) us")
      try await Task.sleep(for: .milliseconds(10))
    }
    try await store.put("x", for: "quiet")
    #expect(try await follower.line().hasPrefix("quiet "))
    try await Task.sleep(for: .seconds(3))
    try await store.put("x", for: "end")
    #expect(try await follower.line().hasPrefix("end "))
    let usage = try await follower.line().split(separator: " ").compactMap { Int($0) }
    #expect(usage[0] < 30_000, "microseconds of processor time in 3 s of silence")
    #expect(usage[1] < 20, "voluntary switches in 3 s of silence")
    try await store.close()
  }

  @Test("What a process wrote relaxed before it was killed is made durable by one that only has the store open")
  func relaxedLeftBehind() async throws {
    var generator = SeededGenerator()
    let scratch = try Scratch()
    let probe = SchedulingProbe(disk: scratch.path)
    let path = scratch.path("store")
    let files = FaultyFileSystem()
    var options = Store.Options()
    options.fileSystem = files
    let store = try await Store.open(at: path, options: options)
    for round in 0..<6 {
      let child = try await start("write", path, "a", "\(round * 100_000)", "relaxed")
      _ = try await child.line()
      try await Task.sleep(for: .microseconds(Int.random(in: 0..<80_000, using: &generator)))
      let killed = monotonicMicroseconds()
      await child.kill()
      let last = child.takeLines().last
      while try store.durableVersion < store.counters().localVersion {
        try #require(monotonicMicroseconds() < killed + 5_000_000, "what was left is never made durable")
        try await Task.sleep(for: .milliseconds(1))
      }
      // The last of its synchronisations was it, if the dead process had left anything. That may have been a while ago: on a
      // busy machine the system takes its time to bury a process.
      let durable = files.synchronizationTimes.withLock { $0.last } ?? killed
      let allowance = 4 * probe.worst(since: killed - 100_000, through: durable)
      #expect(durable - killed < 100_000 + allowance, "\(durable - killed) us, seed \(generator.seed)")
      if let last { #expect(Int(text(try store.value(for: "left/a")) ?? "-1")! >= Int(last.split(separator: " ")[0])!) }
    }
    let count = files.synchronizationTimes.withLock { $0.count }
    #expect(count > 0)
    // Once that is done there is nothing to do.
    try await Task.sleep(for: .milliseconds(300))
    #expect(files.synchronizationTimes.withLock { $0.count } == count)
    try await store.close()
    _ = try Store.verify(at: path)
  }

  /// `KVSYNC_SNAPSHOT` has the number of changes of the long run, in which the snapshot is held for two minutes at least.
  @Test(
    "A snapshot of another process keeps its state while all is rewritten, and is named with its age and what it holds")
  func oldSnapshot() async throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    let long = Int(ProcessInfo.processInfo.environment["KVSYNC_SNAPSHOT"] ?? "")
    let changes = long ?? 60_000
    let store = try await open(path)
    let filler = try await start("fill", path, "20000")
    #expect(try await filler.line() == "filled")
    #expect(try await filler.line() == "closed")
    let start = ContinuousClock.now
    let holder = try await self.start("hold", path)
    #expect(try await holder.line() == "holding")
    let writing = ContinuousClock.now
    let parts = long == nil ? 3 : 10
    var ages: [Double] = []
    var held: [Int] = []
    for part in 1...parts {
      let second = try await self.start("fill", path, "\(changes / parts)")
      #expect(try await second.line(within: 600) == "filled")
      #expect(try await second.line(within: 60) == "closed")
      if let long, long > 0 {
        while ContinuousClock.now - writing < .seconds(120) * part / parts { try await Task.sleep(for: .seconds(1)) }
      }
      let oldest = try #require(try store.information().oldestReader)
      #expect(oldest.process == holder.identifier)
      // It is as old as what it shows, and was noticed when the first fold after it was made.
      #expect(oldest.seconds <= (ContinuousClock.now - start) / .seconds(1))
      #expect(oldest.seconds >= (ContinuousClock.now - writing) / .seconds(1) / 2)
      ages.append(oldest.seconds)
      held.append(oldest.heldBytes)
    }
    #expect(held.allSatisfy { $0 > 0 } && held.sorted() == held, "\(held) bytes")
    #expect(zip(ages, ages.dropFirst()).allSatisfy { $0 < $1 }, "\(ages) seconds")
    print("held for \(ages) seconds: \(held) bytes")
    try holder.send("")
    #expect(try await holder.line(within: 60) == "same")
    #expect(try await holder.line() == "closed")
    #expect(try store.information().oldestReader == nil)
    // The last to close is one that has not written since others have: it must leave their log alone.
    let version = store.counters().localVersion
    try await store.close()
    let report = try Store.verify(at: path)
    #expect(report.lastVersion == version && version == UInt64(20 + changes / 1_000))
  }

  @Test(
    "A process dies at each step of writing, sealing and beginning a segment: the others go on, and nothing is torn")
  func everyStep() async throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    let store = try await open(path)
    var first = 0
    var acknowledged = -1
    var last = ""
    for step in 0..<120 {
      let child = try ChildProcess("die", path, "a", "\(first)", "\(step)")
      while let line = try? await child.line() {
        if let number = line.split(separator: " ").first.flatMap({ Int($0) }) {
          acknowledged = max(acknowledged, number)
        }
      }
      let (left, right) = try store.read { (text(try $0.value(for: "left/a")), text(try $0.value(for: "right/a"))) }
      #expect(left == right)
      #expect(Int(left ?? "-1")! >= acknowledged, "step \(step)")
      last = "\(step)"
      try await store.put(last, for: "survivor")
      first = Int(left ?? "-1")! + 1
    }
    #expect(acknowledged > 100)
    try await store.close()
    let report = try Store.verify(at: path)
    #expect(report.logSegments > 3)
    let again = try await open(path)
    #expect(text(try again.value(for: "survivor")) == last)
    try await again.close()
  }

  @Test("A snapshot is of one moment while another process writes, seals and folds")
  func oneMoment() async throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    let store = try await open(path)
    let writer = try await start("equal", path)
    #expect(try await writer.line() == "0")
    let deadline = ContinuousClock.now + .seconds(3)
    var newest = 0
    while ContinuousClock.now < deadline {
      for line in writer.takeLines() { newest = Int(line) ?? newest }
      let values = try store.read { snapshot in
        Set(try (0..<40).map { text(try snapshot.value(for: "equal/\($0)")) })
      }
      #expect(values.count == 1)
      #expect(Int(values.first.flatMap { $0 } ?? "-1")! >= newest)
    }
    #expect(newest > 50)
    await writer.kill()
    try await store.close()
    _ = try Store.verify(at: path)
  }

  @Test("One process replicates: others are refused, or replace a dead or a frozen one, which then does no harm")
  func lease() async throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    let store = try await open(path)
    try await store.put("1", for: "pending")
    let holder = try await start("session", path)
    #expect(try await holder.line() == "session")
    try await Task.sleep(for: .milliseconds(700))
    await #expect { try await store.beginSession() } throws: { ($0 as? StoreError)?.code == .inUse }
    await holder.kill()
    try await store.beginSession()
    store.endSession()
    let frozen = try await start("session", path)
    #expect(try await frozen.line() == "session")
    frozen.signal(SIGSTOP)
    await #expect { try await store.beginSession() } throws: { ($0 as? StoreError)?.code == .inUse }
    try await Task.sleep(for: .milliseconds(600))
    try await store.beginSession()
    frozen.signal(SIGCONT)
    try frozen.send("acknowledge")
    #expect(try await frozen.line() == "refused inUse")
    #expect(store.counters().pendingChanges == 1)
    try frozen.endInput()
    #expect(try await frozen.line() == "closed")
    // The one that woke up has not ended the lease of its successor.
    let third = try await start("session", path)
    #expect(try await third.line() == "refused inUse")
    #expect(try await third.line() == "closed")
    store.endSession()
    try await store.close()
  }

  @Test("A disk that fails one process stops the writes of all; reads go on, and reopening recovers")
  func poisonedElsewhere() async throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    let store = try await open(path)
    try await store.put("acknowledged", for: "key")
    let waiting = Task { try await store.put("1", for: "pending").acknowledged() }
    let child = try await start("fail", path)
    #expect(try await child.line() == "poisoned")
    #expect(try await child.line().hasPrefix("closed"))
    await #expect { try await store.put("refused", for: "other") } throws: { ($0 as? StoreError)?.code == .poisoned }
    await #expect { try await waiting.value } throws: { ($0 as? StoreError)?.code == .poisoned }
    #expect(text(try store.value(for: "key")) == "acknowledged")
    try await store.close()
    let again = try await open(path)
    #expect(["acknowledged", "outcome unknown"].contains(text(try again.value(for: "key"))))
    try await again.put("works", for: "other")
    try await again.close()
    _ = try Store.verify(at: path)
  }

  @Test("A forked child is refused, with an error that says so, and its parent goes on")
  func forked() async throws {
    let scratch = try Scratch()
    let child = try await start("fork", scratch.path("store"))
    #expect(try await child.line() == "child inUse inUse inUse inUse inUse")
    for _ in 0..<2 { #expect(try await child.line().hasPrefix("this process is a forked child of ")) }
    #expect(!FileManager.default.fileExists(atPath: scratch.path("store-another")))
    #expect(try await child.line() == "parent after 0")
    #expect(try await child.line() == "closed")
  }

  @Test("A process that is killed at closing or opening leaves a store that opens")
  func killedAtTheDoor() async throws {
    var generator = SeededGenerator()
    let scratch = try Scratch()
    let path = scratch.path("store")
    let store = try await open(path)
    try await store.put("kept", for: "key")
    try await store.close()
    for _ in 0..<25 {
      let child = try ChildProcess("echo", path)
      if Bool.random(using: &generator) { try child.endInput() }
      try await Task.sleep(for: .microseconds(Int.random(in: 0..<30_000, using: &generator)))
      await child.kill()
    }
    let again = try await open(path)
    #expect(text(try again.value(for: "key")) == "kept")
    try await again.close()
  }
}
