// kvsync conflicts show: prints one conflict with what is kept of it.

import ArgumentParser
import KVLog
import KVStore

struct ConflictsShow: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "show",
    abstract: "Show a conflict with the values that are kept.",
    discussion: """
      Both values of one that was left to you, of any other the one that lost.

      Example: kvsync conflicts show field-notes 17.0
      """)
  static let title = "conflicts show"

  @OptionGroup var target: StoreOptions
  @Argument(help: "The number of the conflict.", transform: Conflicts.parse) var id: Conflict.ID
  @OptionGroup var output: OutputOptions

  func execute() async throws -> ExitStatus {
    let store = try await target.openForReading()
    return try await withStore(store) { store in
      let conflict = try Conflicts.find(id, in: store)
      var out = Output()
      if output.json {
        out.object(conflict)
        out.endObject()
      } else {
        try text(conflict, to: &out)
      }
      try out.flush()
      return .ok
    }
  }

  private func text(_ conflict: Conflict, to out: inout Output) throws {
    let here = Amount.time(milliseconds: conflict.localTime.milliseconds)
    let there = Amount.time(milliseconds: conflict.remoteTime.milliseconds)
    try line("key", conflict.key, to: &out)
    try line("winner", Array(conflict.winner.rawValue.utf8), to: &out)
    if let sides = conflict.sides {
      try line("here", sides.local, to: &out)
      try line("hub", sides.remote, to: &out)
    } else {
      try line("lost", conflict.losingValue, to: &out)
    }
    try line("written here", Array("\(here), version \(conflict.localVersion)".utf8), to: &out)
    try line(
      "written there", Array("\(there), version \(conflict.serverVersion) of the hub".utf8), to: &out)
    if let version = conflict.decidedVersion {
      try line(conflict.isReverted ? "reverted" : "decided", Array("version \(version)".utf8), to: &out)
    }
  }

  private func line(_ name: String, _ value: [UInt8]?, to out: inout Output) throws {
    out.append(name + String(repeating: " ", count: 15 - name.count))
    if let value { out.appendEscaped(value) } else { out.append("(deleted)") }
    try out.endLine()
  }
}
