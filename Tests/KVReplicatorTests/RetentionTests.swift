// How long a replica may stay away: kept in the store, worked out without the hub, and told in time.

import KVHub
import KVHubEmbedded
import KVLog
import KVStore
import Synchronization
import TestSupport
import Testing

@testable import KVReplicator

@Suite("how long a replica may stay away", .timeLimit(.minutes(5)))
struct RetentionTests {
  private static let start: UInt64 = 1_700_000_000_000
  private static let day: UInt64 = 86_400_000

  private func time(_ milliseconds: UInt64) -> HybridTime { HybridTime(milliseconds: milliseconds) }

  /// A clock that is set by hand.
  private final class HandClock: Sendable {
    private let now: Mutex<UInt64>
    init(_ now: UInt64) { self.now = Mutex(now) }
    func set(_ milliseconds: UInt64) { now.withLock { $0 = milliseconds } }
    var read: @Sendable () -> UInt64 { { self.now.withLock { $0 } } }
  }

  private func serve(_ bench: Workbench, retention: Duration?) async throws -> Hub {
    let hub = Hub(storage: try EmbeddedHubStorage(directory: "\(bench.path)/hub", retention: retention))
    try await hub.start()
    return hub
  }

  @Test("A quarter of the time before it is over the warning begins, comes back at each half, and once when it is over")
  func warnings() {
    let retention = HubRetention(keeps: .seconds(8 * 86_400), lastCaughtUp: time(Self.start))
    var watch = LapseWatch()
    var told: [(at: Double, within: Duration?)] = []
    for minute in 0..<(10 * 24 * 60) as Range<UInt64> {
      let now = time(Self.start + minute * 60_000)
      guard case .lapseWarning(let within) = watch.look(retention, at: now) else { continue }
      told.append((Double(minute) / 1_440, within))
    }
    // One quarter is two days; then one, a half, … and nothing.
    #expect(told.count == 8)
    #expect(told.first.map { $0.at > 6 && $0.at < 6.01 } == true)
    #expect(told.dropFirst().first.map { $0.at > 7 && $0.at < 7.01 } == true)
    #expect(told.last?.within == .zero && told.last?.at == 8)
    #expect(told.dropLast().allSatisfy { $0.within ?? .zero > .zero })
    // A replicator that starts late says where it is.
    var late = LapseWatch()
    let almost = time(Self.start + 8 * Self.day - 1_000)
    #expect(late.look(retention, at: almost) == .lapseWarning(within: .seconds(1)))
    #expect(late.look(retention, at: almost) == nil)
    // Another session that caught up begins anew.
    let again = HubRetention(keeps: .seconds(8 * 86_400), lastCaughtUp: almost)
    #expect(late.look(again, at: almost) == nil)
    #expect(late.look(again, at: time(almost.milliseconds + 7 * Self.day)) == .lapseWarning(within: .seconds(86_400)))
  }

  @Test("A hub that keeps everything is no reason to warn, and neither is one that was never met")
  func forever() {
    var watch = LapseWatch()
    let retention = HubRetention(keeps: nil, lastCaughtUp: time(Self.start))
    #expect(watch.look(retention, at: time(Self.start + 100_000 * Self.day)) == nil)
    #expect(watch.look(nil, at: time(Self.start)) == nil)
    #expect(HubRetention(HubContact()) == nil)
    #expect(retention.keptUntil == nil && retention.remaining(at: time(0)) == .forever)
  }

  @Test("A clock that was set back says nothing: it is a warning without a time, once, and the right time again later")
  func clockSetBack() {
    var watch = LapseWatch()
    let retention = HubRetention(keeps: .seconds(8 * 86_400), lastCaughtUp: time(Self.start))
    #expect(watch.look(retention, at: time(Self.start - 1)) == .lapseWarning(within: nil))
    #expect(watch.look(retention, at: time(Self.start - 1_000 * Self.day)) == nil)
    #expect(retention.isRunningOut(at: time(0)) && retention.remaining(at: time(0)) == .unknown)
    #expect(watch.look(retention, at: time(Self.start + Self.day)) == nil)
    #expect(watch.look(retention, at: time(Self.start + 7 * Self.day)) == .lapseWarning(within: .seconds(86_400)))
    // Whatever a damaged store or a strange hub says, nothing overflows.
    for contact in [
      HubContact(levelTime: .max, retentionSeconds: .max), HubContact(levelTime: 1, retentionSeconds: .max),
      HubContact(levelTime: .max, retentionSeconds: 1),
    ] {
      let extreme = HubRetention(contact)
      for now in [0, 1, Self.start, .max] as [UInt64] {
        _ = extreme?.isRunningOut(at: time(now))
        _ = watch.look(extreme, at: time(now))
      }
      #expect(extreme?.keptUntil != nil)
    }
  }

