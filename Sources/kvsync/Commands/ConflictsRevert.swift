// kvsync conflicts revert: writes values that lost once more.

import ArgumentParser
import KVLog
import KVStore

struct ConflictsRevert: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "revert",
    abstract: "Write the value that lost a conflict once more.",
    discussion: """
      It becomes a new change, of now, whatever the key has meanwhile, and is sent by
      the next sync. Prints the version that each got.

      Example: kvsync conflicts revert field-notes 17.0
      """)
  static let title = "conflicts revert"

  @OptionGroup var target: StoreOptions
  @Argument(help: "The numbers of the conflicts.", transform: Conflicts.parse) var ids: [Conflict.ID]
  @OptionGroup var output: OutputOptions

  func execute() async throws -> ExitStatus {
    let store = try await target.openForWriting()
    return try await withStore(store) { store in
      var out = Output()
      for id in ids {
        _ = try Conflicts.find(id, in: store)
        let receipt = try await store.revertConflict(id)
        if output.json {
          out.beginObject()
          out.member("id", id.description)
          out.member("version", receipt.version)
          out.endObject()
        } else {
          out.append("\(id)\t\(receipt.version)\n")
        }
        // What was done is said, should the next one fail.
        try out.flushToWhoeverReads()
      }
      return .ok
    }
  }
}
