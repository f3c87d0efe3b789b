// kvsync parked export: prints parked commits in a form that other programs can keep and read.

import ArgumentParser
import KVStore

struct ParkedExport: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "export",
    abstract: "Print parked commits as JSON, whole, one a line.",
    discussion: """
      Each has its changes as objects of the form that kvsync load reads; --changes
      prints these alone, one a line, to be edited and loaded. The form is the same with
      and without --json, and stays the same from release to release. Nothing in the
      store is changed.

      Example: kvsync parked export field-notes --all > parked.jsonl
               kvsync parked export field-notes 7 --changes > changes.jsonl
      """)
  static let title = "parked export"

  @OptionGroup var target: StoreOptions
  @OptionGroup var selection: ParkedSelection
  @Flag(help: "Only the changes, one a line, as kvsync load reads them.") var changes = false
  @OptionGroup var output: OutputOptions

  func execute() async throws -> ExitStatus {
    let store = try await target.openForReading()
    return try await withStore(store) { store in
      var out = Output()
      try selection.forEach(in: store) { commit in
        guard !changes else {
          for change in try store.parkedChanges(of: commit.id) {
            out.beginObject()
            out.members(key: change.key, value: change.value)
            try out.endRow()
          }
          return
        }
        out.beginObject()
        out.members(commit)
        out.beginArray("changes")
        for change in try store.parkedChanges(of: commit.id) {
          out.beginElement()
          out.members(key: change.key, value: change.value)
          out.endElement()
        }
        out.endArray()
        try out.endRow()
      }
      try out.flush()
      return .ok
    }
  }
}
