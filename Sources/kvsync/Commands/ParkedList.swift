// kvsync parked list: prints the parked commits.

import ArgumentParser
import KVStore

struct ParkedList: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "list",
    abstract: "List the parked commits, oldest first.",
    discussion: """
      Each line has the commit's version, the code of the refusal, the number of
      changes, their bytes, and the reason. Exit status 3 when there are some.

      Example: kvsync parked list field-notes --json
      """)
  static let title = "parked list"

  @OptionGroup var target: StoreOptions
  @OptionGroup var output: OutputOptions

  func execute() async throws -> ExitStatus {
    let store = try await target.openForReading()
    return try await withStore(store) { store in
      var out = Output()
      var isEmpty = true
      try ParkedSelection.forEach(in: store) { commit in
        isEmpty = false
        if output.json {
          out.beginObject()
          out.members(commit)
          out.member("changes", commit.changeCount)
          out.member("bytes", commit.byteCount)
          return try out.endRow()
        }
        out.append("\(commit.id)\t\(commit.code)\t\(commit.changeCount)\t\(commit.byteCount)\t")
        out.appendEscaped(Array(commit.reason.utf8))
        try out.endLine()
      }
      try out.flush()
      return isEmpty ? .ok : .differences
    }
  }
}
