// How a replicator says that it stands.

import KVHub
import KVLog
import KVProtocol
import KVStore
import KVTransport
import Synchronization
import TestSupport
import Testing

@testable import KVReplicator

@Suite struct StatusTests {
  @Test("Offline, connecting, catching up, live, offline again, paused: told with the numbers that belong to it")
  func states() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let address = try hub.address()
    let store = try await bench.store("a")
    let replicator = Replicator(store, hub: address, configuration: .small)
    var status = replicator.status
    #expect(status.state == .offline && status.hubVersion == nil && status.lagVersions == nil && status.lag == nil)
    #expect(status.oldestPendingAge == nil && status.pendingChanges == 0)
    for number in 0..<200 { try await store.put("v\(number)", for: "\(number)") }
    try await Task.sleep(for: .milliseconds(30))
    status = replicator.status
    #expect(status.pendingChanges == 200 && status.pendingBytes > 600 && status.localVersion == 200)
    #expect(try #require(status.oldestPendingAge) >= .milliseconds(20))

    let seen = Task { [statuses = replicator.statuses] in
      var names: [String] = []
      for await status in statuses {
        if names.last != status.state.name { names.append(status.state.name) }
        if case .catchingUp(let progress, let rate, let remaining) = status.state {
          #expect((0...1).contains(progress) && rate >= 0 && remaining <= 400)
        }
        if status.state == .paused { break }
      }
      return names
    }
    let running = Task { try await replicator.run() }
    try await eventually { replicator.status.state == .live && replicator.status.pendingChanges == 0 }
    status = replicator.status
    #expect(status.acknowledgedVersion == 200 && status.hubVersion == 200 && status.lastError == nil)
    #expect(status.oldestPendingAge == nil && status.nextTry == nil)
    try await eventually { replicator.status.lagVersions == 0 && replicator.status.lag == .zero }

    await hub.shutdown()
    try await eventually { replicator.status.nextTry != nil }
    status = replicator.status
    #expect(status.lastError.map { $0.isTransient } == true)
    #expect(status.state == .offline || status.state == .connecting)
    #expect(status.lag != nil && status.lag != .zero && status.lagVersions == 0)
    replicator.pause()
    #expect(replicator.status.state == .paused)
    let names = await seen.value
    #expect(names.first == "offline" && names.last == "paused" && names.contains("live"), "\(names)")
    running.cancel()
    try await running.value
  }

  @Test("A hub that does not take the token: needs authorization; one that refuses for good: failed, with the reason")
  func ended() async throws {
    let bench = try Workbench()
    let store = try await bench.store("a")
    var options = Hub.Options()
    options.access = .deciding { _, token in
      token == [1] ? .granted(Hub.Grant(principal: "alice", right: .admin)) : .refused("another token is needed")
    }
    let hub = Hub(storage: InMemoryHubStorage(), options: options)
    try await hub.start()
    var configuration = Replicator.Configuration()
    let refused = Replicator(store, hub: try hub.address(), configuration: configuration)
    let waiting = Task { try await refused.run() }
    try await eventually {
      refused.status.state == .needsAuthorization && refused.status.lastError?.code == .notAuthorized
    }
    waiting.cancel()
    try await waiting.value
    configuration.token = { [1] }
    let other = Replicator(
      store, hub: HubAddress(host: "127.0.0.1", port: try hub.address().port, space: "no such name!"),
      configuration: configuration)
    await #expect(throws: ReplicatorError.self) { try await other.syncOnce() }
    #expect(other.status.state == .failed && other.status.lastError?.code == .invalidSpace)
    let fine = Replicator(store, hub: try hub.address(), configuration: configuration)
    _ = try await fine.syncOnce()
    #expect(fine.status.state == .offline && fine.status.lastError == nil && fine.status.lagVersions == 0)
    await hub.shutdown()
  }

  @Test("What was mended is told, stays in the status, and is known to the next replicator of the store")
  func repairs() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub()
    let store = try await bench.store("a")
    let lost = [
      Repair(.hubRestored(HubRestoration(local: 2...7, server: nil)), time: HybridTime(milliseconds: 1_000)),
      Repair(.becameNewIncarnation(Identity(high: 3, low: 4)), time: HybridTime(milliseconds: 2_000)),
      Repair(.lapsed, time: HybridTime(milliseconds: 3_000)),
    ]
    let board = StatusBoard(store)
    board.recall(lost)
    var note = StatusNote(board.status, hub: "kvsync://hub/space", time: 5_000)
    #expect(try StatusNote(decoding: note.encoded.bytes) == note && note.repairs == lost)
    try store.leaveNote(note.encoded)

    let mended = Mutex<[Repair]>([])
    #expect(board.tell(.loadingSnapshot(keys: 1)) == nil)
    let restored = HubRestoration(local: nil, server: 4...9)
    let repair = try #require(board.tell(.hubRestored(restored)))
    #expect(repair.cause == .hubRestored(restored) && board.status.repairs == Array(lost.dropFirst()) + [repair])

    var configuration = Replicator.Configuration()
    configuration.repaired = { repair in mended.withLock { $0.append(repair) } }
    let next = Replicator(store, hub: try hub.address(), configuration: configuration)
    #expect(next.status.repairs.isEmpty)
    _ = try await next.syncOnce()
    #expect(next.status.repairs == lost && mended.withLock { $0.isEmpty })
    note = try #require(StatusNote.left(in: store))
    #expect(note.repairs == lost && !note.hub.contains("kvsync://hub/"))
    for end in 1..<note.encoded.count {
      #expect(throws: LogFormatError.self) { try StatusNote(decoding: Array(note.encoded.prefix(end)).bytes) }
    }
    await hub.shutdown()
  }

  @Test("Behind a slow hub it is catching up: progress grows, what remains falls, the rate is what happens")
  func catchingUp() async throws {
    let bench = try Workbench()
    let store = try await bench.store("a")
    let board = StatusBoard(store)
    board.connecting()
    var session = StatusBoard.Session(isOpen: true, hubVersion: 1_000)
    var before = 0.0
    // However long a step takes on a busy machine, the rate is one between those of the slowest and the fastest.
    var noted: (began: ContinuousClock.Instant, ended: ContinuousClock.Instant)?
    var (slowest, fastest) = (Double.infinity, 0.0)
    for step in 0...12 {
      session.done = 500 + step * 10
      session.remaining = 120 - step * 10
      let began = ContinuousClock.now
      board.note(session)
      let ended = ContinuousClock.now
      if let noted {
        slowest = min(slowest, 10 / ((ended - noted.began) / .seconds(1)))
        fastest = max(fastest, 10 / ((began - noted.ended) / .seconds(1)))
      }
      noted = (began, ended)
      try await Task.sleep(for: .milliseconds(40))
      guard case .catchingUp(let progress, let rate, let remaining) = board.status.state else {
        Issue.record("step \(step): \(board.status.state)")
        return
      }
      #expect(progress >= before && remaining == session.remaining)
      // The pause since the last step counts, and has nothing to show yet.
      let least = 0.8 * min(slowest, 10 / ((ContinuousClock.now - began) / .seconds(1)))
      if step >= 5 { #expect(rate > least && rate < 1.01 * fastest, "\(least), \(rate), \(fastest)") }
      before = progress
    }
    #expect(before == 1 && board.status.lagVersions == 1_000)
    session.isCaughtUp = true
    board.note(session)
    #expect(board.status.state == .live)
    // A change on its way is no catching up.
    session.isCaughtUp = false
    session.remaining = 1
    board.note(session)
    #expect(board.status.state == .live)
  }
}
