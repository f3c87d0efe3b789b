// kvsync token: the tokens of a hub.

import ArgumentParser
import Foundation
import KVHub
import KVHubEmbedded
import KVStore

struct Token: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "token",
    abstract: "Create, list and revoke the tokens of a hub.",
    discussion: """
      DIR is the hub's directory, served or not. A token is shown once, when it is
      created; the hub keeps a hash of it. As soon as there is one, the hub admits
      nobody without. Each has a holder, and a replica belongs to the holder of the
      token that first synchronised it: no other one may claim to be that replica. A
      new token of the same holder takes over from an old one.

      Example: kvsync token create hub-data alice --space notes > alice.token
               kvsync sync notes kvsyncs://my-hub/notes --token-file alice.token
      """,
    subcommands: [TokenCreate.self, TokenList.self, TokenRevoke.self])
}

struct HubDirectoryOptions: ParsableArguments {
  @Argument(help: ArgumentHelp("The hub's directory.", valueName: "dir"), completion: .directory) var directory: String

  func validate() throws {
    try ArgumentBytes.checkPath(directory, of: "the hub's directory")
  }

  func tokens() throws -> HubTokens { try HubTokens(directory: directory) }

  /// Of a directory that is there: one that only asks makes none.
  func existingTokens() throws -> HubTokens {
    guard SystemCall.exists(directory) else {
      throw StoreError(.noStore, "there is no hub's directory here. Check the path.", path: directory)
    }
    return try tokens()
  }
}

struct TokenCreate: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "create",
    abstract: "Create a token, and print it: it is shown this once.",
    discussion: """
      Rights: read (pull and compare), write (push as well; default), admin (make
      spaces as well). A token that names its spaces may make these with write.

      Example: kvsync token create hub-data alice --space notes --expires-in 90d
      """)
  static let title = "token create"

  @OptionGroup var hub: HubDirectoryOptions
  @Argument(help: "Whose it is: a person, a machine, a program.") var holder: String
  @Option(help: ArgumentHelp("A space it is for, of several; by default all.", valueName: "SPACE")) var space:
    [String] = []
  @Option(help: "What its holder may do: read, write (default) or admin.", transform: right) var rights = Hub.Right
    .write
  @Option(
    help: ArgumentHelp("How long it is good for, such as 12h or 90d; by default for ever.", valueName: "TIME"),
    transform: Lifetime.init(_:))
  var expiresIn: Lifetime?
  @OptionGroup var output: OutputOptions

  private static func right(_ text: String) throws -> Hub.Right {
    guard let right = Hub.Right(rawValue: text) else { throw ValidationError("The rights are read, write or admin.") }
    return right
  }

  func execute() async throws -> ExitStatus {
    let (text, token) = try hub.tokens().create(
      for: holder, spaces: space.isEmpty ? nil : space, right: rights, lifetime: expiresIn?.duration)
    var out = Output()
    if output.json {
      out.beginObject()
      out.member("token", text)
      token.members(to: &out)
      out.endObject()
    } else {
      out.append("\(text)\n")
    }
    do {
      try out.flush()
    } catch {
      // Nobody has it, and nobody shall.
      _ = try hub.tokens().revoke(token.id)
      throw error
    }
    if !output.json {
      Messages.write(
        "token \(token.id) of \(token.principal), \(token.right.rawValue), \(token.scope), \(token.end); it is not shown again\n"
      )
    }
    return .ok
  }
}

struct TokenList: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "list",
    abstract: "List the tokens of a hub.",
    discussion: """
      A line for each: id, state (active, expired, revoked), rights, holder, spaces,
      end; separated by tabs.

      Example: kvsync token list hub-data --json
      """)
  static let title = "token list"

  @OptionGroup var hub: HubDirectoryOptions
  @OptionGroup var output: OutputOptions

  func execute() async throws -> ExitStatus {
    var out = Output()
    for token in try hub.existingTokens().list() {
      if output.json {
        out.beginObject()
        token.members(to: &out)
        try out.endRow()
      } else {
        out.append("\(token.id)\t\(token.state.rawValue)\t\(token.right.rawValue)\t")
        out.appendEscaped(Array(token.principal.utf8))
        out.append("\t\(token.scope)\t\(token.end)")
        try out.endLine()
      }
    }
    try out.flush()
    return .ok
  }
}

struct TokenRevoke: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "revoke",
    abstract: "Revoke a token: its sessions end within two seconds.",
    discussion: """
      ID is what kvsync token list shows; it is also in the token, after kvsync_.

      Example: kvsync token revoke hub-data 1f2e3d4c
      """)
  static let title = "token revoke"

  @OptionGroup var hub: HubDirectoryOptions
  @Argument(help: "The token's id.") var id: String
  @OptionGroup var output: OutputOptions

  func execute() async throws -> ExitStatus {
    guard let token = try hub.existingTokens().revoke(id) else {
      throw Failure(
        .failed, "the hub has no token \(id)", remedy: "kvsync token list \(hub.directory) shows those it has.")
    }
    var out = Output()
    if output.json {
      out.beginObject()
      token.members(to: &out)
      out.endObject()
    } else {
      out.append("revoked \(token.id) of \(token.principal)\n")
    }
    try out.flushToWhoeverReads()
    return .ok
  }
}

/// A time that a token is good for: a number and s, m, h or d.
struct Lifetime {
  let duration: Duration

  init(_ text: String) throws {
    let units: [Character: Int] = ["s": 1, "m": 60, "h": 3_600, "d": 86_400]
    guard let unit = text.last.flatMap({ units[$0] }), let count = Int(text.dropLast()), count > 0,
      count <= 36_500 * 86_400 / unit
    else { throw ValidationError("A time is a number and s, m, h or d, such as 12h or 90d; at most a hundred years.") }
    duration = .seconds(count * unit)
  }
}

extension HubToken {
  fileprivate var state: State { state(at: UInt64(max(0, Date().timeIntervalSince1970 * 1_000))) }

  fileprivate var scope: String { spaces.map { $0.joined(separator: ",") } ?? "all spaces" }

  fileprivate var end: String { expires.map { "until \(Amount.time(milliseconds: $0))" } ?? "for ever" }

  fileprivate func members(to out: inout Output) {
    out.member("id", id)
    out.member("holder", principal)
    out.member("rights", right.rawValue)
    out.member("spaces", spaces?.joined(separator: ","))
    out.member("state", state.rawValue)
    out.member("created", Amount.time(milliseconds: created))
    out.member("expires", expires.map { Amount.time(milliseconds: $0) })
    out.member("revoked", revoked.map { Amount.time(milliseconds: $0) })
  }
}
