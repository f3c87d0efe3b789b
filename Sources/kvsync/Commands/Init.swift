// kvsync init: makes a new, empty store.

import ArgumentParser
import KVLog
import KVStore

struct Init: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "init",
    abstract: "Create an empty store.",
    discussion: """
      The directory must not exist yet, or be empty.

      Example: kvsync init field-notes
      """)

  @OptionGroup var target: StoreOptions
  @OptionGroup var output: OutputOptions

  func execute() async throws -> ExitStatus {
    guard try await !isStore() else {
      throw Failure(
        .failed, "there is a store at \(target.store) already; nothing was changed",
        remedy: "Choose another directory, or use the store as it is: kvsync info \(target.store)")
    }
    let store: Store
    do {
      store = try await Store.open(at: target.store)
    } catch {
      await takeBack()
      throw error
    }
    let identity = store.identity
    try await store.close()
    if output.json {
      var line = Output()
      line.beginObject()
      line.member("path", target.store)
      line.member("identity", identity.description)
      line.endObject()
      try line.flush()
    } else {
      Messages.write("created store \(identity) at \(target.store)\n")
    }
    return .ok
  }

  /// A store that was made and then could not be opened, for want of space say, goes back to a creation that was cut off,
  /// so that running the command again works. Unless somebody has got hold of it and written to it meanwhile.
  private func takeBack() async {
    let manifest = "\(target.store)/\(StoreManifest.name)"
    guard SystemCall.exists(manifest), let lock = try? StoreLock("\(target.store)/lock", store: target.store) else {
      return
    }
    defer { lock.release() }
    guard let store = try? await target.openForReading() else { return }
    let isEmpty = store.counters().localVersion == 0
    try? await store.close()
    if isEmpty { SystemCall.rename(manifest, to: "\(target.store)/\(StoreManifest.creating)") }
  }

  private func isStore() async throws -> Bool {
    do {
      let store = try await target.openForReading()
      try await store.close()
      return true
    } catch let error as StoreError where error.code == .noStore {
      return false
    }
  }
}
