// What runs on the event loop of a connection: tasks begun from anywhere, messages that leave at once or wait, and the turn of
// others.

import KVLog
import KVProtocol
import KVTransport
import Synchronization
import TestSupport
import Testing

private final class Counter: Sendable {
  private let count = Atomic(0)
  var value: Int { count.load(ordering: .relaxed) }
  func increment() { count.add(1, ordering: .relaxed) }
}

@Suite(.timeLimit(.minutes(2))) struct EventLoopTests {
  private func feed(_ number: Int, _ records: [UInt8]) -> Message {
    .feed(
      Feed(
        segment: CommitSegment(
          after: Version(number), through: Version(number + 1), digest: .zero, records: records, changeCount: 1),
        head: 0))
  }

  @Test(arguments: SeededGenerator.seeds(3, from: 1))
  func `messages leave in the order in which they are posted, at once or not, from any thread`(seed: UInt64)
    async throws
  {
    var random = SeededGenerator(seed: seed)
    let link = try await Link()
    // Of some the socket takes only a part, and some do not fit into a frame.
    let messages = (0..<600).map { number in
      feed(number, random.bytes(random.chance(3) ? 1_000_000...2_500_000 : 0...20_000))
    }
    let (hops, yields) = (messages.map { _ in random.chance(20) }, messages.map { _ in random.chance(30) })
    let outbox = Outbox(of: link.near)
    let (atOnce, later) = (Counter(), Counter())
    let sending = Task(executorPreference: link.near.executor) {
      try await outbox.run { _ in later.increment() }
      await link.near.finish(within: .seconds(60))
    }
    let posting = Task(executorPreference: link.near.executor) {
      for (index, message) in messages.enumerated() {
        let posted =
          hops[index]
          ? await withTaskExecutorPreference(globalConcurrentExecutor) { outbox.post(message) } : outbox.post(message)
        if case .sent = posted { atOnce.increment() }
        if yields[index] { await Task.yield() }
      }
      outbox.finish()
    }
    var received: [Message] = []
    for try await message in link.far.messages {
      received.append(message)
      if received.count.isMultiple(of: 50) { try await Task.sleep(for: .milliseconds(5)) }
    }
    await posting.value
    try await sending.value
    #expect(received == messages, "seed \(seed)")
    #expect(atOnce.value > 0 && later.value > 0 && atOnce.value + later.value == messages.count)
    link.listener.close()
  }

  @Test func `of too many messages that wait the next is dropped, and the sender told`() async throws {
    let link = try await Link()
    let outbox = Outbox(of: link.near)
    var posted = 0
    // Nobody sends them.
    while case .waiting = outbox.post(.ping(1)) { posted += 1 }
    #expect((1...10_000).contains(posted))
    link.near.close()
    link.listener.close()
  }

  @Test func `a task that gives way lets the sockets of its loop be read`() async throws {
    let link = try await Link()
    let isDone = Mutex(false)
    let busy = Task(executorPreference: link.far.executor) {
      while !isDone.withLock({ $0 }) { await link.far.executor.yield() }
    }
    try await link.near.send(.ping(7))
    var messages = link.far.messages.makeAsyncIterator()
    #expect(try await messages.next() == .ping(7))
    isDone.withLock { $0 = true }
    await busy.value
    link.near.close()
    link.listener.close()
  }

  @Test func `a connection of which many messages have come leaves others of its loop their turn`() async throws {
    let link = try await Link()
    let count = 20_000
    for number in 0..<count { try await link.near.send(.ping(UInt64(number))) }
    let received = Counter()
    let watching = Task(executorPreference: link.far.executor) {
      var (longest, before) = (0, 0)
      while before < count, !Task.isCancelled {
        await link.far.executor.yield()
        longest = max(longest, received.value - before)
        before = received.value
      }
      return longest
    }
    let receiving = Task(executorPreference: link.far.executor) {
      for try await _ in link.far.messages { received.increment() }
    }
    // Its own turn comes just after, or just before.
    #expect(await watching.value <= 2 * ProtocolLimits.messagesPerTurn)
    link.near.close()
    _ = await receiving.result
    link.listener.close()
  }

  @Test func `tasks begin in their order, are cancelled together, and none outlives the end`() async throws {
    let link = try await Link()
    let tasks = ConnectionTasks(of: link.near)
    let seen = Mutex<[String]>([])
    let (gate, open) = AsyncStream<Void>.makeStream()
    for number in 0..<100 {
      tasks.start {
        seen.withLock { $0.append("\(number)") }
        if number == 99 { open.finish() }
        try? await Task.sleep(for: .seconds(600))
        seen.withLock { $0.append(Task.isCancelled ? "cancelled" : "waited") }
      }
    }
    for await _ in gate {}
    #expect(seen.withLock { $0 } == (0..<100).map { "\($0)" })
    tasks.cancel()
    tasks.start { seen.withLock { $0.append(Task.isCancelled ? "late" : "not cancelled") } }
    await tasks.end()
    let ended = seen.withLock { $0 }
    #expect(ended.count == 201 && ended.count { $0 == "cancelled" } == 100 && ended.contains("late"))
    tasks.start { seen.withLock { $0.append("after the end") } }
    try await Task.sleep(for: .milliseconds(50))
    #expect(seen.withLock { $0.count } == 201)
    link.near.close()
    link.listener.close()
  }
}
