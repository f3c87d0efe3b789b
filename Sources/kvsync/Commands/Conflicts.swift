// kvsync conflicts: the conflict journal. What its commands have in common; each has a file of its own.

import ArgumentParser
import KVLog
import KVStore

struct Conflicts: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "conflicts",
    abstract: "List and show the conflicts that were found; resolve or revert them.",
    discussion: """
      A conflict is a key that two replicas changed without knowing of each other.
      The value that lost is kept. What was left to you (sync --policy manual) waits
      until you resolve it.

      Example: kvsync conflicts list field-notes
      """,
    subcommands: [ConflictsList.self, ConflictsShow.self, ConflictsResolve.self, ConflictsRevert.self],
    defaultSubcommand: ConflictsList.self)

  /// Conflicts read at a time: a journal may be longer than memory.
  static let page = 512

  /// Reads `VERSION.ORDINAL`, as `conflicts list` prints it.
  static func parse(_ text: String) throws -> Conflict.ID {
    guard let id = Conflict.ID(text) else {
      throw ValidationError("'\(text)' is no number of a conflict; kvsync conflicts list has them, as in 17.0")
    }
    return id
  }

  static func find(_ id: Conflict.ID, in store: Store) throws -> Conflict {
    guard let conflict = try store.conflict(id) else {
      throw Failure(
        .failed, "the journal of \(store.path) has no conflict \(id)",
        remedy: "kvsync conflicts list \(store.path) lists those that it has.")
    }
    return conflict
  }

  /// Reads all, or those that wait for a decision, in pages.
  static func forEach(
    in store: Store, unresolved: Bool, _ body: (Conflict) async throws -> Void
  ) async throws {
    var last: Conflict.ID?
    while true {
      let conflicts =
        unresolved
        ? try store.unresolvedConflicts(after: last, limit: page) : try store.conflicts(after: last, limit: page)
      for conflict in conflicts { try await body(conflict) }
      guard let final = conflicts.last else { return }
      last = final.id
    }
  }
}

extension Output {
  mutating func object(_ conflict: Conflict) {
    beginObject()
    member("id", conflict.id.description)
    member("key", conflict.key)
    member("winner", conflict.winner.rawValue)
    member("losingValue", conflict.losingValue)
    if let sides = conflict.sides {
      member("localValue", sides.local)
      member("remoteValue", sides.remote)
    }
    member("foundTime", Amount.time(milliseconds: conflict.foundTime.milliseconds))
    member("decidedVersion", conflict.decidedVersion)
    member("reverted", conflict.isReverted)
    member("localVersion", conflict.localVersion)
    member("localTime", Amount.time(milliseconds: conflict.localTime.milliseconds))
    member("serverVersion", conflict.serverVersion)
    member("remoteTime", Amount.time(milliseconds: conflict.remoteTime.milliseconds))
    member("remoteOrigin", conflict.remoteOrigin.description)
  }
}
