// kvsync conflicts list: prints the conflict journal.

import ArgumentParser
import KVLog
import KVStore

struct ConflictsList: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "list",
    abstract: "List the conflicts that were found, and how they were resolved.",
    discussion: """
      Each line has the conflict's number, who won (undecided: it waits for you), and
      the key; --json adds the values that are kept, the versions and the times. Exit
      status 3 when some wait for a decision.

      Example: kvsync conflicts list field-notes --unresolved
      """)
  static let title = "conflicts list"

  @OptionGroup var target: StoreOptions
  @Flag(help: "Only those that wait for a decision.") var unresolved = false
  @OptionGroup var output: OutputOptions

  func execute() async throws -> ExitStatus {
    let store = try await target.openForReading()
    return try await withStore(store) { store in
      var out = Output()
      try await Conflicts.forEach(in: store, unresolved: unresolved) { conflict in
        if output.json {
          out.object(conflict)
          try out.endRow()
        } else {
          out.append("\(conflict.id)\t\(conflict.winner.rawValue)\t")
          out.appendEscaped(conflict.key)
          try out.endLine()
        }
      }
      try out.flush()
      let waiting = store.counters().unresolvedConflicts
      guard waiting > 0 else { return .ok }
      if !output.json {
        Messages.write("\(Amount.count(waiting, "conflict")) \(waiting == 1 ? "waits" : "wait") for a decision\n")
      }
      return .differences
    }
  }
}
