// kvsync parked show: prints a parked commit with its changes.

import ArgumentParser
import KVLog
import KVStore

struct ParkedShow: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "show",
    abstract: "Show a parked commit with its changes.",
    discussion: """
      After the reason follows a line for each change: whether the key still has
      that value here (current) or was written again since (replaced), the key, and
      the value.

      Example: kvsync parked show field-notes 17
      """)
  static let title = "parked show"

  @OptionGroup var target: StoreOptions
  @Argument(help: "The version of the commit.") var version: UInt64
  @OptionGroup var output: OutputOptions

  func execute() async throws -> ExitStatus {
    let store = try await target.openForReading()
    return try await withStore(store) { store in
      let commit = try ParkedSelection.find(version, in: store)
      let changes = try store.parkedChanges(of: version)
      var out = Output()
      if output.json {
        out.beginObject()
        out.members(commit)
        out.beginArray("changes")
        for change in changes {
          out.beginElement()
          out.members(key: change.key, value: change.value)
          out.member("current", change.isCurrent)
          out.endElement()
        }
        out.endArray()
        out.endObject()
      } else {
        out.append("version \(commit.id), written \(Amount.time(milliseconds: commit.time.milliseconds)), ")
        out.append("refused \(Amount.time(milliseconds: commit.parkedTime.milliseconds)), code \(commit.code): ")
        out.appendEscaped(Array(commit.reason.utf8))
        try out.endLine()
        for change in changes {
          out.append(change.isCurrent ? "current\t" : "replaced\t")
          out.appendEscaped(change.key)
          if let value = change.value {
            out.append("\t")
            out.appendEscaped(value)
          } else {
            out.append("\t(deleted)")
          }
          try out.endLine()
        }
      }
      try out.flush()
      return .ok
    }
  }
}
