// kvsync parked: the commits that the hub refused. What its commands have in common; each has a file of its own.

import ArgumentParser
import KVLog
import KVStore

struct Parked: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "parked",
    abstract: "List, show, retry, drop or export the commits that the hub refused.",
    discussion: """
      A commit that the hub refuses is parked, with the reason, and holds up nothing.
      It stays parked until it is retried or dropped; its number is the version that
      it has in the store.

      Example: kvsync parked list field-notes
      """,
    subcommands: [
      ParkedList.self, ParkedShow.self, ParkedRetry.self, ParkedDrop.self, ParkedExport.self,
    ],
    defaultSubcommand: ParkedList.self)
}

/// Which parked commits a command is about.
struct ParkedSelection: ParsableArguments {
  @Argument(help: "The versions of the commits.") var versions: [UInt64] = []
  @Flag(help: "All that are parked.") var all = false
  @Option(help: ArgumentHelp("Only those that were refused with this code.", valueName: "number")) var code: UInt16?

  func validate() throws {
    guard versions.isEmpty == (all || code != nil) else {
      throw ValidationError("Give the versions of the commits, or --all, or --code.")
    }
  }

  /// Calls `body` with each of them, in pages: there may be more than memory.
  func forEach(in store: Store, _ body: (ParkedCommit) throws -> Void) throws {
    guard versions.isEmpty else {
      for version in versions { try body(try Self.find(version, in: store)) }
      return
    }
    try Self.forEach(in: store) { commit in
      if code == nil || code == commit.code { try body(commit) }
    }
  }

  static func find(_ version: UInt64, in store: Store) throws -> ParkedCommit {
    guard let commit = try store.parkedCommit(version) else {
      throw Failure(
        .failed, "no commit of version \(version) is parked in \(store.path)",
        remedy: "kvsync parked list \(store.path) lists those that are.")
    }
    return commit
  }

  static func forEach(in store: Store, _ body: (ParkedCommit) throws -> Void) throws {
    var last: ParkedCommit.ID?
    while true {
      let page = try store.parkedCommits(after: last, limit: 512)
      for commit in page { try body(commit) }
      guard let final = page.last else { return }
      last = final.id
    }
  }
}

extension Output {
  /// The members of a parked commit.
  mutating func members(_ commit: ParkedCommit) {
    member("version", commit.id)
    member("code", Int(commit.code))
    member("reason", commit.reason)
    member("time", Amount.time(milliseconds: commit.time.milliseconds))
    member("parkedTime", Amount.time(milliseconds: commit.parkedTime.milliseconds))
  }

  /// The members of a change, as `kvsync load` reads them.
  mutating func members(key: [UInt8], value: [UInt8]?) {
    member("key", key)
    if let value { member("value", value) } else { member("deleted", true) }
  }
}
