// A replica that comes back while the hub is not yet through with its former connection.

import HubTestSupport
import KVLog
import KVProtocol
import KVTransport
import Synchronization
import Testing

@testable import KVHub

@Suite(.timeLimit(.minutes(1))) struct TakeoverTests {
  private func withHub(_ storage: any HubStorage, _ body: (Hub) async throws -> Void) async throws {
    let hub = Hub(engine: storage, options: Hub.Options())
    try await hub.start()
    do { try await body(hub) } catch {
      await hub.shutdown()
      throw error
    }
    await hub.shutdown()
  }

  @Test func `who takes over is welcomed when nothing is being stored for the former connection, and told of it`()
    async throws
  {
    let storage = HesitantStorage()
    try await withHub(storage) { hub in
      var replica = TestReplica()
      replica.put("k", "v")
      let former = try await TestClient(hub)
      // Another direction is the same replica all the same.
      try await former.greet(replica.hello(.push))
      storage.hesitate()
      try await former.send(
        .push(Push(segment: replica.segment(after: 0, through: 1), cursor: 0, confirmed: 0)))
      await storage.asked()
      let next = try await TestClient(hub)
      let last = try await TestClient(hub)
      try await next.send(.hello(replica.hello([.push, .pull])))
      #expect(try await former.refusal().code == .replaced)
      async let welcome = last.greet(replica.hello([.push, .pull]))
      #expect(try await next.refusal().code == .replaced, "it was waiting, and was taken over in its turn")
      try await Task.sleep(for: .milliseconds(100))
      storage.proceed()
      #expect(try await welcome.lastApplied == 1)
      #expect(try await welcome.head.version == 1)
    }
  }

  @Test func `a shutdown does not wait for somebody who waits to take over`() async throws {
    let storage = HesitantStorage()
    var options = Hub.Options()
    options.shutdownLimit = .milliseconds(200)
    let hub = Hub(engine: storage, options: options)
    try await hub.start()
    var replica = TestReplica()
    replica.put("k", "v")
    let former = try await TestClient(hub)
    try await former.greet(replica.hello(.push))
    storage.hesitate()
    try await former.send(.push(Push(segment: replica.segment(after: 0, through: 1), cursor: 0, confirmed: 0)))
    await storage.asked()
    let next = try await TestClient(hub)
    try await next.send(.hello(replica.hello(.push)))
    #expect(try await former.refusal().code == .replaced)
    async let shutdown: Void = hub.shutdown()
    while try await next.next() != nil {}
    storage.proceed()
    await shutdown
    #expect(hub.connectionCount == 0)
  }

  @Test func `a copy that is refused leaves the session of its original alone`() async throws {
    try await withHub(InMemoryHubStorage()) { hub in
      var original = TestReplica()
      original.put("k", "v")
      let client = try await TestClient(hub)
      try await client.greet(original.hello([.push, .pull]))
      _ = try await client.push(original, after: 0, through: 1)
      var copy = TestReplica(copying: original)
      copy.put("k", "x")
      let other = try await TestClient(hub)
      try await other.send(.hello(copy.hello([.push, .pull], shipped: 1)))
      #expect(try await other.refusal().code == .replicaRestored)
      original.put("k", "w")
      #expect(try await client.push(original, after: 1, through: 2).through == 2)
    }
  }

  @Test func `comparing takes over from nobody, and nobody from it`() async throws {
    try await withHub(InMemoryHubStorage()) { hub in
      var replica = TestReplica()
      replica.put("k", "v")
      let first = try await TestClient(hub)
      try await first.greet(replica.hello([.push, .pull]))
      let comparing = [try await TestClient(hub), try await TestClient(hub)]
      for client in comparing { try await client.greet(replica.hello(.compare)) }
      _ = try await first.push(replica, after: 0, through: 1)
      for client in comparing {
        try await client.send(.rowsRequest(RowsRequest(after: nil)))
        guard case .rows(let rows)? = try await client.next() else {
          Issue.record("no rows")
          return
        }
        #expect(rows.rows.count == 1)
      }
    }
  }

  @Test func `a replica that is refused and takes nothing of what is sent to it is not waited for`() async throws {
    try await withHub(InMemoryHubStorage()) { hub in
      var writer = TestReplica()
      // Far more than the replica's side takes in unread, and than the system keeps for it.
      for count in 0..<16 { writer.commit([("k\(count)", String(repeating: "x", count: 2 << 20))]) }
      let feeding = try await TestClient(hub)
      try await feeding.greet(writer.hello(.push))
      for count in 0..<16 { _ = try await feeding.push(writer, after: Version(count), through: Version(count + 1)) }
      feeding.connection.close()
      let deaf = try await TestClient(hub)
      var hello = TestReplica().hello(.pull)
      hello.credit = 1 << 30
      try await deaf.greet(hello)
      try await Task.sleep(for: .milliseconds(300))
      try await deaf.send(.rowsRequest(RowsRequest(after: nil)))
      let deadline = ContinuousClock.now + .seconds(20)
      while hub.connectionCount > 0, ContinuousClock.now < deadline { try await Task.sleep(for: .milliseconds(50)) }
      #expect(hub.connectionCount == 0)
      deaf.connection.close()
    }
  }
}

