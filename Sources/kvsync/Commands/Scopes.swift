// kvsync scopes: the part of a space that a store gets from its hub.

import ArgumentParser
import KVStore

struct Scopes: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "scopes",
    abstract: "List, add or remove the key prefixes that a store gets from its hub.",
    discussion: """
      Without scopes a store gets everything. A scope that is added comes as a
      snapshot with the next sync, or with the one that is under way. What is written
      outside of the scopes is pushed all the same.

      Example: kvsync scopes add field-notes 2026/ contacts/
      """,
    subcommands: [ScopesList.self, ScopesAdd.self, ScopesRemove.self], defaultSubcommand: ScopesList.self)

  /// Prints what is subscribed to.
  static func print(_ scopes: [[UInt8]]?, json: Bool) throws {
    var out = Output()
    for scope in scopes ?? [] {
      if json {
        out.beginObject()
        out.member("scope", scope)
        try out.endRow()
      } else {
        out.appendEscaped(scope)
        try out.endLine()
      }
    }
    if json, scopes == nil {
      out.beginObject()
      out.member("everything", true)
      try out.endRow()
    }
    try out.flush()
  }
}

struct ScopesList: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "list",
    abstract: "List the prefixes, one a line; nothing when the store gets everything.",
    discussion: "Example: kvsync scopes list field-notes --json")
  static let title = "scopes list"

  @OptionGroup var target: StoreOptions
  @OptionGroup var output: OutputOptions

  func execute() async throws -> ExitStatus {
    try await withStore(try await target.openForReading()) { store in
      try Scopes.print(store.scopes, json: output.json)
      return .ok
    }
  }
}

struct ScopesAdd: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "add",
    abstract: "Get what begins with these prefixes.",
    discussion: """
      The first one limits a store that got everything; --all goes back to that. At
      most 256 prefixes.

      Example: kvsync scopes add field-notes 2026/
      """)
  static let title = "scopes add"

  @OptionGroup var target: StoreOptions
  @Argument(help: "Prefixes of keys.") var prefixes: [ArgumentBytes] = []
  @Flag(help: "Get everything.") var all = false
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard prefixes.isEmpty == all else { throw ValidationError("Give prefixes, or --all.") }
  }

  func execute() async throws -> ExitStatus {
    try await withStore(try await target.openForWriting()) { store in
      if all { try await store.removeAllScopes() }
      for prefix in prefixes { try await store.addScope(prefix.bytes) }
      try Scopes.print(store.scopes, json: output.json)
      return .ok
    }
  }
}

struct ScopesRemove: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "remove",
    abstract: "Get nothing more of what begins with these prefixes.",
    discussion: """
      What is here stays, unless --evict gives up all that lies outside of the scopes
      and is on the hub. What is pending stays in any case, and nothing is deleted on
      the hub.

      Example: kvsync scopes remove field-notes 2025/ --evict
      """)
  static let title = "scopes remove"

  @OptionGroup var target: StoreOptions
  @Argument(help: "Prefixes of keys.") var prefixes: [ArgumentBytes] = []
  @Flag(help: "Give up what lies outside of the scopes.") var evict = false
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard !prefixes.isEmpty || evict else { throw ValidationError("Give prefixes, or --evict.") }
  }

  func execute() async throws -> ExitStatus {
    try await withStore(try await target.openForWriting()) { store in
      for prefix in prefixes { try await store.removeScope(prefix.bytes) }
      let count = evict ? try await store.evict() : 0
      if evict, output.json {
        var out = Output()
        out.beginObject()
        out.member("evicted", count)
        try out.endRow()
        try out.flush()
      }
      try Scopes.print(store.scopes, json: output.json)
      if evict, !output.json { Messages.write("evicted \(Amount.count(count, "key"))\n") }
      return .ok
    }
  }
}
