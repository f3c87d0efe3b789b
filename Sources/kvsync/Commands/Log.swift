// kvsync log: prints the changes that the replication log holds.

import ArgumentParser
import KVLog
import KVStore

struct Log: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "log",
    abstract: "Print the changes of the replication log, oldest first.",
    discussion: """
      Each line has the version of the commit, its time, whether it was written
      here (local), pulled (remote) or made by resolving a conflict (resolution),
      put or delete, the size of the value, and the key. --json adds the value,
      the hub's version and the store that wrote it.

      Example: kvsync log field-notes --since 120
      """)

  @OptionGroup var target: StoreOptions
  @Option(help: ArgumentHelp("Only changes after this version.", valueName: "VERSION")) var since: Version?
  @OptionGroup var output: OutputOptions

  func execute() async throws -> ExitStatus {
    let store = try await target.openForReading()
    return try await withStore(store) { store in
      // Without --since: from the oldest version that the log still has.
      let start = try since ?? store.information().firstLogVersion - 1
      var out = Output()
      for try await change in store.changes(after: start) {
        if output.json { try json(change, to: &out) } else { try text(change, to: &out) }
      }
      try out.flush()
      return .ok
    }
  }

  private func text(_ change: StoreChange, to out: inout Output) throws {
    let what = change.value == nil ? "delete" : "put"
    out.append("\(change.version)\t\(Amount.time(milliseconds: change.time.milliseconds))\t\(change.kind.rawValue)\t")
    out.append("\(what)\t\(change.value?.count ?? 0)\t")
    out.appendEscaped(change.key)
    try out.endLine()
  }

  private func json(_ change: StoreChange, to out: inout Output) throws {
    out.beginObject()
    out.member("version", change.version)
    out.member("serverVersion", change.serverVersion)
    out.member("time", Amount.time(milliseconds: change.time.milliseconds))
    out.member("kind", change.kind.rawValue)
    out.member("origin", change.origin.description)
    out.member("key", change.key)
    if let value = change.value { out.member("value", value) } else { out.member("deleted", true) }
    try out.endRow()
  }
}
