// kvsync ls: prints keys in order.

import ArgumentParser
import KVStore

struct List: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "ls",
    abstract: "List keys in order.",
    discussion: """
      One key a line; a tab, a line feed and a backslash in a key are printed as
      \\t, \\n and \\\\. With --json each line has the key, the size of its value and
      the version that wrote it.

      Example: kvsync ls field-notes --prefix weather/ --limit 10
      """)

  @OptionGroup var target: StoreOptions
  @Option(help: "Only keys that begin with this.") var prefix: ArgumentBytes?
  @Option(help: "At most this many keys.") var limit: Int?
  @OptionGroup var output: OutputOptions

  func validate() throws {
    if let limit, limit < 0 { throw ValidationError("--limit must not be negative; it is \(limit).") }
  }

  func execute() async throws -> ExitStatus {
    let store = try await target.openForReading()
    return try await withStore(store) { store in
      try store.read { snapshot in
        var out = Output()
        var left = limit ?? .max
        if left == 0 { return }
        try snapshot.forEachRow(in: KeyRange(prefix: prefix?.bytes ?? [])) { key, row, value in
          if row.isTombstone { return true }
          left -= 1
          if output.json {
            out.beginObject()
            out.member("key", key)
            out.member("valueBytes", value.byteCount)
            out.member("version", row.version)
            try out.endRow()
          } else {
            out.appendEscaped(key)
            try out.endLine()
          }
          return left > 0
        }
        try out.flush()
      }
      return .ok
    }
  }
}
