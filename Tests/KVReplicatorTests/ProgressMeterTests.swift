import Testing

@testable import KVReplicator

@Suite struct ProgressMeterTests {
  @Test("The rate is that of the last five seconds, however often and however unevenly it is told")
  func window() {
    var meter = ProgressMeter()
    var done = 0
    // 1,000 a second for ten seconds, told every 10 ms; then 100 a second.
    for step in 0..<1_000 {
      meter.note(done, at: .milliseconds(step * 10))
      done += 10
    }
    #expect(abs(meter.rate(done: done, at: .seconds(10)) - 1_000) < 60)
    for step in 0..<1_000 {
      meter.note(done, at: .seconds(10) + .milliseconds(step * 10))
      done += 1
    }
    #expect(abs(meter.rate(done: done, at: .seconds(20)) - 100) < 10)
    // A stall shows.
    #expect(meter.rate(done: done, at: .seconds(30)) < 20)
  }

  @Test("Nothing to go by is no rate")
  func start() {
    var meter = ProgressMeter()
    #expect(meter.rate(done: 5, at: .seconds(1)) == 0)
    meter.note(5, at: .seconds(1))
    #expect(meter.rate(done: 9, at: .seconds(1) + .milliseconds(1)) == 0)
    #expect(meter.rate(done: 10, at: .seconds(2)) == 5)
  }
}
