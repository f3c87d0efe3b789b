// From a put on one replica until others show it, when nothing else happens.

import BenchmarkSupport
import Foundation

struct LiveLatency: Scenario {
  var puts: Int

  var diskBytes: Int { 1 << 30 }
  var limitMeaning: String? { nil }

  func run(_ contender: Contender, _ place: Place) throws -> [Measurement] {
    let hub = try RunningHub(place.hub)
    defer { hub.child.end() }
    let follower = try Child.followers(place.replica("b"), hub: hub.url, count: 1, puts: puts)
    defer { follower.end() }
    _ = try follower.line()
    let writer = try Child.writer(place.replica("a"), hub: hub.url, puts: puts, pauseMilliseconds: 10)
    defer { writer.end() }
    let written = try writer.answer(WriterRun.self)
    let followed = try follower.answer(FollowerRun.self).seconds.flatMap(\.self)
    guard let p50 = quantile(0.5, of: followed), let p99 = quantile(0.99, of: followed),
      let sync = quantile(0.5, of: written.syncSeconds), let slowSync = quantile(0.99, of: written.syncSeconds)
    else { throw BenchmarkError("nothing was written") }
    var measurement = Measurement()
    measurement[.latencyP50] = p50
    measurement[.latencyP99] = p99
    measurement[.latencyGoal] = 3 * sync + 0.001
    measurement[.syncP50] = sync
    measurement[.syncP99] = slowSync
    measurement.note =
      "fdatasync before each put, without an engine: p50 \(sync.duration), p99 \(slowSync.duration)"
    return [measurement]
  }
}

struct IdleReplicas: Scenario {
  var replicas: Int
  var puts: Int

  /// Stores in one process: what is looked at is the hub.
  private static let storesPerProcess = 50

  var diskBytes: Int { replicas * 4 << 20 }
  var limitMeaning: String? { nil }

  func run(_ contender: Contender, _ place: Place) throws -> [Measurement] {
    let hub = try RunningHub(place.hub)
    defer { hub.child.end() }
    let memory = MemoryProbe(process: hub.child.process)
    var followers: [Child] = []
    defer { for follower in followers { follower.end() } }
    for start in stride(from: 0, to: replicas, by: Self.storesPerProcess) {
      followers.append(
        try Child.followers(
          place.replica("r\(start)"), hub: hub.url, count: min(Self.storesPerProcess, replicas - start), puts: puts))
    }
    for follower in followers { _ = try follower.line() }
    let writer = try Child.writer(place.replica("writer"), hub: hub.url, puts: puts, pauseMilliseconds: 500)
    defer { writer.end() }
    _ = try writer.line()
    let reached = try followers.flatMap { try $0.answer(FollowerRun.self).seconds }
    guard reached.count == replicas else { throw BenchmarkError("\(reached.count) replicas answered") }
    // Of each put, when the last replica had it.
    let last = (0..<puts).map { put in reached.map { $0[put] }.max() ?? 0 }
    guard let p50 = quantile(0.5, of: last), let worst = last.max() else { throw BenchmarkError("nothing was written") }
    var measurement = Measurement()
    measurement[.reachP50] = p50
    measurement[.reachWorst] = worst
    measurement[.hubMemory] = Double(memory.stop())
    return [measurement]
  }
}
