// A new replica of a hub that has many keys.

import BenchmarkSupport
import Foundation

struct Bootstrap: Scenario {
  var keys: Int

  private var backlog: Backlog { Backlog(changes: keys) }
  var diskBytes: Int { backlog.diskBytes * 3 / 2 }
  var limitMeaning: String? { LoopbackLimit.meaning }

  func run(_ contender: Contender, _ place: Place) throws -> [Measurement] {
    if contender == .limit { return [try LoopbackLimit.drain(backlog, place)] }
    _ = try Drain.run(backlog, place)
    try FileManager.default.removeItem(atPath: place.replica())
    sync()
    // A hub that has been there for a while: what its drain left in memory is gone.
    let hub = try RunningHub(place.hub)
    defer { hub.child.end() }
    let hubMemory = MemoryProbe(process: hub.child.process)
    let replica = try Child.replica(place.replica("new"), hub: hub.url)
    defer { replica.end() }
    let replicaMemory = MemoryProbe(process: replica.process)
    let run = try replica.answer(ReplicaRun.self)
    guard run.changes >= keys else { throw BenchmarkError("\(run.changes) of \(keys) keys came") }
    let (tenth, half) = (run.seconds(until: 0.1), run.seconds(until: 0.5))
    var measurement = Measurement()
    measurement[.rate] = Double(keys) / run.seconds
    measurement[.rateToTenth] = Double(keys) * 0.1 / tenth
    measurement[.rateToHalf] = Double(keys) * 0.4 / (half - tenth)
    measurement[.rateToEnd] = Double(keys) * 0.5 / (run.seconds - half)
    measurement[.longestStall] = run.longestStall
    measurement[.replicaMemory] = Double(replicaMemory.stop())
    measurement[.hubMemory] = Double(hubMemory.stop())
    replica.release()
    return [measurement]
  }
}