/// Spaces in memory that take their time to store something.
private final class HesitantStorage: HubStorage {
  private let storage = InMemoryHubStorage()
  private let gate = Gate()

  func hesitate() { gate.isOpen.withLock { $0 = false } }
  func proceed() { gate.isOpen.withLock { $0 = true } }
  func asked() async {
    while gate.waiting.withLock({ $0 }) == 0 { try? await Task.sleep(for: .milliseconds(2)) }
  }

  func space(named name: String, creating: Bool) async throws -> any HubSpace {
    HesitantSpace(space: try storage.space(named: name, creating: creating), gate: gate)
  }

  func close() async throws { storage.close() }
}

private final class Gate: Sendable {
  let isOpen = Mutex(true)
  let waiting = Mutex(0)

  /// A disk does not hear of a cancellation.
  func pass() async {
    waiting.withLock { $0 += 1 }
    while !isOpen.withLock({ $0 }) {
      await Task.detached { try? await Task.sleep(for: .milliseconds(2)) }.value
    }
  }
}

private struct HesitantSpace: HubSpace {
  let space: any HubSpace
  let gate: Gate

  func head() throws -> Position { try space.head() }
  func formerEpochs() throws -> [Position] { try space.formerEpochs() }
  func beginEpoch(after epoch: Identity, through version: Version) async throws {
    try await space.beginEpoch(after: epoch, through: version)
  }
  func restore(_ restoration: Restoration) async throws -> RestorationOutcome { try await space.restore(restoration) }
  func retentionFloor() throws -> Version { try space.retentionFloor() }
  func digest(at version: Version) throws -> Digest? { try space.digest(at: version) }
  func progress(of replica: Identity) throws -> ReplicaProgress? { try space.progress(of: replica) }
  func owner(of replica: Identity, claimedBy principal: String?) throws -> String? {
    try space.owner(of: replica, claimedBy: principal)
  }
  func page(of interval: KeyInterval, for replica: Identity, deletions: Bool, maximumBytes: Int) throws -> SnapshotPage
  {
    try space.page(of: interval, for: replica, deletions: deletions, maximumBytes: maximumBytes)
  }

  func feedAtHand(_ request: FeedRequest, maximumBytes: Int) throws -> CommitSegment?? { nil }

  func feed(_ request: FeedRequest, maximumBytes: Int) throws -> CommitSegment? {
    try space.feed(request, maximumBytes: maximumBytes)
  }
  func advance(beyond version: Version) async throws -> Version { try await space.advance(beyond: version) }
  func rows(after key: [UInt8]?, maximumBytes: Int) throws -> Rows {
    try space.rows(after: key, maximumBytes: maximumBytes)
  }
  func versions(of keys: [[UInt8]]) throws -> [Version?] { try space.versions(of: keys) }
  func admit(
    _ push: PushSegment, from replica: Identity, confirmed: Version
  ) async throws -> Acknowledgement {
    await gate.pass()
    return try await space.admit(push, from: replica, confirmed: confirmed)
  }
}
