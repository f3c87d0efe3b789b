// A session between real stores, over sockets, cut at each border between two of its frames.

import KVHub
import KVProtocol
import KVStore
import TestSupport
import Testing

@testable import KVReplicator

@Suite(.timeLimit(.minutes(3))) struct FrameCutTests {
  /// One of the commits does not fit into a frame, nor into two.
  private static let commits = 5
  private static let large = [UInt8](repeating: 7, count: 2 * ProtocolLimits.maximumFrameBytes + 1_000)

  private func write(_ name: String, _ round: Int, to store: Store) async throws {
    for number in 0..<Self.commits {
      try await store.write { transaction in
        try transaction.put("\(round)", for: "\(name)/\(number)")
        try transaction.put(number == 2 ? Self.large : [1], for: "\(name)/last")
      }
    }
  }

  @Test("A session cut at any border of its frames, within a commit too, is finished by the next one, exactly once")
  func everyFrameBorder() async throws {
    let bench = try Workbench()
    let hub = try await bench.hub(.embedded)
    let address = try hub.address()
    let proxy = try await CuttingProxy.start(to: hub)
    let cut = HubAddress(host: "127.0.0.1", port: proxy.port, space: address.space)
    let (other, replica) = (try await bench.store("other"), try await bench.store("replica"))
    var rounds = 0
    func runCut(at border: Int) async throws {
      rounds += 1
      try await write("theirs", rounds, to: other)
      _ = try await Replicator(other, hub: address).syncOnce()
      try await write("ours", rounds, to: replica)

      proxy.limit(.init(frames: border))
      do {
        _ = try await Replicator(replica, hub: cut, configuration: .small).syncOnce()
      } catch let error as ReplicatorError {
        #expect(error.isTransient, "border \(border): \(error)")
      }
      let comment: Comment = "border \(border), after \(String(describing: proxy.lastFrames.last))"
      let report = try await finish(replica, address)
      #expect(report.pendingChanges == 0 && replica.counters().pendingChanges == 0, comment)
      let comparison = try await Replicator(replica, hub: address).compare()
      #expect(comparison.isEqual && comparison.keys == 2 * (Self.commits + 1), comment)
      // A commit that was applied twice would have two of the hub's versions.
      let versions = UInt64(2 * Self.commits * rounds)
      #expect(comparison.hubVersion == versions && replica.counters().serverVersion == versions, comment)
    }
    var border = 0
    while proxy.lastFrames.count == border {
      border += 1
      try await runCut(at: border)
    }
    // Every run but the last one was cut: the borders before it are all that such a session has. What comes before each of
    // them depends on who was faster.
    var random = SeededGenerator()
    func isMissingAKind() -> Bool {
      !Set(proxy.lastFrames.map(\.kind)).isSuperset(of: [.hello, .welcome, .push, .acknowledgement, .feed])
    }
    for _ in 0..<200 where isMissingAKind() { try await runCut(at: 1 + random.below(border - 1)) }
    #expect(!isMissingAKind(), "\(Set(proxy.lastFrames.map(\.kind)))")
    #expect(proxy.lastFrames.contains { $0.hasMore }, "no cut was within a commit")
    _ = try await Replicator(other, hub: address).syncOnce()
    #expect(try contents(other) == contents(replica))
    try await proxy.close()
    await hub.shutdown()
  }

  /// The hub may read the hello of the session that was cut after that of the next one, which is then asked to try again.
  private func finish(_ store: Store, _ address: HubAddress) async throws -> SyncReport {
    let replicator = Replicator(store, hub: address, configuration: .small)
    do {
      return try await replicator.syncOnce()
    } catch let error as ReplicatorError where error.code == .unavailable {
      return try await replicator.syncOnce()
    }
  }
}
