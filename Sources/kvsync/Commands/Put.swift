// kvsync put: writes one value.

import ArgumentParser
import KVStore

struct Put: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "put",
    abstract: "Write a value; durable when the command ends.",
    discussion: """
      Without VALUE, the value is read from standard input as it is, line ends
      included. A key has 1 to 511 bytes, a value at most 16 MiB.

      Example: kvsync put field-notes weather/today rain
               kvsync put field-notes photo/1 < photo.jpg
      """)

  @OptionGroup var target: StoreOptions
  @Argument(help: "The key.") var key: ArgumentBytes
  @Argument(help: "The value; standard input when absent.") var value: ArgumentBytes?
  @OptionGroup var output: OutputOptions

  func execute() async throws -> ExitStatus {
    // Read before the store is opened: other writers do not wait for somebody who types.
    let bytes = try value?.bytes ?? StandardInput.readAll()
    let store = try await target.openForWriting()
    return try await withStore(store) { store in
      let receipt = try await store.put(bytes, for: key.bytes)
      if output.json { try receipt.print() }
      return .ok
    }
  }
}
