// kvsync conflicts resolve: decides conflicts that were left to the program.

import ArgumentParser
import KVLog
import KVStore

struct ConflictsResolve: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "resolve",
    abstract: "Decide conflicts that wait for a decision.",
    discussion: """
      local writes what was written here once more, remote leaves what the key has by
      now, delete removes the key; --value writes another value. What is written is
      sent by the next sync.

      Example: kvsync conflicts resolve field-notes 17.0 --with local
      """)

  enum Side: String, CaseIterable, ExpressibleByArgument {
    case local, remote, delete
  }
  static let title = "conflicts resolve"

  @OptionGroup var target: StoreOptions
  @Argument(help: "The numbers of the conflicts.", transform: Conflicts.parse) var ids: [Conflict.ID] = []
  @Flag(help: "All that wait.") var all = false
  @Option(help: "What stands: local, remote or delete.") var with: Side?
  @Option(help: "The value that is written.") var value: ArgumentBytes?
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard ids.isEmpty == all else { throw ValidationError("Give the numbers of the conflicts, or --all.") }
    guard (with == nil) != (value == nil) else { throw ValidationError("Give --with or --value, not both.") }
  }

  private var decision: Conflict.Decision {
    if let value { return .value(value.bytes) }
    return switch with {
    case .local: .local
    case .delete: .delete
    case .remote, nil: .remote
    }
  }

  func execute() async throws -> ExitStatus {
    let store = try await target.openForWriting()
    return try await withStore(store) { store in
      var count = ids.count
      for id in ids {
        _ = try Conflicts.find(id, in: store)
        try await store.resolveConflict(id, with: decision)
      }
      if all {
        try await Conflicts.forEach(in: store, unresolved: true) { conflict in
          try await store.resolveConflict(conflict.id, with: decision)
          count += 1
        }
      }
      let left = store.counters().unresolvedConflicts
      var out = Output()
      if output.json {
        out.beginObject()
        out.member("resolved", count)
        out.member("unresolved", left)
        out.endObject()
      } else {
        out.append("resolved \(Amount.count(count, "conflict")), \(Amount.count(left)) still undecided\n")
      }
      try out.flushToWhoeverReads()
      return .ok
    }
  }
}
