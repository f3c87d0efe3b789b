// Liveness: a link that is dead, and a hub that answers and does nothing, are found; a slow link is neither.

import KVHub
import KVLog
import KVProtocol
import KVStore
import KVTransport
import NIOCore
import TestSupport
import Testing

@testable import KVReplicator

@Suite struct StallTests {
  /// A session that has pushed and hears nothing of it.
  private struct Waiting {
    var store = ModelStore(identity: Identity(high: 1, low: 1))
    var session: ReplicaSession
    var sent: [Message] = []
    var ending: ReplicatorError??

    init(mode: SessionMode = .push, head: Version = 0, stallLimit: Duration = .seconds(60)) {
      store.write([ModelStore.Change(key: [1], value: [1])], clock: 1)
      var configuration = ReplicaSession.Configuration(space: "space", mode: mode, isLive: true)
      configuration.stallLimit = stallLimit
      session = ReplicaSession(configuration, state: store.replicaState)
      tell(.connected)
      let welcome = Welcome(
        space: Identity(high: 9, low: 9),
        head: Position(identity: Identity(high: 9, low: 9), version: head, digest: .zero), lastApplied: 0,
        appliedDigest: .origin(of: store.identity), common: .start(of: .zero), unconfirmed: [], retentionFloor: 0)
      tell(.received(.welcome(welcome)))
      // The space is new to the store.
      store.follow(.start(of: Identity(high: 9, low: 9)), in: Identity(high: 9, low: 9), shipped: 0)
      tell(.rolledBack(store.replicaState))
      if mode.contains(.push) {
        tell(.pushRead(store.nextPush(after: 0, maximumBytes: 1 << 20), state: store.replicaState))
        tell(.pushRead(nil, state: store.replicaState))
      }
    }

    mutating func tell(_ event: ReplicaSession.Event) {
      for action in session.handle(event) {
        switch action {
        case .send(let message): sent.append(message)
        case .end(let error): ending = .some(error)
        default: break
        }
      }
    }

    /// The pings that were sent so far.
    var pings: [UInt64] { sent.compactMap { if case .ping(let number) = $0 { number } else { nil } } }
    var error: ReplicatorError? { ending ?? nil }
  }

  @Test(
    "A hub that answers and owes is given a minute from when nothing is on its way any more; the error names what it owes",
    arguments: [
      (SessionMode.push, Version(0), "decision on what was pushed through version 1"),
      (.pull, 7, "what it has after version 0"),
    ])
  func stuck(mode: SessionMode, head: Version, owed: String) {
    var waiting = Waiting(mode: mode, head: head)
    waiting.tell(.pushSent(bytes: 100))
    var elapsed = Duration.zero
    while waiting.ending == nil, elapsed < .seconds(600) {
      elapsed += .seconds(5)
      waiting.tell(.tick(silence: .seconds(1), elapsed: elapsed))
      for number in waiting.pings { waiting.tell(.received(.pong(number))) }
    }
    #expect(waiting.error?.code == .stalled && waiting.error?.isTransient == true)
    #expect(waiting.error?.message.contains(owed) == true, "\(waiting.error?.message ?? "")")
    #expect(elapsed >= .seconds(60) && elapsed <= .seconds(75), "\(elapsed)")
  }

  @Test("What is still on its way is given the time that the slowest link needs, and what arrives starts it over")
  func slow() {
    // No pong comes back: what was pushed may still be on its way.
    var waiting = Waiting()
    waiting.session.push.inFlight[0].chargedBytes = 1 << 20
    var elapsed = Duration.zero
    while waiting.ending == nil, elapsed < .seconds(4_000) {
      elapsed += .seconds(5)
      waiting.tell(.tick(silence: .seconds(1), elapsed: elapsed))
    }
    #expect(waiting.error?.code == .stalled)
    #expect(elapsed >= .seconds(60 + 1_024), "\(elapsed)")
    // A long message trickles in: for ever, if need be.
    var trickling = Waiting(mode: .pull, head: 3)
    for step in 1...2_000 {
      trickling.tell(.tick(silence: .seconds(1), elapsed: .seconds(step * 5), receivedBytes: step * 5 * 1_024))
    }
    #expect(trickling.ending == nil)
    // Pings of the hub alone are no progress.
    var pinged = Waiting(mode: .pull, head: 3)
    for step in 1...100 where pinged.ending == nil {
      pinged.tell(.received(.ping(UInt64(step))))
      pinged.tell(.tick(silence: .zero, elapsed: .seconds(step * 5), receivedBytes: step * 20))
      if let last = pinged.pings.last { pinged.tell(.received(.pong(last))) }
    }
    #expect(pinged.error?.code == .stalled)
  }

