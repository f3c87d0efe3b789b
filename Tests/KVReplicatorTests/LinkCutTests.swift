// A session cut at every border between two messages: whatever had arrived by then, the next session finishes the work.

import KVLog
import KVProtocol
import Testing

@testable import KVHub
@testable import KVReplicator
@testable import KVStore

/// A replica with a backlog and a hub that has news for it, some of it about the same keys.
private struct Scene {
  let space = InMemorySpace(epoch: Identity(high: 9, low: 9))
  var store = ModelStore(identity: Identity(high: 1, low: 1))
  private var other = ModelStore(identity: Identity(high: 2, low: 2))

  init() throws {
    for number in 0..<12 { other.write([change("shared/\(number)", "theirs \(number)")], clock: UInt64(100 + number)) }
    _ = try Scene.run(&other, space)
    for number in 0..<24 {
      // Half of them meet what the other one wrote; of those half are newer.
      let key = number % 2 == 0 ? "shared/\(number / 2)" : "own/\(number)"
      store.write([change(key, "ours \(number)")], clock: UInt64(number < 12 ? 50 : 500) + UInt64(number))
    }
  }

  private func change(_ key: String, _ value: String) -> ModelStore.Change {
    ModelStore.Change(key: Array(key.utf8), value: Array(value.utf8))
  }

  /// Runs a session in a fixed order of steps to its end, or until so many messages have arrived. Returns how many did.
  @discardableResult
  static func run(
    _ store: inout ModelStore, _ space: InMemorySpace, mode: SessionMode = [.push, .pull], cutAfter limit: Int = .max,
    reachingHub: Int = 0
  ) throws -> (link: SimulatedLink, isComplete: Bool, messages: Int) {
    var configuration = ReplicaSession.Configuration(space: "space", mode: mode, isLive: false)
    configuration.segmentBytes = 256
    configuration.windowBytes = 1_024
    let link = SimulatedLink(configuration, hubWindowBytes: 1_024, store: store)
    try link.connect()
    func advance() throws -> Bool {
      let steps: [SimulatedLink.Step] = [
        .workAtHub, .answerHub, .deliverToHub, .workAtReplica, .answerReplica, .deliverToReplica,
      ]
      guard let step = steps.first(where: { link.canTake($0, store, space) }) else { return false }
      _ = try link.take(step, &store, space)
      return true
    }
    while link.ending == nil, link.delivered < limit {
      guard try advance() else { throw Simulation.Failure("a session waits for ever") }
    }
    if let ending = link.ending, let error = ending { throw error }
    let isComplete = link.ending != nil
    let messages = link.delivered
    if !isComplete { link.cut(reachingHub: reachingHub) }
    while try advance() {}
    try link.close()
    while try advance() {}
    return (link, isComplete, messages)
  }

  /// What the hub holds, and that each of the replica's commits is there at most once.
  func hubRows() throws -> [[UInt8]: [UInt8]?] {
    let everything = try space.feed(FeedRequest(after: 0, excluding: .zero), maximumBytes: .max)
    var rows: [[UInt8]: [UInt8]?] = [:]
    var seen: Set<Version> = []
    for commit in try ModelStore.commits(in: everything?.records ?? []) {
      for change in commit.changes { rows[change.key] = change.value }
      if commit.origin == store.identity {
        #expect(seen.insert(commit.originVersion).inserted, "commit \(commit.originVersion) was applied twice")
      }
    }
    return rows
  }
}

@Suite struct LinkCutTests {
  @Test("A session cut after any message, in either direction, is finished by the next one, exactly once")
  func everyBorder() throws {
    var whole = try Scene()
    let messages = try Scene.run(&whole.store, whole.space).messages
    let expected = try whole.hubRows()
    #expect(whole.store.rows.mapValues(\.value) == expected)
    #expect(!whole.store.hasPending)
    #expect(messages > 30, "the session is too short to be cut in interesting places")
    for limit in 0..<messages {
      for reachingHub in [0, 1, Int.max] {
        var scene = try Scene()
        let cut = try Scene.run(&scene.store, scene.space, cutAfter: limit, reachingHub: reachingHub)
        #expect(!cut.isComplete)
        try Scene.run(&scene.store, scene.space)
        #expect(!scene.store.hasPending, "cut after \(limit), \(reachingHub) more reaching the hub")
        #expect(try scene.hubRows() == expected, "cut after \(limit), \(reachingHub) more reaching the hub")
        #expect(scene.store.rows.mapValues(\.value) == expected)
        #expect(scene.store.cursor == scene.space.head().version)
      }
    }
  }

  @Test("A session cut again and again, each time a message later, still gets everything through exactly once")
  func cutAgainAndAgain() throws {
    var scene = try Scene()
    var sessions = 0
    while true {
      sessions += 1
      let (_, isComplete, _) = try Scene.run(
        &scene.store, scene.space, cutAfter: 2 + sessions / 2, reachingHub: sessions % 3)
      if isComplete { break }
    }
    #expect(sessions > 5)
    #expect(!scene.store.hasPending)
    #expect(try scene.hubRows() == scene.store.rows.mapValues(\.value))
  }

  @Test("A commit whose acknowledgement was lost is not applied again, and counts as pushed once")
  func lostAcknowledgement() throws {
    let space = InMemorySpace(epoch: Identity(high: 9, low: 9))
    var store = ModelStore(identity: Identity(high: 1, low: 1))
    store.write([ModelStore.Change(key: [1], value: [1])], clock: 1)
    // The hello and the welcome arrive, then the push; nothing comes back.
    let (first, isComplete, _) = try Scene.run(&store, space, cutAfter: 3)
    #expect(!isComplete && first.replica.report.pushedChanges == 0)
    #expect(space.head().version == 1 && store.hasPending)
    let second = try Scene.run(&store, space).link
    #expect(space.head().version == 1 && !store.hasPending)
    #expect(second.replica.report.pushedChanges == 1)
  }

  @Test("A stale commit is offered again after the pull, and what lost is in the journal")
  func staleAndOfferedAgain() throws {
    var scene = try Scene()
    try Scene.run(&scene.store, scene.space, mode: .push)
    #expect(scene.store.hasPending, "what was found stale waits for a pull")
    let head = scene.space.head().version
    let again = try Scene.run(&scene.store, scene.space, mode: .push).link
    #expect(scene.space.head().version == head && again.replica.report.pushedChanges == 0, "it is held back till then")
    let both = try Scene.run(&scene.store, scene.space).link
    #expect(both.replica.report.conflicts > 0 && both.replica.report.pushedChanges > 0)
    #expect(!scene.store.hasPending && !scene.store.journal.isEmpty)
    #expect(try scene.hubRows() == scene.store.rows.mapValues(\.value))
  }
}
