// kvsync get: prints one value.

import ArgumentParser
import KVStore

struct Get: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "get",
    abstract: "Print the value of a key; exit status 1 when it is absent.",
    discussion: """
      The bytes are printed as they are, with nothing added.

      Example: kvsync get field-notes photo/1 > photo.jpg
      """)

  @OptionGroup var target: StoreOptions
  @Argument(help: "The key.") var key: ArgumentBytes
  @OptionGroup var output: OutputOptions

  func execute() async throws -> ExitStatus {
    let store = try await target.openForReading()
    return try await withStore(store) { store in
      guard let value = try store.value(for: key.bytes) else { throw Failure.absent(key.bytes, in: target.store) }
      var out = Output()
      if output.json {
        out.beginObject()
        out.member("key", key.bytes)
        out.member("value", value)
        out.endObject()
      } else {
        out.append(value)
      }
      try out.flush()
      return .ok
    }
  }
}
