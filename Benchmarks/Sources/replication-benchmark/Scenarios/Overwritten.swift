// A backlog of which most was overwritten later: what is not sent need not be waited for.

import BenchmarkSupport
import Foundation

struct Overwritten: Scenario {
  /// One change to a commit: a commit is left out only when all of it was overwritten.
  var backlog: Backlog

  var diskBytes: Int { backlog.diskBytes }
  var limitMeaning: String? { nil }

  func run(_ contender: Contender, _ place: Place) throws -> [Measurement] {
    guard contender == .kvsyncEvery || History.isAvailable else {
      throw BenchmarkError("this version has no history: .latest")
    }
    var measurement = try Drain.run(backlog, place, contender == .kvsyncEvery ? ["--every"] : [])
    // Replicas of both were written alike, so hubs that equal theirs equal each other.
    let hub = try RunningHub(place.hub)
    let keys = try Child.compare(place.replica(), hub: hub.url)
    hub.child.release()
    measurement.note = "hub and replica have the same \(Double(keys).grouped) rows"
    return [measurement]
  }
}
