import Foundation
import KVLog
import KVStore
import LMDB
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

  private func start(_ arguments: String...) throws -> ChildProcess {
    let child =
      switch arguments.count {
      case 2: try ChildProcess(arguments[0], arguments[1])
      case 3: try ChildProcess(arguments[0], arguments[1], arguments[2])
      case 4: try ChildProcess(arguments[0], arguments[1], arguments[2], arguments[3])
      default: try ChildProcess(arguments[0], arguments[1], arguments[2], arguments[3], arguments[4])
      }
    #expect(try child.line() == "open")
    return child
  }

  @Test("A write that returned in one process is read by the next read in another, both ways")
  func visibility() async throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    let store = try await open(path)
    let echo = try start("echo", path)
    for round in 0..<300 {
      try await store.put("\(round)", for: "key", durability: round % 2 == 0 ? .durable : .relaxed)
      try echo.send("key")
      #expect(try echo.line() == "\(round)")
    }
    let writer = try start("write", path, "w", "0")
    for _ in 0..<300 {
      let number = try writer.line().split(separator: " ")[0]
      let seen = try #require(Int(text(try store.value(for: "left/w")) ?? ""))
      #expect(seen >= Int(number)!)
    }
    writer.kill()
    try echo.endInput()
    #expect(try echo.line() == "closed")
    try await store.close()
    #expect(try Store.verify(at: path).keys > 300)
  }

  @Test("Killed at random while three processes write: nothing acknowledged is lost or torn, no survivor is held up")
  func kills() async throws {
    var generator = SeededGenerator()
    let scratch = try Scratch()
    let path = scratch.path("store")
    let kills = Int(ProcessInfo.processInfo.environment["KVSYNC_KILLS"] ?? "") ?? 60
    var acknowledged: [String: Int] = [:]
    var stalls: [Int] = []
    func collect(_ child: ChildProcess, _ name: String) {
      for line in child.takeLines() {
        let words = line.split(separator: " ").compactMap { Int($0) }
        guard let number = words.first else { continue }
        acknowledged[name] = max(acknowledged[name] ?? -1, number)
        if words.count > 1 { stalls.append(words[1]) }
      }
    }
    let names = ["a", "b", "c"]
    var children: [ChildProcess] = []
    for name in names { children.append(try ChildProcess("write", path, name, "0")) }
    // Keeps the store open throughout, so that survivors have to find out what the dead have left.
    let store = try await open(path)
    for _ in 0..<kills {
      usleep(UInt32.random(in: 0..<60_000, using: &generator))
      let victim = Int.random(in: 0..<3, using: &generator)
      children[victim].kill()
      collect(children[victim], names[victim])
      // An unacknowledged write may be there or not: the next one has another number.
      let next = (acknowledged[names[victim]] ?? -1) + 1_000
      let relaxed = Bool.random(using: &generator)
      children[victim] =
        relaxed
        ? try ChildProcess("write", path, names[victim], "\(next)", "relaxed")
        : try ChildProcess("write", path, names[victim], "\(next)")
      try store.read { snapshot in
        for name in names {
          let (left, right) = (try snapshot.value(for: "left/\(name)"), try snapshot.value(for: "right/\(name)"))
          #expect(left == right)
        }
      }
      try await store.put("here", for: "survivor")
    }
    for (name, child) in zip(names, children) {
      child.kill()
      collect(child, name)
    }
    for name in names {
      let last = try #require(acknowledged[name])
      let value = try #require(Int(text(try store.value(for: "left/\(name)")) ?? ""))
      #expect(value >= last)
    }
    try await store.put("end", for: "survivor")
    #expect(stalls.filter { $0 > 1_000 }.isEmpty, "seed \(generator.seed)")
    // No reader of the dead is left once somebody has looked.
    _ = try store.information()
    try await store.close()
    let again = try await open(path)
    let rows = try again.read { snapshot in try snapshot.scan(prefix: "row/").map(\.key) }
    var numbers: [String: Set<Int>] = [:]
    for key in rows {
      let parts = String(decoding: key, as: UTF8.self).split(separator: "/")
      numbers[String(parts[1]), default: []].insert(Int(parts[2])!)
    }
    for (name, last) in acknowledged { #expect(numbers[name]?.contains(last) == true, "\(name) \(last)") }
    try await again.close()
    _ = try Store.verify(at: path)
  }

  @Test("An observer hears of another process's commits at once, and sleeps in between")
  func observation() async throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    let store = try await open(path)
    let follower = try start("follow", path)
    usleep(200_000)
    var delays: [Duration] = []
    for round in 0..<50 {
      try await store.put("x", for: "k\(round)")
      let start = ContinuousClock.now
      #expect(try follower.line() == "k\(round)")
      delays.append(ContinuousClock.now - start)
      usleep(20_000)
    }
    try await store.put("x", for: "end")
    #expect(try follower.line() == "end")
    let processorMilliseconds = try #require(Int(try follower.line()))
    #expect(delays.sorted()[delays.count * 9 / 10] < .milliseconds(50))
    // More than a second has passed, in a process built without optimisation.
    #expect(processorMilliseconds < 700)
    try await store.close()
  }

  @Test("A snapshot of another process keeps its state while all is rewritten, and is named with what it holds back")
  func oldSnapshot() async throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    let store = try await open(path)
    let filler = try start("fill", path, "20000")
    #expect(try filler.line() == "filled")
    #expect(try filler.line() == "closed")
    let holder = try start("hold", path)
    #expect(try holder.line() == "holding")
    let second = try start("fill", path, "40000")
    #expect(try second.line(within: 60) == "filled")
    let oldest = try #require(try store.information().oldestReader)
    #expect(oldest.process == holder.identifier)
    #expect(oldest.heldBytes > 0)
    try holder.send("")
    #expect(try holder.line() == "same")
    #expect(try holder.line() == "closed")
    #expect(try second.line() == "closed")
    #expect(try store.information().oldestReader == nil)
    // The last to close is one that has not written since others have: it must leave their log alone.
    let version = store.counters().localVersion
    try await store.close()
    let report = try Store.verify(at: path)
    #expect(report.lastVersion == version && version == 60)
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
      while let line = try? child.line() {
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
    let writer = try start("equal", path)
    #expect(try writer.line() == "0")
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
    writer.kill()
    try await store.close()
    _ = try Store.verify(at: path)
  }

  @Test("One process replicates: others are refused, or replace a dead or a frozen one, which then does no harm")
  func lease() async throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    let store = try await open(path)
    try await store.put("1", for: "pending")
    let holder = try start("session", path)
    #expect(try holder.line() == "session")
    usleep(700_000)
    await #expect { try await store.beginSession() } throws: { ($0 as? StoreError)?.code == .inUse }
    holder.kill()
    try await store.beginSession()
    store.endSession()
    let frozen = try start("session", path)
    #expect(try frozen.line() == "session")
    frozen.signal(SIGSTOP)
    await #expect { try await store.beginSession() } throws: { ($0 as? StoreError)?.code == .inUse }
    usleep(600_000)
    try await store.beginSession()
    frozen.signal(SIGCONT)
    try frozen.send("acknowledge")
    #expect(try frozen.line() == "refused inUse")
    #expect(store.counters().pendingChanges == 1)
    try frozen.endInput()
    #expect(try frozen.line() == "closed")
    // The one that woke up has not ended the lease of its successor.
    let third = try start("session", path)
    #expect(try third.line() == "refused inUse")
    #expect(try third.line() == "closed")
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
    let child = try start("fail", path)
    #expect(try child.line() == "poisoned")
    #expect(try child.line().hasPrefix("closed"))
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

  @Test("A forked child is refused, with an error, and its parent goes on")
  func forked() async throws {
    let scratch = try Scratch()
    let child = try start("fork", scratch.path("store"))
    #expect(try child.line() == "child inUse inUse inUse")
    #expect(try child.line() == "parent after 0")
    #expect(try child.line() == "closed")
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
      usleep(UInt32.random(in: 0..<30_000, using: &generator))
      child.kill()
    }
    let again = try await open(path)
    #expect(text(try again.value(for: "key")) == "kept")
    try await again.close()
  }
}
