// The lease of the one process that replicates, when it is lost in the middle of a session.

import KVLog
import TestSupport
import Testing

@testable import KVStore

@Suite struct LeaseTests {
  @Test("Who has lost the lease to another process records nothing of its session, whatever the hub says")
  func lost() async throws {
    let fixture = try await HubFixture()
    let hub = fixture.hub
    let (mine, theirs) = (try fixture.replica("mine"), try fixture.replica("theirs"))
    try await mine.put("mine", for: "k")
    try await fixture.exchange.settle([mine, theirs], policy: .lastWriterWins)
    try await theirs.put("theirs", for: "l")
    try await fixture.exchange.settle([theirs], policy: .lastWriterWins)
    try await mine.put("pending", for: "m")
    let all = KeyInterval(from: [], end: nil)
    let page = try hub.page(of: all, for: mine.incarnation, maximumBytes: 1 << 20)
    let feed = try #require(try hub.feedSegment(after: 1, excluding: mine.incarnation, maximumBytes: 1 << 20))
    let epoch = hub.incarnation
    let local = mine.replicaState().local
    try await mine.beginSession()
    // What another process does that takes this one for dead.
    let core = try mine.core()
    _ = core.memory.takeLease(core.process + 1, at: monotonicMilliseconds())
    let before = mine.state
    let steps: [(name: String, take: () async throws -> Void)] = [
      (
        "an acknowledgement",
        {
          _ = try await mine.acknowledge(
            Acknowledgement(through: local.version, exceptions: [], head: 3), digest: local.digest, localChanges: 1,
            localBytes: 8, epoch: epoch)
        }
      ),
      ("a feed", { _ = try await mine.apply(feed, epoch: epoch, policy: .lastWriterWins) }),
      ("a page", { _ = try await mine.load(page, policy: .lastWriterWins) }),
      ("a lapse", { _ = try await mine.lapse() }),
      ("another name", { _ = try await mine.becomeNewIncarnation() }),
      (
        "a roll-back",
        {
          _ = try await mine.rollBack(
            to: .start(of: .random()), in: epoch, shipped: 0, digest: .origin(of: epoch), head: 2)
        }
      ),
      ("what was restored", { _ = try await mine.recordRestored(through: nil, declined: [], head: 0) }),
      ("another space", { _ = try await mine.adopt(space: .random(), head: .start(of: .random())) }),
    ]
    for step in steps {
      let error = await #expect(throws: StoreError.self, "\(step.name)") { try await step.take() }
      #expect(error?.code == .inUse, "\(step.name)")
      #expect(mine.state == before, "\(step.name)")
    }
    mine.endSession()
    try await fixture.exchange.settle([mine, theirs], policy: .lastWriterWins)
    #expect(try contents(mine) == contents(hub) && contents(mine).count == 3)
  }
}
