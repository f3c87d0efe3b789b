// A long way to the hub, on which connections break.
//
// The link takes 100 ms each way, and opening a connection takes a round trip more. Of each hundred round trips, one cuts
// the connection: as a full link carries a window in each round trip, at a random place in each hundred windows' worth of
// what the replica sends.

import BenchmarkSupport
import Foundation

struct SlowLink: Scenario {
  var backlog: Backlog
  var roundTrip = 0.2
  /// Round trips of which one cuts the connection.
  var roundTripsPerCut = 100

  var diskBytes: Int { backlog.diskBytes }
  var limitMeaning: String? {
    "a window of \(Double(HubProcess.windowBytes).amount) in each round trip of \(roundTrip.duration), and no more than the "
      + "same processes do without the proxy"
  }

  func run(_ contender: Contender, _ place: Place) throws -> [Measurement] {
    try Child.fill(place.replica(), with: backlog, seed: place.seed)
    sync()
    let hub = try RunningHub(place.hub)
    defer { hub.child.end() }
    let isHindered = contender != .kvsyncUnhindered
    let link = try LinkProxy(
      to: hub.port, oneWaySeconds: isHindered ? roundTrip / 2 : 0, cuts: isHindered ? cuts(place.seed) : [])
    defer { link.close() }
    let replica = try Child.replica(place.replica(), hub: link.url, ["--persistent"])
    defer { replica.end() }
    let run = try replica.answer(ReplicaRun.self)
    guard run.pending == 0 else { throw BenchmarkError("\(run.pending) changes are pending") }
    replica.release()
    let bytesPerChange = Double(link.sentBytes) / Double(backlog.changes)
    var measurement = Measurement()
    measurement[.rate] = Double(backlog.changes) / run.seconds
    measurement[.allowedRate] = Double(HubProcess.windowBytes) / bytesPerChange / roundTrip
    measurement[.longestStall] = run.longestStall
    measurement[.cuts] = Double(link.cutCount)
    return [measurement]
  }

  /// After how many bytes of the replica the connection is cut.
  private func cuts(_ seed: Int) -> [Int] {
    let workload = Workload(seed: seed)
    let stretch = roundTripsPerCut * HubProcess.windowBytes
    let count = backlog.changes * Workload.changeBytes * 2 / stretch + 1
    return (0..<count).map { $0 * stretch + workload.pick($0, below: stretch) }
  }
}
