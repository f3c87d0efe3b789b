// What becomes of log that the hub has decided: kept for a size, for an age, or until a backup of the hub covers it.

import Foundation
import KVLog
import TestSupport
import Testing

@testable import KVStore

@Suite("retention of the log")
struct LogRetentionTests {
  private func options(_ retention: Store.LogRetention) -> Store.Options {
    var options = Store.Options()
    options.segmentBytes = 16 << 10
    options.logRetention = retention
    return options
  }

  /// Commits of 1 KB each, all of them decided by the hub.
  private func write(_ count: Int, to store: Store, _ fixture: HubFixture) async throws {
    for number in 0..<count {
      try await store.put(
        [UInt8](repeating: UInt8(number & 255), count: 1_000), for: "k\(number)", durability: .relaxed)
    }
    try await fixture.exchange.settle([store], policy: .lastWriterWins)
    #expect(store.replicaState().pendingChanges == 0)
  }

  /// Folds everything and gives back what may go, as each closing does.
  private func reopened(_ store: Store, _ options: Store.Options) throws -> Store {
    let path = store.path
    try store.closeBlocking()
    return try Store.openBlocking(at: path, options: options)
  }

  private func segments(_ store: Store) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: store.path + "/log").filter { $0.hasSuffix(".kvlog") }.sorted()
  }

  @Test("Log of which something was written within the age stays, older log goes, and what is not acknowledged never")
  func age() async throws {
    let fixture = try await HubFixture()
    let options = options(.acknowledged(bytes: 0, age: .seconds(1_000)))
    var store = try fixture.replica("replica", options)
    try await write(100, to: store, fixture)
    store = try reopened(store, options)
    let all = try segments(store)
    try #require(all.count > 5)
    #expect(try store.information().firstLogVersion == 1, "all of it is young")

    func age(_ names: some Sequence<String>, bySeconds seconds: Double) throws {
      for name in names {
        try FileManager.default.setAttributes(
          [.modificationDate: Date(timeIntervalSinceNow: -seconds)], ofItemAtPath: "\(store.path)/log/\(name)")
      }
    }
    try age(all.prefix(3), bySeconds: 900)
    store = try reopened(store, options)
    #expect(try segments(store) == all, "a little younger than the age")
    try age(all.prefix(3), bySeconds: 1_100)
    store = try reopened(store, options)
    // The last of the old ones stays as well: a replica that needs what follows on it begins there.
    #expect(try segments(store) == Array(all.dropFirst(2)))
    // A clock that was set back makes nothing old.
    try age(all.dropFirst(2), bySeconds: -5_000)
    store = try reopened(store, options)
    #expect(try segments(store) == Array(all.dropFirst(2)))

    let pending = store.state.version
    for number in 0..<40 { try await store.put([UInt8](repeating: 1, count: 1_000), for: "p\(number)") }
    store = try reopened(store, options)
    try age(segments(store), bySeconds: 1e6)
    store = try reopened(store, options)
    let first = try store.information().firstLogVersion
    #expect(first <= pending + 1 && first > 80)
    #expect(try fixture.exchange.hub.information().firstLogVersion == 1)
    try store.closeBlocking()
  }

  @Test("Until a backup of the hub covers it, acknowledged log stays, however old; what is covered goes, and no more")
  func backedUp() async throws {
    let fixture = try await HubFixture()
    let options = options(.untilBackedUp(atMost: 1 << 30))
    var store = try fixture.replica("replica", options)
    try await write(60, to: store, fixture)
    let report = try fixture.hub.backupBlocking(to: fixture.scratch.path("backup"))
    let covered = store.state.version
    try await write(60, to: store, fixture)
    store = try reopened(store, options)
    #expect(try store.information().firstLogVersion == 1, "nothing was announced")

    try fixture.hub.announceBackup(of: report)
    #expect(fixture.hub.announcedBackup() == report.lastVersion)
    let contact = HubContact(backedUp: fixture.hub.announcedBackup())
    try await store.note(contact, epoch: fixture.hub.identity)
    // It goes at once, without a write and without closing.
    try await waitUntil { try store.information().firstLogVersion > 1 }
    let first = try store.information().firstLogVersion
    #expect(first <= covered + 1 && first > 40, "\(first) of \(covered)")
    store = try reopened(store, options)
    #expect(try store.information().firstLogVersion == first)
    #expect(store.replicaState().contact == contact)

    // Whoever asks for log to be kept whatever is backed up has it kept.
    var keeping = options
    keeping.logRetention = .acknowledged(bytes: 1 << 30)
    store = try reopened(store, keeping)
    let later = try fixture.hub.backupBlocking(to: fixture.scratch.path("later"))
    try fixture.hub.announceBackup(of: later)
    try await store.note(HubContact(backedUp: fixture.hub.announcedBackup()), epoch: fixture.hub.identity)
    store = try reopened(store, keeping)
    #expect(try store.information().firstLogVersion == first)
    store = try reopened(store, options)
    try await store.put("once more", for: "key")
    store = try reopened(store, options)
    #expect(try store.information().firstLogVersion > 100)
    try store.closeBlocking()
  }

  @Test("Without a backup acknowledged log stays up to its size")
  func atMost() async throws {
    let fixture = try await HubFixture()
    let options = options(.untilBackedUp(atMost: 100_000))
    var store = try fixture.replica("replica", options)
    try await write(200, to: store, fixture)
    store = try reopened(store, options)
    let kept = try store.state.version - store.information().firstLogVersion
    #expect((20...110).contains(kept), "\(kept) commits of 1 KB")
    try store.closeBlocking()
  }

  @Test("A hub that was restored covers nothing until another backup is announced")
  func restored() async throws {
    let fixture = try await HubFixture()
    let store = try fixture.replica("replica", options(.untilBackedUp(atMost: 1 << 30)))
    try await write(10, to: store, fixture)
    let epoch = fixture.hub.identity
    try await store.note(HubContact(levelTime: 7, retentionSeconds: 8, backedUp: 9), epoch: epoch)
    let other = Identity(high: 1, low: 2)
    try await store.note(HubContact(backedUp: 10), epoch: other)
    #expect(store.replicaState().contact.backedUp == 9, "said by a hub that is not ours")
    let state = store.replicaState()
    let cursor = try #require(state.cursor)
    _ = try await store.rollBack(
      to: Position(identity: other, version: cursor.version, digest: cursor.digest), in: state.hubSpace,
      shipped: state.shipped, digest: state.shippedDigest, head: 0)
    #expect(store.replicaState().contact == HubContact(levelTime: 7, retentionSeconds: 8))

    // A restored hub is another history: what was announced of the one before is void.
    let report = try fixture.hub.backupBlocking(to: fixture.scratch.path("backup"))
    try fixture.hub.announceBackup(of: report)
    let copy = try Store.openBlocking(at: fixture.scratch.path("backup"))
    #expect(copy.announcedBackup() == 0)
    try FileManager.default.copyItem(
      atPath: fixture.hub.path + "/announced", toPath: fixture.scratch.path("backup") + "/announced")
    #expect(copy.announcedBackup() == 0)
    #expect(throws: StoreError.self) { try store.announceBackup(of: report) }
    try copy.closeBlocking()
    try store.closeBlocking()
  }

  @Test("Whatever was pushed, pulled, lost and resolved: what counts as covered is on the hub by that version")
  func coverage() async throws {
    var random = SeededGenerator()
    let fixture = try await HubFixture()
    let stores = try fixture.replicas(2)
    let exchange = Exchange(hub: fixture.hub, segmentBytes: 60)
    /// Of the first replica, what the hub had decided at each of its versions.
    var decided: [Version: Version] = [0: 0]
    var found = 0
    for _ in 0..<250 {
      let store = try #require(stores.randomElement(using: &random))
      switch Int.random(in: 0..<6, using: &random) {
      case 0...2: try await store.put("v\(random.next() % 99)", for: "k\(random.next() % 12)", durability: .relaxed)
      case 3: _ = try await exchange.push(store)
      case 4: _ = try await exchange.push(store, losesAcknowledgement: true)
      default:
        // Now and then to the head, without which little would ever count as covered.
        let isWhole = random.chance(60)
        while try await exchange.pull(store, policy: .lastWriterWins), isWhole {}
      }
      let progress = try fixture.hub.progress(of: stores[0].incarnation)?.lastApplied ?? 0
      decided[fixture.hub.state.version] = progress
      let version = Version.random(in: 0...fixture.hub.state.version, using: &random)
      // Where the hub passed several versions at once, what it had at the one before is what is sure.
      let sure = decided.filter { $0.key <= version }.max { $0.key < $1.key }?.value ?? 0
      let covered = min(stores[0].state.coverageMarks.local(at: version), stores[0].state.acknowledged)
      if covered > 0 { found += 1 }
      for header in try commits(of: stores[0], through: covered) {
        if header.serverVersion == 0 {
          #expect(header.version <= sure, "\(header.version) of \(covered) at \(version)")
        } else {
          #expect(header.serverVersion <= version)
        }
      }
    }
    #expect(found > 50)
    for store in stores { try store.closeBlocking() }
  }

  private func commits(of store: Store, through version: Version) throws -> [CommitHeader] {
    var headers: [CommitHeader] = []
    let end = store.state.position
    try store.withStream(after: 0, through: end) { stream in
      while stream.version < version {
        _ = try stream.next(through: end) { entry, _ in
          headers.append(entry.header)
          return true
        }
      }
    }
    return headers
  }

  private func waitUntil(_ condition: () throws -> Bool) async throws {
    for _ in 0..<2_000 where try !condition() { try await Task.sleep(for: .milliseconds(5)) }
    #expect(try condition())
  }
}
