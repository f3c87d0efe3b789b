// What the program that runs a hub has to say about commits, and what the hub's limits have.

import Foundation
import HubTestSupport
import KVHub
import KVLog
import KVProtocol
import KVTransport
import Synchronization
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(2))) struct ValidationTests {
  private func withHub(
    _ change: (inout Hub.Options) -> Void, _ body: (Hub) async throws -> Void
  ) async throws {
    var options = Hub.Options()
    change(&options)
    let hub = Hub(storage: InMemoryHubStorage(), options: options)
    try await hub.start()
    do {
      try await body(hub)
    } catch {
      await hub.shutdown()
      throw error
    }
    await hub.shutdown()
  }

  private func text(_ bytes: RawSpan) -> String {
    unsafe bytes.withUnsafeBytes { unsafe String(decoding: $0, as: UTF8.self) }
  }

  @Test("The program is told whose credential a commit came with")
  func principal() async throws {
    let seen = Mutex<[String?]>([])
    try await withHub {
      $0.access = .deciding { _, token in
        .granted(Hub.Grant(principal: String(decoding: token, as: UTF8.self), right: .admin))
      }
      $0.validate = { commit in
        seen.withLock { $0.append(commit.principal) }
        return nil
      }
    } _: { hub in
      for name in ["alice", "bob"] {
        var replica = TestReplica()
        replica.put("k \(name)", "v")
        var hello = replica.hello(.push)
        hello.token = Array(name.utf8)
        let client = try await TestClient(hub)
        #expect(try await client.greet(hello).mayRefuse)
        _ = try await client.push(replica, after: 0, through: 1)
      }
    }
    #expect(seen.withLock { $0 } == ["alice", "bob"])
  }

  @Test("A commit that is rejected is refused with the code and the reason, whatever it met, and the others are taken")
  func rejects() async throws {
    let seen = Mutex<[String]>([])
    try await withHub {
      $0.validate = { commit in
        var rejection: Rejection?
        var words = "\(commit.space) \(commit.version) \(commit.changeCount)"
        try commit.forEachChange { change in
          var value = "-"
          if let bytes = change.value { value = text(bytes) }
          words.append(" \(text(change.key))=\(value)")
          if value == "bad" { rejection = Rejection(code: 100, message: "bad value") }
          return true
        }
        seen.withLock { $0.append(words) }
        return rejection
      }
    } _: { hub in
      var a = TestReplica()
      a.put("k", "good")
      a.commit([("x", "1"), ("k", "bad"), ("y", nil)])
      a.put("k", "also good")
      let client = try await TestClient(hub)
      try await client.greet(a.hello([.push, .pull]))
      let acknowledgement = try await client.push(a, after: 0, through: 3)
      let refused = CommitException(version: 2, reason: .refused(code: 100, message: "bad value"))
      #expect(acknowledgement == Acknowledgement(through: 3, exceptions: [refused], head: 2))
      #expect(seen.withLock { $0 } == ["notes 1 1 k=good", "notes 2 3 x=1 k=bad y=-", "notes 3 1 k=also good"])
      // Stale and rejected: rejected.
      var b = TestReplica()
      b.put("k", "bad")
      let forB = try await TestClient(hub)
      try await forB.greet(b.hello(.push))
      #expect(
        try await forB.push(b, after: 0, through: 1).exceptions == [
          CommitException(version: 1, reason: .refused(code: 100, message: "bad value"))
        ])
    }
  }

  @Test("Each commit is looked at once for its decision, however often it is sent and however links break")
  func once() async throws {
    var random = SeededGenerator()
    let looks = Mutex<[Version: Int]>([:])
    try await withHub {
      $0.validate = { commit in
        let version = commit.version
        looks.withLock { $0[version, default: 0] += 1 }
        return version % 3 == 0 ? Rejection(code: 100, message: "third") : nil
      }
    } _: { hub in
      var a = TestReplica()
      for number in 1...60 { a.put("k\(number)", "v") }
      var decided: Version = 0
      while decided < 60 {
        let client = try await TestClient(hub)
        let welcome = try await client.greet(a.hello(.push, shipped: 0))
        let after = Version(random.below(Int(welcome.lastApplied) + 1))
        let through = min(60, welcome.lastApplied + Version(1 + random.below(9)))
        do {
          _ = try await client.push(a, after: after, through: through)
        } catch let error as TestClient.Unexpected {
          // What came over the link before may still be looked at: later, then.
          guard case .refuse(let refusal) = error.message, refusal.code == .busy else { throw error }
          continue
        }
        // What is sent again on the same connection is not looked at either.
        try await client.send(
          .push(Push(segment: a.segment(after: after, through: through), cursor: 0, confirmed: 0)))
        client.connection.close()
        decided = through
      }
      let client = try await TestClient(hub)
      let welcome = try await client.greet(a.hello(.push))
      #expect(
        welcome.lastApplied == 60 && welcome.unconfirmed.map(\.version) == Array(stride(from: 3, through: 60, by: 3)))
      #expect(
        looks.withLock { $0 } == Dictionary(uniqueKeysWithValues: (1...60).map { (Version($0), 1) }),
        "seed \(random.seed)")
    }
  }

  @Test("A hook that takes its time, or never returns, holds up its own replica only, and not the end of the hub")
  func slow() async throws {
    let release = Mutex(false)
    try await withHub {
      $0.shutdownLimit = .milliseconds(100)
      $0.validate = { commit in
        var isSlow = false
        try commit.forEachChange { change in
          isSlow = text(change.key) == "slow"
          return true
        }
        while isSlow, !release.withLock({ $0 }) { Thread.sleep(forTimeInterval: 0.005) }
        return nil
      }
    } _: { hub in
      defer { release.withLock { $0 = true } }
      var slow: [TestClient] = []
      // More than a pool of threads would have.
      for _ in 0..<40 {
        var replica = TestReplica()
        replica.put("slow", "v")
        let client = try await TestClient(hub)
        try await client.greet(replica.hello(.push))
        try await client.send(.push(Push(segment: replica.segment(after: 0, through: 1), cursor: 0, confirmed: 0)))
        slow.append(client)
      }
      for space in ["notes", "other"] {
        var replica = TestReplica()
        replica.put("fast", "v")
        let client = try await TestClient(hub)
        try await client.greet(replica.hello(.push, space: space))
        #expect(try await client.push(replica, after: 0, through: 1).exceptions.isEmpty)
      }
      await hub.shutdown()
    }
  }

  @Test("A replica whose hook has yet to return is told to come back, and is served when it has")
  func stillBusy() async throws {
    let release = Mutex(false)
    let began = Mutex(0)
    try await withHub {
      $0.validate = { _ in
        began.withLock { $0 += 1 }
        while !release.withLock({ $0 }) { Thread.sleep(forTimeInterval: 0.005) }
        return nil
      }
    } _: { hub in
      defer { release.withLock { $0 = true } }
      var a = TestReplica()
      a.put("k", "v")
      let first = try await TestClient(hub)
      try await first.greet(a.hello(.push))
      try await first.send(.push(Push(segment: a.segment(after: 0, through: 1), cursor: 0, confirmed: 0)))
      while began.withLock({ $0 }) == 0 { try await Task.sleep(for: .milliseconds(2)) }
      first.connection.close()
      let second = try await TestClient(hub)
      try await second.greet(a.hello(.push))
      try await second.send(.push(Push(segment: a.segment(after: 0, through: 1), cursor: 0, confirmed: 0)))
      #expect(try await second.refusal().code == .busy)
      #expect(began.withLock { $0 } == 1)
      release.withLock { $0 = true }
      while true {
        // The thread may need a moment to end.
        let client = try await TestClient(hub)
        let welcome = try await client.greet(a.hello(.push))
        guard welcome.lastApplied == 0 else { break }
        try await client.send(.push(Push(segment: a.segment(after: 0, through: 1), cursor: 0, confirmed: 0)))
        if case .acknowledgement = try await client.next() { break }
      }
    }
  }

  @Test("A hook that throws decides nothing: the replica is told to come back, and others are served")
  func throwing() async throws {
    struct Broken: Error {}
    let isBroken = Mutex(true)
    try await withHub {
      $0.validate = { _ in
        if isBroken.withLock({ $0 }) { throw Broken() }
        return nil
      }
    } _: { hub in
      var a = TestReplica()
      a.put("k", "v")
      let first = try await TestClient(hub)
      try await first.greet(a.hello(.push))
      try await first.send(.push(Push(segment: a.segment(after: 0, through: 1), cursor: 0, confirmed: 0)))
      let refusal = try await first.refusal()
      #expect(refusal.code == .validationFailed && refusal.version == 1 && refusal.code.isTransient)
      isBroken.withLock { $0 = false }
      let second = try await TestClient(hub)
      #expect(try await second.greet(a.hello(.push)).lastApplied == 0)
      #expect(try await second.push(a, after: 0, through: 1) == Acknowledgement(through: 1, exceptions: [], head: 1))
    }
  }

  @Test("What is larger than the hub's limits is refused, to the byte, and the hook is not asked about it")
  func limits() async throws {
    let asked = Mutex(0)
    try await withHub {
      $0.limits.keyBytes = 10
      $0.limits.valueBytes = 20
      $0.limits.commitBytes = 40 + 7 + 10 + 20 + 8
      $0.validate = { _ in
        asked.withLock { $0 += 1 }
        return nil
      }
    } _: { hub in
      var a = TestReplica()
      let (key, value) = (String(repeating: "k", count: 10), String(repeating: "v", count: 20))
      a.put(key, value)
      a.put(key + "k", "")
      a.put("k", value + "v")
      a.commit([(key, value), ("x", "")])
      a.commit([(key, value), ("x", "y")])
      a.put("after", "all")
      let client = try await TestClient(hub)
      try await client.greet(a.hello(.push))
      let acknowledgement = try await client.push(a, after: 0, through: 6)
      let codes = acknowledgement.exceptions.map { exception -> (Version, UInt16) in
        guard case .refused(let code, let message) = exception.reason, !message.isEmpty else {
          return (exception.version, 0)
        }
        return (exception.version, code)
      }
      #expect(codes.map(\.0) == [2, 3, 5])
      #expect(
        codes.map(\.1) == [CommitRefusal.keyTooLong, CommitRefusal.valueTooLong, CommitRefusal.commitTooLarge])
      #expect(acknowledgement.head == 3 && asked.withLock { $0 } == 3)
    }
  }
}
