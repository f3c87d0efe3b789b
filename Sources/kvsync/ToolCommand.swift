// What all commands have in common: --json, and one way from an error to a message and an exit status.

import ArgumentParser
import KVStore

/// `--json`, for every command.
struct OutputOptions: ParsableArguments {
  @Flag(name: .long, help: "Print JSON, one object a line, and errors as JSON on standard error.")
  var json = false
}

/// The store a command works on.
struct StoreOptions: ParsableArguments {
  @Argument(help: "The directory of the store.", completion: .directory)
  var store: String

  func validate() throws {
    try ArgumentBytes.checkPath(store, of: "the store")
  }

  /// Opens the store to look into it. Nothing in it is changed.
  func openForReading() async throws -> Store {
    var options = Store.Options()
    options.createIfMissing = false
    options.readOnly = true
    return try await Store.open(at: store, options: options)
  }

  /// Opens the store to change it. It must exist: a mistyped path is an error, not a new store.
  func openForWriting(_ retention: Store.LogRetention? = nil) async throws -> Store {
    var options = Store.Options()
    options.createIfMissing = false
    if let retention { options.logRetention = retention }
    return try await Store.open(at: store, options: options)
  }
}

protocol ToolCommand: AsyncParsableCommand {
  var output: OutputOptions { get }
  /// Its name in messages; that of a subcommand after its command's.
  static var title: String { get }

  /// Does the work; what it returns is what the process ends with.
  func execute() async throws -> ExitStatus
}

extension ToolCommand {
  static var title: String { configuration.commandName ?? "" }

  func run() async throws { throw ExitCode(await outcome().rawValue) }

  /// Runs the command and reports what went wrong.
  func outcome() async -> ExitStatus {
    do {
      return try await execute()
    } catch is OutputClosed {
      return .ok
    } catch {
      let failure = Failure(error)
      if output.json {
        Messages.write(failure.json(command: Self.title))
      } else {
        Messages.write(failure.text(command: Self.title))
      }
      return failure.status
    }
  }

  /// Opens, works, closes. When the work fails, its error counts, not one from closing.
  func withStore<Result>(_ store: Store, _ body: (Store) async throws -> Result) async throws -> Result {
    let result: Result
    do {
      result = try await body(store)
    } catch {
      try? await store.close()
      throw error
    }
    do {
      try await store.close()
    } catch {
      var failure = Failure(error)
      failure.what = "the work is done and durable, but closing the store failed: \(failure.what)"
      throw failure
    }
    return result
  }
}
