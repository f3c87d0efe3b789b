// kvsync rm: deletes one key.

import ArgumentParser
import KVStore

struct Remove: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "rm",
    abstract: "Delete a key; exit status 1 when it is absent.",
    discussion: "Example: kvsync rm field-notes weather/today")

  @OptionGroup var target: StoreOptions
  @Argument(help: "The key.") var key: ArgumentBytes
  @OptionGroup var output: OutputOptions

  func execute() async throws -> ExitStatus {
    let store = try await target.openForWriting()
    let key = key.bytes
    return try await withStore(store) { store in
      let receipt: Receipt = try await store.write { transaction in
        // The error makes the transaction vanish: deleting what is not there writes nothing.
        guard try transaction.contains(key) else { throw Failure.absent(key, in: target.store) }
        try transaction.delete(key)
      }
      if output.json { try receipt.print() }
      return .ok
    }
  }
}
