// Who may bring back what to a hub that was restored, and how often one may claim that it was.

import HubTestSupport
import KVLog
import KVProtocol
import TestSupport
import Testing

@testable import KVHub

@Suite struct RestorationScreenTests {
  private let space = InMemorySpace(epoch: .random())
  private var authors = ["alice": TestReplica(), "bob": TestReplica(), "nobody": TestReplica()]
  private let order = ["alice", "bob", "nobody", "alice"]

  init() throws {
    for (name, author) in authors where name != "nobody" { _ = try space.owner(of: author.identity, claimedBy: name) }
  }

  /// A run with a commit of each in `order`, in the versions 1, 2, …
  private func restoration() throws -> Restoration {
    var authors = authors
    var restoration = Restoration(
      segment: CommitSegment(after: 0, through: 4, digest: .zero, records: [], changeCount: 0), cursor: 0)
    for (index, name) in order.enumerated() {
      authors[name]?.put("key \(index)", "value \(index)")
      let author = try #require(authors[name])
      var records = author.segment(after: author.version - 1, through: author.version).records
      // The version that it has in the log of who brings it.
      records.replaceSubrange(8..<16, with: [UInt8(index + 1), 0, 0, 0, 0, 0, 0, 0])
      restoration.segment.records += records
      restoration.segment.changeCount += 1
    }
    return restoration
  }

  private func screened(_ grant: Hub.Grant, _ options: Hub.Options = Hub.Options()) async throws -> Restoration {
    let screen = RestorationScreen(
      space: space, member: .init(space: "s", replica: .random()), grant: grant, validator: HubValidator(options))
    return try await screen.screened(try restoration()) { try $0() }
  }

  @Test("Nobody brings back commits in the name of somebody else's replica, or of one that is nobody's; an admin does")
  func rights() async throws {
    #expect(try await screened(Hub.Grant(principal: "alice", right: .write)).declined == [2, 3])
    #expect(try await screened(Hub.Grant(principal: "bob", right: .write)).declined == [1, 3, 4])
    #expect(try await screened(Hub.Grant(principal: "mallory", right: .write)).declined == [1, 2, 3, 4])
    #expect(try await screened(Hub.Grant(principal: "root", right: .admin)).declined == [])
    #expect(try await screened(Hub.Grant(principal: nil, right: .write)).declined == [])
  }

  @Test("What is brought back is validated as what is pushed, and what is declined leaves no trace of its author")
  func validation() async throws {
    var options = Hub.Options()
    options.limits.valueBytes = 100
    options.validate = { $0.version == 1 ? Rejection(code: 100, message: "no") : nil }
    let screened = try await screened(Hub.Grant(principal: "alice", right: .write), options)
    #expect(screened.declined == [1, 2, 3])
    let outcome = try space.restore(screened)
    // The second of alice's goes with her first.
    #expect(outcome.declined == [1, 2, 3, 4] && space.head().version == 0)
    for author in authors.values { #expect(space.progress(of: author.identity) == nil) }
  }

  @Test("A space begins sixteen epochs at once at most, whatever replicas claim to know")
  func epochs() {
    let gate = EpochGate()
    for _ in 0..<HubLimits.epochsAtOnce { #expect(gate.mayBegin(in: "a")) }
    #expect(!gate.mayBegin(in: "a"))
    #expect(gate.mayBegin(in: "b"))
  }
}
