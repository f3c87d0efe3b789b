// kvsync parked drop: takes parked commits off the list.

import ArgumentParser
import KVStore

struct ParkedDrop: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "drop",
    abstract: "Drop parked commits for good.",
    discussion: """
      Keys that still have the value of a dropped commit keep it here until they are
      written again, by this store or another one; the hub has another value, or
      none. The number of such keys is printed.

      Example: kvsync parked drop field-notes 17 18
      """)
  static let title = "parked drop"

  @OptionGroup var target: StoreOptions
  @OptionGroup var selection: ParkedSelection
  @OptionGroup var output: OutputOptions

  func execute() async throws -> ExitStatus {
    let store = try await target.openForWriting()
    return try await withStore(store) { store in
      var commits = 0
      var rowsLeft = 0
      for version in selection.versions {
        _ = try ParkedSelection.find(version, in: store)
        rowsLeft += try await store.dropParked(version).rowsLeft
        commits += 1
      }
      if selection.versions.isEmpty {
        let dropped = try await store.dropAllParked(withCode: selection.code)
        (commits, rowsLeft) = (dropped.commits, dropped.rowsLeft)
      }
      var out = Output()
      if output.json {
        out.beginObject()
        out.member("dropped", commits)
        out.member("rowsLeft", rowsLeft)
        out.member("parked", store.counters().parkedCommits)
        out.endObject()
      } else {
        out.append("dropped \(Amount.count(commits, "commit")), ")
        out.append("\(Amount.count(store.counters().parkedCommits)) still parked; ")
        out.append("\(Amount.count(rowsLeft, "key")) differ here from the hub until written again\n")
      }
      try out.flushToWhoeverReads()
      return .ok
    }
  }
}
