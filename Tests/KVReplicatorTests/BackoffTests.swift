import Testing

@testable import KVReplicator

@Suite struct BackoffTests {
  @Test("The ceiling doubles up to the longest wait, and progress starts over")
  func ceilings() {
    var backoff = Backoff(shortest: .milliseconds(500), longest: .seconds(60))
    let ceilings = (0..<9).map { _ in backoff.next(random: 1) }
    #expect(ceilings == [0.5, 1, 2, 4, 8, 16, 32, 60, 60].map { Duration.seconds($0) })
    for _ in 0..<10_000 { _ = backoff.next(random: 1) }
    #expect(backoff.next(random: 1) == .seconds(60))
    backoff.progressed()
    #expect(backoff.next(random: 1) == .milliseconds(500))
  }

  @Test("A wait is any part of its ceiling: full jitter")
  func jitter() {
    var backoff = Backoff(shortest: .seconds(1), longest: .seconds(60))
    #expect(backoff.next(random: 0) == .zero)
    #expect(backoff.next(random: 0.25) == .milliseconds(500))
  }
}
