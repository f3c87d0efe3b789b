// Writes a backlog and goes: nothing of it is left in the memory of the processes that are measured.

import ArgumentParser
import BenchmarkSupport
import KVStore

/// Writes `changes` changes, `perCommit` to a transaction, one transaction after the other, and folds them: an offline
/// backlog was written a while ago.
struct FillProcess: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "fill", shouldDisplay: false)

  @Argument var directory: String
  @Argument var changes: Int
  @Argument var perCommit: Int
  @Argument var order: String
  @Argument var keys: Int
  @Argument var seed: Int

  func run() throws {
    guard let order = Workload.Order(rawValue: order) else { throw BenchmarkError("there is no order \"\(order)\"") }
    let workload = Workload(seed: seed, order: order)
    var options = Store.Options()
    options.durability = .relaxed
    let store = try Store.openBlocking(at: directory, options: options)
    for start in stride(from: 0, to: changes, by: perCommit) {
      try store.writeBlocking { transaction in
        var change = Change()
        for index in start..<min(start + perCommit, changes) {
          workload.fill(&change, index)
          if keys < changes { workload.fillKey(&change, workload.pick(index, below: keys)) }
          try transaction.put(change.value, for: change.key)
        }
      }
    }
    try store.closeBlocking()
    announce("done")
  }
}
