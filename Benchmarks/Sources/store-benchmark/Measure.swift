// One kind of work. It runs in a process of its own, once for each contender and run.

import BenchmarkSupport

protocol Measure: Sendable {
  /// One measurement for each part of the row.
  func run(_ contender: Contender, _ place: Place) throws -> [Measurement]
  /// What `limit` does, in a few words.
  var limitMeaning: String { get }
  /// The same parts, as fast as the disk or the memory allows.
  func limit(_ place: Place) throws -> [Measurement]
  /// The data sets that it reads.
  var datasets: [Dataset] { get }
  /// What the largest contender needs on disk, data sets aside, in bytes.
  var diskBytes: Int { get }
}

extension Measure {
  var datasets: [Dataset] { [] }
}

/// Where and with which seed a run works.
struct Place: Sendable {
  /// An empty directory.
  var scratch: String
  /// Where the data sets are.
  var datasets: String
  var seed: Int
}

/// Rows and what belongs to them take about so much of a disk, the index or its peer included.
let diskBytesPerChange = 450
