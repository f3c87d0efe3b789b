// A replica that was offline comes back: how fast is what it wrote acknowledged?

import BenchmarkSupport
import Foundation

struct Drain: Scenario {
  var backlog: Backlog

  var diskBytes: Int { backlog.diskBytes }

  func run(_ contender: Contender, _ place: Place) throws -> [Measurement] {
    switch contender {
    case .redis: [try RedisServer.drain(backlog, place, isDurable: false)]
    case .redisDurable: [try RedisServer.drain(backlog, place, isDurable: true)]
    case .postgreSQL: [try PostgreSQLServer.drain(backlog, place)]
    case .limit: [try LoopbackLimit.drain(backlog, place)]
    case .kvsync, .kvsyncOneWay, .kvsyncEvery, .kvsyncUnhindered:
      [try Drain.run(backlog, place, contender == .kvsyncOneWay ? ["--push"] : [])]
    }
  }

  var limitMeaning: String? { LoopbackLimit.meaning }

  /// Writes the backlog, and drains it to an empty hub.
  static func run(_ backlog: Backlog, _ place: Place, _ options: [String] = []) throws -> Measurement {
    try Child.fill(place.replica(), with: backlog, seed: place.seed)
    return try drain(backlog, place, options)
  }

  static func drain(_ backlog: Backlog, _ place: Place, _ options: [String]) throws -> Measurement {
    // Nobody pays for what the preparation left to be written.
    sync()
    let hub = try RunningHub(place.hub)
    defer { hub.child.end() }
    let hubMemory = MemoryProbe(process: hub.child.process)
    let replica = try Child.replica(place.replica(), hub: hub.url, options)
    defer { replica.end() }
    let replicaMemory = MemoryProbe(process: replica.process)
    let run = try replica.answer(ReplicaRun.self)
    guard run.pending == 0 else { throw BenchmarkError("\(run.pending) changes are pending") }
    var measurement = Measurement()
    measurement[.rate] = Double(backlog.changes) / run.seconds
    measurement[.longestStall] = run.longestStall
    measurement[.replicaMemory] = Double(replicaMemory.stop())
    measurement[.hubMemory] = Double(hubMemory.stop())
    replica.release()
    return measurement
  }
}
