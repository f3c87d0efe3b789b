// Stores that are pointed at another space than the one they belong to: refused, or taken over there with all they hold.

import KVHub
import KVLog
import TestSupport
import Testing

@testable import KVReplicator
@testable import KVStore

@Suite("Adopting another space") struct AdoptionTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  private static var adopting: Replicator.Configuration {
    var configuration = Replicator.Configuration.small
    configuration.adoptsForeignHub = true
    return configuration
  }

  @discardableResult
  private func sync(
    _ store: Store, _ hub: Hub, _ configuration: Replicator.Configuration = .small
  ) async throws -> SyncReport {
    try await Replicator(store, hub: try hub.address(), configuration: configuration).syncOnce()
  }

  private func texts(_ store: Store) throws -> [String: String] {
    var rows: [String: String] = [:]
    for (key, value) in try contents(store) {
      rows[String(decoding: key, as: UTF8.self)] = String(decoding: value, as: UTF8.self)
    }
    return rows
  }

  /// What a replica that comes last finds on the hub: its rows, and how many changes led to them.
  private func found(on hub: Hub) async throws -> (rows: [String: String], changes: Int) {
    let last = try await bench.store("last \(UInt64.random(in: 0 ... .max))")
    let report = try await sync(last, hub)
    return (try texts(last), report.pulledChanges)
  }

  @Test("A store that belongs to a space is refused by another one, with nothing pending too, and says what is pending")
  func refused() async throws {
    let (home, foreign) = (try await bench.hub(), try await bench.hub())
    let store = try await bench.store("a")
    try await store.put("v", for: "key")
    try await sync(store, home)
    for pending in 0...2 {
      if pending > 0 { try await store.put("\(pending)", for: "pending/\(pending)") }
      let before = store.replicaState()
      let error = await #expect(throws: ReplicatorError.self) { try await sync(store, foreign) }
      #expect(error?.code == .differentHub)
      let words = [nil, "1 change stays pending", "2 changes stay pending"][pending]
      #expect(error?.message.contains(words ?? "Nothing was sent and nothing was changed here") ?? false)
      #expect(store.replicaState() == before)
    }
    #expect(try await sync(store, home).pushedChanges == 2)
    await home.shutdown()
    await foreign.shutdown()
  }

  @Test("Told to adopt, it offers everything that it holds, pending transactions whole, and belongs there")
  func adopts() async throws {
    let (home, foreign) = (try await bench.hub(), try await bench.hub())
    let (a, b) = (try await bench.store("a"), try await bench.store("b"))
    try await b.put("of b", for: "pulled")
    try await b.put("of b", for: "doomed")
    try await sync(b, home)
    try await sync(a, home)
    try await a.put("of a", for: "pushed")
    try await a.delete("doomed")
    try await sync(a, home)
    try await a.write { transaction in
      try transaction.put("1", for: "pair/1")
      try transaction.put("2", for: "pair/2")
    }
    let replicator = Replicator(a, hub: try foreign.address(), configuration: Self.adopting)
    var events = replicator.events.makeAsyncIterator()
    let former = a.incarnation
    let receipt = try await a.put("of a", for: "pushed once more")
    try await sync(a, home)
    #expect(try await receipt.acknowledged() == .applied)
    try await a.write { transaction in
      try transaction.put("v", for: "pending")
      try transaction.put("3", for: "pair/2")
    }
    let report = try await replicator.syncOnce()
    // Who asks what became of it is told of the commit that took it there.
    #expect(try a.core().fate(of: receipt.version).successors.count == 1)
    // Four rows and a deletion of the former space, and what is pending.
    #expect(report.adoptedRows == 5 && report.pushedChanges == 7 && report.pendingChanges == 0)
    #expect(a.incarnation != former && !a.counters().isAdopting)
    var adoption: SpaceAdoption?
    while adoption == nil, let event = await events.next() {
      if case .adoptedSpace(let found) = event { adoption = found }
    }
    #expect(adoption == SpaceAdoption(space: a.replicaState().hubSpace, rows: 5))
    let there = try await found(on: foreign)
    let expected = [
      "pulled": "of b", "pushed": "of a", "pair/1": "1", "pair/2": "3", "pushed once more": "of a", "pending": "v",
    ]
    #expect(there.rows == expected && there.changes == 6)
    // It is a replica of that space now, and of no other.
    try await a.put("later", for: "pushed")
    #expect(try await sync(a, foreign).pushedChanges == 1)
    let refused = await #expect(throws: ReplicatorError.self) { try await sync(a, home) }
    #expect(refused?.code == .differentHub)
    #expect(try await sync(a, foreign, Self.adopting).adoptedRows == 0)
    await home.shutdown()
    await foreign.shutdown()
  }

  @Test("What the other space has is merged by the policy, as if it had been written there, and nothing is stale twice")
  func merges() async throws {
    let (home, foreign) = (try await bench.hub(), try await bench.hub())
    let (a, c) = (try await bench.store("a"), try await bench.store("c"))
    func tick() async throws { try await Task.sleep(for: .milliseconds(3)) }
    try await a.put("older", for: "theirs wins")
    try await a.put("same", for: "equal")
    try await a.put("v", for: "deleted there")
    try await sync(a, home)
    try await tick()
    for key in ["theirs wins", "ours wins", "pending wins", "only theirs", "deleted here"] {
      try await c.put("of c", for: key)
    }
    try await c.put("same", for: "equal")
    try await c.delete("deleted there")
    try await sync(c, foreign)
    try await tick()
    try await a.put("of a", for: "ours wins")
    try await a.put("v", for: "deleted here")
    try await sync(a, home)
    try await tick()
    try await a.delete("deleted here")
    try await a.put("of a", for: "pending wins")
    // More than is fed at once, so that there is time to push what would be stale.
    for key in 0..<300 {
      try await c.put([UInt8](repeating: 1, count: 200), for: "many/\(key)")
    }
    try await tick()
    for key in 0..<300 { try await a.put([UInt8](repeating: 2, count: 200), for: "many/\(key)") }
    try await sync(c, foreign)
    let report = try await sync(a, foreign, Self.adopting)
    #expect(report.reoffered == 0 && report.pendingChanges == 0)
    let expected = [
      "theirs wins": "of c", "ours wins": "of a", "pending wins": "of a", "only theirs": "of c", "equal": "same",
    ]
    let all = try texts(a)
    #expect(all.filter { !$0.key.hasPrefix("many/") } == expected && all.count == 305)
    try await sync(c, foreign)
    #expect(try texts(c) == all)
    // The sides that lost are in the journal, those of rows that were decided long ago too.
    #expect(try a.conflicts().count == 305)
    await home.shutdown()
    await foreign.shutdown()
  }

  @Test("Cut or cancelled anywhere and told nothing more, it goes on with the space that it had adopted, each row once")
  func resumes() async throws {
    var seeded = SeededGenerator()
    let home = try await bench.hub()
    let a = try await bench.store("a")
    for key in 0..<300 { try await a.put([UInt8](repeating: 1, count: 40), for: "key/\(key)") }
    try await sync(a, home)
    for key in 0..<5 { try await a.put("pending", for: "pending/\(key)") }
    let foreign = try await bench.hub()
    let c = try await bench.store("c")
    for key in 290..<400 { try await c.put("of c", for: "key/\(key)") }
    try await sync(c, foreign)
    let proxy = try await CuttingProxy.start(to: foreign)
    let former = a.replicaState().hubSpace
    var cuts = 0
    while true {
      var limits = CuttingProxy.Limits()
      limits.toHub = Int.random(in: 100..<40_000, using: &seeded)
      proxy.limit(limits)
      var configuration = Replicator.Configuration.small
      configuration.adoptsForeignHub = a.replicaState().hubSpace == former
      let replicator = Replicator(
        a, hub: HubAddress(host: "127.0.0.1", port: proxy.port, space: "space"), configuration: configuration)
      let session = Task { _ = try await replicator.syncOnce() }
      if Bool.random(using: &seeded) {
        try await Task.sleep(for: .milliseconds(Int.random(in: 0..<30, using: &seeded)))
        session.cancel()
      }
      cuts += 1
      if case .success = await session.result { break }
      try #require(cuts < 500)
    }
    #expect(a.counters().pendingChanges == 0 && !a.counters().isAdopting)
    let there = try await found(on: foreign)
    try await sync(a, foreign)
    #expect(try texts(a) == there.rows && there.rows.count == 405)
    // 300 + 5 + 110, where 10 of both met: one side of each stands already, the other may follow once.
    #expect((405...425).contains(there.changes), "\(there.changes)")
    try await proxy.close()
    await home.shutdown()
    await foreign.shutdown()
  }

  @Test("A replicator that was told to adopt does so once: a third space at its address is refused")
  func once() async throws {
    let hubs = [try await bench.hub(), try await bench.hub(), try await bench.hub()]
    let proxy = try await CuttingProxy.start(to: hubs[0])
    let a = try await bench.store("a")
    try await a.put("v", for: "key")
    let replicator = Replicator(
      a, hub: HubAddress(host: "127.0.0.1", port: proxy.port, space: "space"), configuration: Self.adopting)
    _ = try await replicator.syncOnce()
    proxy.redirect(to: hubs[1])
    #expect(try await replicator.syncOnce().adoptedRows == 1)
    proxy.redirect(to: hubs[2])
    let refused = await #expect(throws: ReplicatorError.self) { try await replicator.syncOnce() }
    #expect(refused?.code == .differentHub)
    try await proxy.close()
    for hub in hubs { await hub.shutdown() }
  }

  @Test("Ended right after it was bound, some rows offered: the next session goes on")
  func resumesBetween() async throws {
    let (home, foreign) = (try await bench.hub(), try await bench.hub())
    let (a, c) = (try await bench.store("a"), try await bench.store("c"))
    for key in 0..<5 { try await a.put("home", for: "key/\(key)") }
    try await sync(a, home)
    try await sync(c, foreign)
    let there = c.replicaState()
    try await a.perform { group in
      try group.append(IncarnationRecord(incarnation: .random(), through: group.state.shipped))
      group.append(AdoptionRecord(space: there.hubSpace, head: try #require(there.cursor)))
      group.beginCommit(flags: .reoffer)
      try group.put(key: Array("key/0".utf8).bytes, value: Array("home".utf8).bytes)
      group.endCommit()
    }
    try await a.put("meanwhile", for: "key/1")
    try await a.close()
    let again = try await bench.store("a")
    #expect(again.counters().isAdopting)
    let refused = await #expect(throws: ReplicatorError.self) { try await sync(again, home) }
    #expect(refused?.code == .differentHub)
    #expect(try await sync(again, foreign).adoptedRows == 3)
    #expect(!again.counters().isAdopting && again.counters().pendingChanges == 0)
    let found = try await found(on: foreign)
    #expect(try texts(again) == found.rows && found.rows.count == 5 && found.changes == 5)
    await home.shutdown()
    await foreign.shutdown()
  }

  @Test("A store that comes back to its first space is held against what is there, its own former rows too")
  func comesBack() async throws {
    let (home, foreign) = (try await bench.hub(), try await bench.hub())
    let (a, b, c) = (try await bench.store("a"), try await bench.store("b"), try await bench.store("c"))
    var adopting = Self.adopting
    adopting.policy = .remoteWins
    for key in ["kept", "contested"] { try await a.put("1", for: key) }
    try await sync(a, home)
    try await sync(b, home)
    try await c.put("of c", for: "contested")
    try await c.put("of c", for: "theirs")
    try await sync(c, foreign)
    try await sync(a, foreign, adopting)
    #expect(try texts(a) == ["kept": "1", "contested": "of c", "theirs": "of c"])
    try await b.put("of b", for: "new")
    try await sync(b, home)
    try await sync(a, home, adopting)
    try await sync(b, home)
    // Here, too, what is there wins, although it was this store that once wrote it.
    let expected = ["kept": "1", "contested": "1", "theirs": "of c", "new": "of b"]
    #expect(try texts(a) == expected)
    #expect(try texts(b) == expected)
    await home.shutdown()
    await foreign.shutdown()
  }

  @Test("All replicas of a space that is gone adopt a new one in turn, and end equal, however far each had come")
  func allMove() async throws {
    var seeded = SeededGenerator()
    let home = try await bench.hub()
    let stores = [try await bench.store("0"), try await bench.store("1"), try await bench.store("2")]
    for round in 0..<60 {
      let store = try #require(stores.randomElement(using: &seeded))
      let key = "key/\(Int.random(in: 0..<20, using: &seeded))"
      if Int.random(in: 0..<4, using: &seeded) == 0 {
        try await store.delete(key)
      } else {
        try await store.put("\(round)", for: key)
      }
      if round % 7 == 0 { try await sync(store, home) }
    }
    await home.shutdown()
    let foreign = try await bench.hub()
    for _ in 0..<3 {
      for store in stores { try await sync(store, foreign, Self.adopting) }
    }
    let rows = try texts(stores[0])
    for store in stores.dropFirst() { #expect(try texts(store) == rows) }
    for store in stores { #expect(store.counters().pendingChanges == 0) }
    await foreign.shutdown()
  }

  @Test("Rows of commits that a hub refused are not offered elsewhere: they wait for the program")
  func parked() async throws {
    var options = Hub.Options()
    options.limits.valueBytes = 4
    let home = Hub(storage: InMemoryHubStorage(), options: options)
    try await home.start()
    let foreign = try await bench.hub()
    let a = try await bench.store("a")
    try await a.put("ok", for: "taken")
    try await a.put("too long", for: "refused")
    try await sync(a, home)
    try await sync(a, foreign, Self.adopting)
    #expect(a.counters().parkedCommits == 1)
    #expect(try await found(on: foreign).rows == ["taken": "ok"])
    #expect(try await a.retryAllParked() == 1)
    try await sync(a, foreign)
    #expect(try await found(on: foreign).rows == ["taken": "ok", "refused": "too long"])
    await home.shutdown()
    await foreign.shutdown()
  }

  @Test("A restored hub gets back what it lost of a space that was adopted, and nothing of the former one twice")
  func restoredAfterwards() async throws {
    let home = try await bench.hub()
    let (a, b) = (try await bench.store("a"), try await bench.store("b"))
    for key in 0..<5 { try await b.put("home", for: "home/\(key)") }
    try await sync(b, home)
    try await sync(a, home)
    await home.shutdown()
    let foreign = try await bench.hub()
    try await sync(a, foreign, Self.adopting)
    let c = try await bench.store("c")
    try await sync(c, foreign)
    try await c.put("of c", for: "new")
    try await sync(c, foreign)
    try await sync(a, foreign)
    let rows = try texts(a)
    // The log says by itself where it stood: a store that is read anew from its log has the same counters.
    let state = a.state
    try await a.close()
    let again = try await bench.store("a")
    #expect(again.state == state && state.formerThrough > 0 && !state.isAdopting)
    #expect(try texts(again) == rows)
    #expect(try again.restorationSegment(maximumBytes: 1 << 20) == nil)
    // As if the hub had lost everything but its name.
    let moved = try await again.rollBack(
      to: .start(of: try #require(again.replicaState().cursor).identity), in: state.hubSpace, shipped: state.shipped,
      digest: state.shippedDigest, head: 0)
    #expect(moved.isRestoring)
    let restoration = try #require(try again.restorationSegment(maximumBytes: 1 << 20))
    #expect(restoration.segment.changeCount == 1)
    await foreign.shutdown()
  }
}
