// One kind of work. It is done once for each contender and run.

import BenchmarkSupport

protocol Scenario: Sendable {
  /// One measurement for each part of the row.
  func run(_ contender: Contender, _ place: Place) throws -> [Measurement]
  /// What `limit` does, in a few words; nil where there is no such thing.
  var limitMeaning: String? { get }
  /// What the largest contender needs on disk, in bytes.
  var diskBytes: Int { get }
}

/// Where and with which seed a run works.
struct Place: Sendable {
  /// An empty directory.
  var scratch: String
  var seed: Int

  var hub: String { scratch + "/hub" }
  func replica(_ name: String = "replica") -> String { scratch + "/" + name }
}

/// What is written on a replica before it is measured.
struct Backlog: Sendable {
  var changes: Int
  var perCommit = 1_000
  var order = Workload.Order.random
  /// Keys that the changes go to; as many as changes: each is written once.
  var keys: Int?

  /// Rows, their log and what folding leaves, on a replica and on a hub, in bytes.
  var diskBytes: Int { changes * 2 * (perCommit == 1 ? 700 : 450) + 1 << 30 }
}
