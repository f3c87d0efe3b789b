// What every contender can do, so that each row of the table is written once.

import BenchmarkSupport

/// When a commit is safe.
enum Durability {
  /// When it returns: after fdatasync.
  case durable
  /// When the operating system has it; a process may die, the machine may not.
  case relaxed
  /// Whatever is fastest: only for data sets that are read afterwards.
  case preparing
}

/// One open database in this process. Commits come from any number of threads, reads from one.
protocol Engine: Sendable {
  /// Writes the changes `indices` of `workload` in one commit. `change` is the calling thread's room for one.
  func commit(_ indices: Range<Int>, of workload: Workload, with change: inout Change) throws
  /// Writes the changes below `count` as a data set: `perCommit` to a commit where the engine keeps a log of commits.
  func load(_ count: Int, perCommit: Int, of workload: Workload) throws
  /// Waits until everything lies where it is to stay: folded, flushed, checkpointed.
  func settle() throws
  /// The sum of the value of `key`, which is thus looked at as a reader would; nil when there is none.
  func get(_ key: [UInt8]) throws -> UInt64?
  /// Looks at each row in key order.
  func scan() throws -> Tally
  /// Looks at each change of the log, oldest first.
  func readLog() throws -> Tally
  func close() throws
}

extension Engine {
  func load(_ count: Int, perCommit: Int, of workload: Workload) throws {
    var change = Change()
    for start in stride(from: 0, to: count, by: perCommit) {
      try commit(start..<min(start + perCommit, count), of: workload, with: &change)
    }
  }
}

/// What a walk over rows or changes has seen. Contenders that saw the same have the same sum, whatever the order.
struct Tally {
  var count = 0
  var sum: UInt64 = 0

  @inline(__always)
  mutating func add(key: RawSpan, value: RawSpan) {
    count += 1
    sum &+= key.sum &+ value.sum
  }
}
