// A database that rows read: made once in a run of the benchmark, not measured.

import BenchmarkSupport
import Foundation

struct Dataset: Hashable, Sendable {
  var count: Int
  var perCommit: Int

  /// All contenders read the same changes, in every run.
  static let workload = Workload(seed: 0)

  func path(_ contender: Contender, in directory: String) -> String {
    "\(directory)/\(contender.column.rawValue)-\(count)-\(perCommit)"
  }

  var diskBytes: Int { count * (perCommit == 1 ? 1_700 : 1_300) }

  /// Makes it; whole once it has its name.
  func make(_ contender: Contender, in directory: String) throws {
    let path = path(contender, in: directory)
    let engine = try contender.open(path + ".unfinished", .preparing)
    try engine.load(count, perCommit: perCommit, of: Dataset.workload)
    try engine.settle()
    try engine.close()
    // LMDB and SQLite have files beside that of their name.
    for suffix in ["", "-lock", "-wal", "-shm"] {
      let unfinished = path + ".unfinished" + suffix
      guard FileManager.default.fileExists(atPath: unfinished) else { continue }
      try FileManager.default.moveItem(atPath: unfinished, toPath: path + suffix)
    }
  }
}
