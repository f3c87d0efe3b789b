import Foundation
import KVLog
import KVStore
import TestSupport
import Testing

/// Reading the log from front to back.
@Suite struct LogReadingTests {
  let scratch: Scratch
  let path: String

  init() throws {
    scratch = try Scratch()
    path = scratch.path("store")
  }

  private func read(
    _ store: Store, after version: Version, through last: Version = .max, in range: KeyRange = KeyRange()
  ) throws -> (read: [WrittenChange], version: Version) {
    var read: [WrittenChange] = []
    let version = try store.forEachChange(after: version, through: last, in: range) { change in
      read.append(WrittenChange(change))
      #expect(change.kind == .local && change.origin == store.identity && change.serverVersion == 0)
      return true
    }
    return (read, version)
  }

  @Test("The log lends every change of any run of versions and any range of keys, in order, across its segments")
  func lendsEveryChange() async throws {
    var random = SeededGenerator()
    var options = Store.Options()
    options.segmentBytes = 8 << 10
    let store = try await Store.open(at: path, options: options)
    let all = try await write(300, to: store, &random)
    for _ in 0..<60 {
      let after = Version(random.below(301))
      let last = random.chance(30) ? .max : Version(random.below(302))
      let range = randomRange(&random)
      let expected = all.filter { $0.version > after && $0.version <= last && $0.isIn(range) }
      let outcome = try read(store, after: after, through: last, in: range)
      #expect(outcome.read == expected, "seed \(random.seed)")
      #expect(outcome.version == max(after, min(last, 300)), "seed \(random.seed)")
    }
    #expect(try read(store, after: 1_000).version == 1_000)
    try await store.close()
    #expect { try read(store, after: 0) } throws: { ($0 as? StoreError)?.code == .closed }
  }

  @Test("Reading that stops anywhere goes on after the version that it returned, without a gap")
  func goesOnWhereItStopped() async throws {
    var random = SeededGenerator()
    let store = try await Store.open(at: path)
    let all = try await write(80, to: store, &random)
    var seen: [WrittenChange] = []
    var version: Version = 0
    while version < 80 {
      var part: [WrittenChange] = []
      let wanted = 1 + random.below(12)
      version = try store.forEachChange(after: version) { change in
        part.append(WrittenChange(change))
        return part.count < wanted
      }
      // Of a commit that was not handed out whole, all comes again.
      seen += part.filter { $0.version <= version }
    }
    #expect(seen == all, "seed \(random.seed)")
  }

  @Test("A run for the hub carries the digest of the log where it was cut, also between the commits of one block")
  func digestsOfRuns() async throws {
    var random = SeededGenerator()
    let store = try await Store.open(at: path)
    _ = try await write(120, to: store, &random)
    for replica in [store.identity, .zero] {
      var cuts: Set<Version> = []
      var after: Version = 0
      while let run = try store.feedSegment(after: after, excluding: replica, maximumBytes: 100 + random.below(400)) {
        #expect(run.digest == (try store.digest(at: run.through)), "seed \(random.seed)")
        after = run.through
        cuts.insert(after)
      }
      #expect(after == 120)
      #expect(replica == store.identity || cuts.count > 20)
    }
  }

  @Test("A version that the log no longer has is `expired`, and the error names the oldest that can be gone on after")
  func expired() async throws {
    let hub = try await Store.open(at: scratch.path("hub"))
    let store = try await Store.open(at: path, options: Expiry.options)
    try await store.put("v", for: "k")
    try await Expiry(hub: hub).expire(store, beyond: 1)
    let error = try #require(throws: StoreError.self) { try store.forEachChange(after: 0) { _ in true } }
    #expect(error.code == .expired)
    var available = try #require(error.availableVersion)
    #expect(available > 0 && error.message.contains("after version \(available)"))
    var count = 0
    var last: UInt64?
    while last == nil {
      do {
        last = try store.forEachChange(after: available) { _ in
          count += 1
          return true
        }
      } catch let error as StoreError where error.code == .expired {
        // The folder has given back more since.
        let next = try #require(error.availableVersion)
        try #require(next > available)
        available = next
      }
    }
    #expect(last == store.counters().localVersion && (count > 0 || last == available))
    #expect(throws: StoreError.self) { try store.forEachChange(after: available - 1) { _ in true } }
  }
}