  @Test("What the hub keeps, and when all was level, stays in the store, and a replica without a hub is warned by it")
  func offline() async throws {
    let bench = try Workbench()
    let hub = try await serve(bench, retention: .seconds(30 * 86_400))
    let address = try hub.address()
    let clock = HandClock(Self.start)
    var configuration = Replicator.Configuration.small
    configuration.clock = clock.read
    var store = try await bench.store("store")
    try await store.put("v", for: "k")
    #expect(Replicator(store, hub: address, configuration: configuration).status.hubRetention == nil)
    _ = try await Replicator(store, hub: address, configuration: configuration).syncOnce()
    try await store.close()
    await hub.shutdown()

    store = try await bench.store("store")
    let contact = store.replicaState().contact
    #expect(contact.retentionSeconds == 30 * 86_400)
    // What was on its way when the hub was last heard is not vouched for.
    #expect(contact.levelTime <= Self.start && contact.levelTime > Self.start - 10_000)
    let warned = Mutex<[Duration?]>([])
    configuration.lapseWarning = { within in warned.withLock { $0.append(within) } }
    let replicator = Replicator(store, hub: address, configuration: configuration)
    #expect(replicator.status.hubRetention?.keeps == .seconds(30 * 86_400))
    var events = replicator.events.makeAsyncIterator()
    clock.set(Self.start + 24 * Self.day)
    let running = Task { try await replicator.run() }
    func nextWarning() async -> Duration?? {
      while let event = await events.next() { if case .lapseWarning(let within) = event { return .some(within) } }
      return nil
    }
    let first = await nextWarning()
    #expect(first.map { $0.map { $0 > .seconds(5 * 86_400) && $0 <= .seconds(6 * 86_400) } } == true)
    #expect(store.replicaState().pendingChanges == 0)
    running.cancel()
    try await running.value
    #expect(warned.withLock { $0.count } == 1)
    try await store.close()
  }

  @Test("A pass that only pushes, or is cut short, does not count as having all, and one that pulls does")
  func onlyWhenLevel() async throws {
    let bench = try Workbench()
    let hub = try await serve(bench, retention: .seconds(86_400))
    let clock = HandClock(Self.start)
    var configuration = Replicator.Configuration.small
    configuration.clock = clock.read
    let other = try await bench.store("other")
    for number in 0..<60 { try await other.put([UInt8](repeating: 1, count: 200), for: "k\(number)") }
    _ = try await Replicator(other, hub: hub.address(), configuration: configuration).syncOnce()
    let store = try await bench.store("store")
    try await store.put("mine", for: "mine")
    let replicator = Replicator(store, hub: try hub.address(), configuration: configuration)
    _ = try await replicator.push()
    #expect(store.replicaState().contact.levelTime == 0)
    #expect(try await replicator.syncOnce(budget: .init(bytes: 1_000)).isCutShort)
    #expect(store.replicaState().contact.levelTime == 0)
    _ = try await replicator.pull()
    let level = store.replicaState().contact.levelTime
    #expect(level > Self.start - 10_000 && level <= Self.start)
    // A clock that was set back since: what it says now counts.
    clock.set(Self.start - Self.day)
    _ = try await replicator.syncOnce()
    #expect(store.replicaState().contact.levelTime <= Self.start - Self.day)
    try await store.close()
    try await other.close()
    await hub.shutdown()
  }

  @Test("While it is live what is noted stays young beside what is promised, and nothing is warned of")
  func live() async throws {
    let bench = try Workbench()
    let hub = try await serve(bench, retention: .seconds(64))
    let clock = HandClock(Self.start)
    var configuration = Replicator.Configuration.small
    configuration.clock = clock.read
    configuration.heartbeatInterval = .milliseconds(100)
    let store = try await bench.store("store")
    let replicator = Replicator(store, hub: try hub.address(), configuration: configuration)
    let warnings = Mutex(0)
    let counted = Task {
      for await event in replicator.events { if case .lapseWarning = event { warnings.withLock { $0 += 1 } } }
    }
    let running = Task { try await replicator.run() }
    try await eventually { store.replicaState().contact.levelTime > 0 }
    clock.set(Self.start + 40_000)
    try await eventually { store.replicaState().contact.levelTime > Self.start + 30_000 }
    running.cancel()
    try await running.value
    counted.cancel()
    #expect(warnings.withLock { $0 } == 0)
    try await store.close()
    await hub.shutdown()
  }

  @Test(
    "What is noted is written again when it has aged, when the hub says something else, or when the clock went back")
  func due() {
    let noted = HubContact(levelTime: Self.start, retentionSeconds: 64, backedUp: 5)
    var contact = noted
    #expect(!ContactKeeper.isDue(contact, after: noted))
    contact.levelTime += 1_000
    #expect(!ContactKeeper.isDue(contact, after: noted))
    contact.levelTime += 1
    #expect(ContactKeeper.isDue(contact, after: noted))
    contact.retentionSeconds = 0
    #expect(ContactKeeper.isDue(contact, after: noted))
    #expect(ContactKeeper.isDue(HubContact(levelTime: Self.start, retentionSeconds: 64, backedUp: 6), after: noted))
    #expect(ContactKeeper.isDue(HubContact(levelTime: Self.start - 1, retentionSeconds: 64, backedUp: 5), after: noted))
    let forever = HubContact(levelTime: Self.start)
    #expect(!ContactKeeper.isDue(HubContact(levelTime: Self.start + 3_600_000), after: forever))
    #expect(ContactKeeper.isDue(HubContact(levelTime: Self.start + 3_600_001), after: forever))
  }
}
