// kvsync compact: gives back disk space that a store's index no longer uses.

import ArgumentParser
import KVLog
import KVStore

struct Compact: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "compact",
    abstract: "Write a store's index anew, without free pages.",
    discussion: """
      For a store that nobody has open. It needs room for the new index beside the
      old one. With --from-log a damaged index is thrown away and written anew from
      the log, which must be whole and reach back to the first version.

      Example: kvsync compact field-notes
      """)

  @OptionGroup var target: StoreOptions
  @Flag(help: "Write the index from the log, and not from the old index.")
  var fromLog = false
  @OptionGroup var output: OutputOptions

  func execute() async throws -> ExitStatus {
    let freed = fromLog ? try await rebuild() : try compact()
    if output.json {
      var line = Output()
      line.beginObject()
      line.member("path", target.store)
      line.member("freedBytes", freed)
      line.endObject()
      try line.flushToWhoeverReads()
    } else if fromLog {
      Messages.write("wrote the index of \(target.store) anew from the log\n")
    } else {
      Messages.write("gave back \(Amount.bytes(freed)) of \(target.store)\n")
    }
    return .ok
  }

  private func compact() throws -> Int {
    var bar = ProgressBar()
    defer { bar.finish() }
    return try Store.compact(at: target.store) { done in
      bar.update(done: done, total: nil, items: done, noun: "rows copied")
    }
  }

  private func rebuild() async throws -> Int {
    try Store.rebuildIndex(at: target.store)
    // The next opening replays the log: this one.
    try await target.openForWriting().close()
    return 0
  }
}
