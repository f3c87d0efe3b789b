// What a replicator tells those who listen to it, over real stores, hubs and sockets.

import KVHub
import KVLog
import KVStore
import TestSupport
import Testing

@testable import KVReplicator

@Suite struct EventsTests {
  /// What was heard, added up.
  private struct Heard {
    var added = 0
    var sent = 0
    var acknowledged = 0
    var acknowledgedThrough: Version = 0
    var conflicts = 0
    var caughtUp = 0
    var retrying: [ReplicatorError.Code] = []
    var states: [String] = []
    var count = 0

    mutating func add(_ event: ReplicatorEvent) {
      count += 1
      switch event {
      case .added(_, let changes): added += changes
      case .sent(_, let changes): sent += changes
      case .acknowledged(let versions, let changes):
        #expect(versions.lowerBound > acknowledgedThrough, "acknowledgements follow one another")
        acknowledgedThrough = versions.upperBound
        acknowledged += changes
      case .conflicts(let number): conflicts += number
      case .caughtUp: caughtUp += 1
      case .retrying(let error, _): retrying.append(error.code)
      case .stateChanged(let state): states.append(state.name)
      default: break
      }
    }
  }

  /// Hears events until the condition holds.
  private func hear(
    _ iterator: inout Replicator.Events.Iterator, _ heard: inout Heard, until isEnough: (Heard) -> Bool
  ) async {
    while !isEnough(heard), let event = await iterator.next() { heard.add(event) }
  }

  @Test("Each listener hears of what is added, sent, acknowledged and caught up, of conflicts, retries and states")
  func story() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let proxy = try await CuttingProxy.start(to: hub)
    let (a, b) = (try await bench.store("a"), try await bench.store("b"))
    try await b.put("theirs", for: "contested")
    _ = try await Replicator(b, hub: hub.address()).syncOnce()
    let replicator = Replicator(
      a, hub: HubAddress(host: "127.0.0.1", port: proxy.port, space: "space"), configuration: .small)
    var first = replicator.events.makeAsyncIterator()
    var second = replicator.events.makeAsyncIterator()
    try await a.put("mine", for: "contested")
    for number in 0..<50 { try await a.put("v", for: "\(number)") }
    let running = Task { try await replicator.run() }
    var heard = Heard()
    await hear(&first, &heard) { $0.caughtUp == 1 && $0.added >= 51 && $0.states.last == "live" }
    // The conflict's resolution is a change of its own.
    #expect(heard.acknowledged >= 51 && heard.sent >= heard.acknowledged && heard.conflicts == 1)
    #expect(heard.states.contains("live") && heard.acknowledgedThrough > 0)
    proxy.cut()
    await hear(&first, &heard) { $0.retrying.count >= 1 && $0.caughtUp == 2 }
    #expect(heard.retrying.allSatisfy { $0 == .unreachable })
    running.cancel()
    try await running.value
    try await a.close()
    await hear(&first, &heard) { _ in false }
    // Who comes late hears of the same, in a few words.
    var late = Heard()
    await hear(&second, &late) { _ in false }
    #expect((late.added, late.acknowledged, late.conflicts) == (heard.added, heard.acknowledged, heard.conflicts))
    #expect(late.count <= ReplicatorEvent.kindCount && heard.count > late.count)
    try await proxy.close()
    await hub.shutdown()
  }

  @Test("A listener that goes is forgotten, and one that is cancelled ends")
  func listeners() async throws {
    let bench = try Workbench()
    let store = try await bench.store("a")
    let hub = try await bench.hub()
    let replicator = Replicator(store, hub: try hub.address())
    #expect(replicator.listenerCount == 0)
    do {
      let events = replicator.events
      let statuses = replicator.statuses
      #expect(replicator.listenerCount == 2)
      withExtendedLifetime((events, statuses)) {}
    }
    #expect(replicator.listenerCount == 0)
    let listening = Task { [events = replicator.events] in
      for await _ in events {}
      return true
    }
    listening.cancel()
    #expect(await listening.value)
    await hub.shutdown()
  }

  @Test("Sequences end when the replicator goes")
  func end() async throws {
    let bench = try Workbench()
    let store = try await bench.store("a")
    let hub = try await bench.hub()
    var events: Replicator.Events?
    do {
      let replicator = Replicator(store, hub: try hub.address())
      events = replicator.events
    }
    if let events { for await _ in events {} }
    await hub.shutdown()
  }

  @Test("What another process, or another handle of the program, writes is told as added, with its versions")
  func added() async throws {
    let bench = try Workbench()
    let store = try await bench.store("a")
    let hub = try await bench.hub()
    let replicator = Replicator(store, hub: try hub.address())
    var events = replicator.events.makeAsyncIterator()
    for _ in 0..<3 { try await store.put("v", for: "k") }
    var changes = 0
    var through: Version = 0
    while through < 3, let event = await events.next() {
      guard case .added(let versions, let count) = event else { continue }
      #expect(versions.lowerBound == through + 1)
      through = versions.upperBound
      changes += count
    }
    #expect(changes == 3)
    await hub.shutdown()
  }
}
