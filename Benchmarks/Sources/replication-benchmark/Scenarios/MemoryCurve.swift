// Whether memory grows with the backlog.

import BenchmarkSupport
import Foundation

/// Drains backlogs of several sizes, each a part.
struct MemoryCurve: Scenario {
  var sizes: [Int]

  var diskBytes: Int { Backlog(changes: sizes.max() ?? 0).diskBytes }
  var limitMeaning: String? { nil }

  func run(_ contender: Contender, _ place: Place) throws -> [Measurement] {
    try sizes.map { size in
      defer {
        for path in [place.replica(), place.hub] { try? FileManager.default.removeItem(atPath: path) }
      }
      return try Drain.run(Backlog(changes: size), place)
    }
  }
}
