// kvsync conflicts: prints the conflict journal.

import ArgumentParser
import KVLog
import KVStore

struct Conflicts: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "conflicts",
    abstract: "List the conflicts that were found, and how they were resolved.",
    discussion: """
      A conflict is a key that two replicas changed without knowing of each other.
      Each line has its number, who won, and the key; --json adds the value that
      lost, the versions and the times. Exit status 3 when some wait for a
      decision.

      Example: kvsync conflicts field-notes --json
      """)

  @OptionGroup var target: StoreOptions
  @OptionGroup var output: OutputOptions

  /// Conflicts read at a time: a journal may be longer than memory.
  private static let page = 512

  func execute() async throws -> ExitStatus {
    let store = try await target.openForReading()
    return try await withStore(store) { store in
      var out = Output()
      var last: Conflict.ID?
      while true {
        let conflicts = try store.conflicts(after: last, limit: Self.page)
        for conflict in conflicts { try print(conflict, to: &out) }
        guard conflicts.count == Self.page else { break }
        last = conflicts.last?.id
      }
      try out.flush()
      let unresolved = store.counters().unresolvedConflicts
      if unresolved > 0 {
        Messages.write("\(Amount.count(unresolved, "conflict")) \(unresolved == 1 ? "waits" : "wait") for a decision\n")
        return .differences
      }
      return .ok
    }
  }

  private func print(_ conflict: Conflict, to out: inout Output) throws {
    guard output.json else {
      out.append("\(conflict.id)\t\(conflict.winner.rawValue)\t")
      out.appendEscaped(conflict.key)
      try out.endLine()
      return
    }
    out.beginObject()
    out.member("id", conflict.id.description)
    out.member("key", conflict.key)
    out.member("winner", conflict.winner.rawValue)
    out.member("losingValue", conflict.losingValue)
    out.member("localVersion", conflict.localVersion)
    out.member("localTime", Amount.time(milliseconds: conflict.localTime.milliseconds))
    out.member("serverVersion", conflict.serverVersion)
    out.member("remoteTime", Amount.time(milliseconds: conflict.remoteTime.milliseconds))
    out.member("remoteOrigin", conflict.remoteOrigin.description)
    try out.endRow()
  }
}
