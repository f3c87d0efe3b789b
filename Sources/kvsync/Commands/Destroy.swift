// kvsync destroy: removes a store, and nothing else.

import ArgumentParser
import KVStore

struct Destroy: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "destroy",
    abstract: "Remove a store.",
    discussion: """
      Removes the store's files, damaged or not, and its directory. Files in it that
      are not the store's are left, and named. Nothing else is ever removed: a
      directory that is no store is refused, and so is a store that is open.

      Example: kvsync destroy field-notes
      """)

  @OptionGroup var target: StoreOptions
  @OptionGroup var output: OutputOptions

  func execute() async throws -> ExitStatus {
    let left = try Store.destroy(at: target.store)
    if output.json {
      for path in left {
        var line = Output()
        line.beginObject()
        line.member("left", path)
        line.endObject()
        try line.flushToWhoeverReads()
      }
    } else {
      Messages.write("removed the store at \(target.store)\n")
      for path in left { Messages.write("  left, because it is not the store's: \(path)\n") }
    }
    return .ok
  }
}