  @Test("Who is owed nothing may be idle for ever, and so may a session that is pausing")
  func idle() {
    var idle = Waiting(mode: .pull)
    for step in 1...1_000 {
      idle.tell(.tick(silence: .seconds(1), elapsed: .seconds(step * 5)))
    }
    #expect(idle.ending == nil && idle.pings.isEmpty)
  }

  @Test("By default a silent link is found after thirty seconds, to the tick")
  func defaults() {
    let configuration = ReplicaSession.Configuration(space: "space", mode: [.push, .pull], isLive: true)
    #expect(configuration.idleLimit == .seconds(30) && configuration.heartbeatInterval == .seconds(10))
    #expect(Replicator.Configuration().idleLimit == .seconds(30))
  }

  @Test("A link that swallows everything is found when the limit is over, and the next one goes on")
  func halfOpen() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let proxy = try await SwallowingProxy.start(to: hub)
    let store = try await bench.store("a")
    // Long beside the moments that a busy machine takes from a process, which are silence too.
    var configuration = Replicator.Configuration.small
    configuration.heartbeatInterval = .milliseconds(500)
    configuration.idleLimit = .milliseconds(1_500)
    let replicator = Replicator(
      store, hub: HubAddress(host: "127.0.0.1", port: proxy.port, space: "space"), configuration: configuration)
    let running = Task { try await replicator.run() }
    try await replicator.caughtUp()
    let probe = SchedulingProbe(disk: bench.path)
    let start = monotonicMicroseconds()
    var events = replicator.events.makeAsyncIterator()
    proxy.swallow(true)
    // With or without something to send: nobody answers.
    try await store.put("v", for: "k")
    var reason: ReplicatorError?
    while reason == nil, let event = await events.next() {
      if case .retrying(let error, _) = event { reason = error }
    }
    let took = ContinuousClock.now - proxy.lastToReplica
    #expect(reason?.code == .unreachable && reason?.message.contains("nothing was heard") == true)
    let late = Duration.microseconds(probe.worst(since: start))
    #expect(took + late >= .milliseconds(1_500), "\(took), late by \(late)")
    #expect(took < .milliseconds(3_000) + late * 3, "\(took), late by \(late)")
    proxy.swallow(false)
    try await eventually { store.counters().pendingChanges == 0 }
    running.cancel()
    try await running.value
    try await proxy.close()
    await hub.shutdown()
  }

  @Test("A hub that answers pings and decides nothing is left for a new connection, again and again")
  func watchdog() async throws {
    let bench = try Workbench()
    let store = try await bench.store("a")
    try await store.put("v", for: "k")
    let listener = try await Listener.bind(host: "127.0.0.1", port: 0)
    let hub = Task {
      await withDiscardingTaskGroup { group in
        for await connection in listener.connections {
          group.addTask { try? await Self.answerOnly(connection, store) }
        }
      }
    }
    var configuration = Replicator.Configuration.small
    configuration.heartbeatInterval = .milliseconds(50)
    configuration.stallLimit = .milliseconds(200)
    let replicator = Replicator(
      store, hub: HubAddress(host: "127.0.0.1", port: listener.localPort, space: "space"),
      configuration: configuration)
    var events = replicator.events.makeAsyncIterator()
    let running = Task { try await replicator.run() }
    var reasons: [ReplicatorError] = []
    while reasons.count < 2, let event = await events.next() {
      if case .retrying(let error, _) = event { reasons.append(error) }
    }
    for reason in reasons {
      #expect(reason.code == .stalled && reason.message.contains("decision"), "\(reason)")
    }
    running.cancel()
    try await running.value
    hub.cancel()
    listener.close()
  }

  private static func answerOnly(_ connection: Connection, _ store: Store) async throws {
    for try await message in connection.messages {
      switch message {
      case .hello:
        connection.establish(outboundFrameBytes: 1 << 20)
        var welcome = Welcome(
          space: Identity(high: 9, low: 9),
          head: Position(identity: Identity(high: 7, low: 7), version: 0, digest: .zero), lastApplied: 0,
          appliedDigest: .origin(of: store.identity), common: .start(of: .zero), unconfirmed: [], retentionFloor: 0)
        welcome.covered = store.replicaState().covered
        try await connection.send(.welcome(welcome))
      case .ping(let number): try await connection.send(.pong(number))
      default: break
      }
    }
  }
}
