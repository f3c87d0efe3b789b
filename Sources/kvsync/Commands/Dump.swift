// kvsync dump: all rows as JSON lines.

import ArgumentParser
import KVStore

struct Dump: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "dump",
    abstract: "Print all rows as JSON lines, in key order.",
    discussion: """
      One line a row: {"key":"…","value":"…"}, with keyBase64 or valueBase64 where
      the bytes are not UTF-8. The rows are those of one moment. Equal stores give
      equal bytes, and `kvsync load` reads what this prints. --json changes
      nothing.

      Example: kvsync dump field-notes | kvsync load copy
      """)

  @OptionGroup var target: StoreOptions
  @OptionGroup var output: OutputOptions

  func execute() async throws -> ExitStatus {
    let store = try await target.openForReading()
    return try await withStore(store) { store in
      try store.read { snapshot in
        var out = Output()
        try snapshot.forEach { key, value in
          out.beginObject()
          out.member("key", key)
          out.member("value", value)
          try out.endRow()
          return true
        }
        try out.flush()
      }
      return .ok
    }
  }
}
