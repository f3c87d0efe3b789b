// kvsync parked retry: offers parked commits again.

import ArgumentParser
import KVStore

struct ParkedRetry: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "retry",
    abstract: "Write parked commits once more, to be offered to the hub again.",
    discussion: """
      What a commit wrote becomes a new one, of now; keys that were written again
      since get its values. The next sync sends it. To change it before, export its
      changes (kvsync parked export STORE NUMBER --changes), edit and load them, and
      drop the parked one.

      Example: kvsync parked retry field-notes --code 1
      """)
  static let title = "parked retry"

  @OptionGroup var target: StoreOptions
  @OptionGroup var selection: ParkedSelection
  @OptionGroup var output: OutputOptions

  func execute() async throws -> ExitStatus {
    let store = try await target.openForWriting()
    return try await withStore(store) { store in
      var count = selection.versions.count
      for version in selection.versions {
        _ = try ParkedSelection.find(version, in: store)
        try await store.retryParked(version)
      }
      if selection.versions.isEmpty { count = try await store.retryAllParked(withCode: selection.code) }
      var out = Output()
      if output.json {
        out.beginObject()
        out.member("retried", count)
        out.member("parked", store.counters().parkedCommits)
        out.endObject()
      } else {
        out.append("retried \(Amount.count(count, "commit")), ")
        out.append("\(Amount.count(store.counters().parkedCommits)) still parked\n")
      }
      try out.flushToWhoeverReads()
      return .ok
    }
  }
}
