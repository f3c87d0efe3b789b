// What is pending again, or offered from rows, when a store and its hub no longer have the same history: straight between stores.

import KVLog
import Synchronization
import TestSupport
import Testing

@testable import KVStore

@Suite struct LostHistoryTests {
  private let fixture: HubFixture

  init() async throws { fixture = try await HubFixture() }

  /// A hub that has nothing.
  private func emptyHub() async throws -> Store {
    try await Store.open(at: fixture.scratch.path("another hub"), options: Store.Options())
  }

  @Test(
    "If the log loses more of its beginning while it is looked at, that begins again: what went is offered from the rows"
  )
  func logGoesMeanwhile() async throws {
    let mine = try fixture.replica("mine", Expiry.options)
    for key in 0..<5 { try await mine.put("\(key)", for: "key/\(key)") }
    try await fixture.exchange.settle([mine], policy: .lastWriterWins)
    let look = { @Sendable (state: StoreState) in try LostHistory(after: 0, shipped: 0, state, in: mine) }
    let early = try look(mine.state)
    try await Expiry(hub: fixture.hub).expire(mine, beyond: 5)
    let hub = try await emptyHub()
    let looks = Mutex(0)
    _ = try await mine.mend { state in
      try looks.withLock { count in
        count += 1
        return count == 1 ? early : try look(state)
      }
    } record: { group, lost in
      group.append(
        lost.rollback(
          to: .start(of: hub.identity), in: hub.identity, digest: .origin(of: mine.incarnation), head: 0, group.state))
    }
    #expect(looks.withLock { $0 } == 2)
    _ = try await mine.recordRestored(through: nil, declined: [], head: 0)
    try await Exchange(hub: hub, segmentBytes: 256 << 10).settle([mine], policy: .lastWriterWins)
    #expect(try contents(hub) == contents(mine))
    #expect(mine.counters().pendingChanges == 0)
  }

  @Test("What was pending when a space was adopted, and the space has lost, is pending again, and counted")
  func adoptedSpaceIsRestored() async throws {
    let mine = try fixture.replica("mine")
    try await mine.put("first", for: "shared")
    try await fixture.exchange.settle([mine], policy: .lastWriterWins)
    for key in 0..<3 { try await mine.put("\(key)", for: "key/\(key)") }
    let hub = try await emptyHub()
    _ = try await mine.adopt(space: hub.identity, head: .start(of: hub.identity))
    let exchange = Exchange(hub: hub)
    while try await exchange.push(mine) {}
    #expect(mine.counters().pendingChanges == 0 && hub.counters().localVersion == 4)
    _ = try await mine.rollBack(
      to: .start(of: .random()), in: hub.identity, shipped: 0, digest: .origin(of: mine.incarnation), head: 0)
    #expect(mine.counters().pendingChanges == 4)
  }

  @Test(
    "What its author's copy brings back without the version that it had is fed to the author, and has none that is told"
  )
  func versionIsForgotten() async throws {
    let (mine, hub) = (try fixture.replica("mine"), fixture.hub)
    try await mine.put("lost", for: "k")
    let push = try #require(try PushReader(mine, history: .every).next(after: 0, maximumBytes: 1 << 20))
    try await hub.beginEpoch(after: hub.incarnation, through: 0)
    let outcome = try await hub.restore(Restoration(segment: push.segment, cursor: 0))
    #expect(outcome == RestorationOutcome(through: 1, declined: [], head: 1))
    let feed = try hub.feedSegment(after: 0, excluding: mine.incarnation, maximumBytes: 1 << 20)
    #expect(feed?.changeCount == 1)
    #expect(try hub.entry(for: "k")?.serverVersion == 0)
    for try await change in hub.changes(after: 0) {
      #expect(change.serverVersion == 0)
      break
    }
  }
}
