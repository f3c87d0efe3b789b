// kvsync import: a replica's file at the hub, or the hub's answer at the replica.

import ArgumentParser
import KVHub
import KVHubEmbedded
import KVLog
import KVReplicator
import KVStore

struct Import: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "import",
    abstract: "Apply a file that export has written.",
    discussion: """
      At a hub that is not serving, into a space given as HUBDIR/SPACE: takes what
      a replica has exported. With --answer it then writes the file to carry back:
      what the hub has decided, and what others wrote. Into a store: takes the
      hub's answer; what the hub has decided is pending no more.

      On a hub with tokens say with --holder whose replica wrote the file: nobody but
      its holder writes in a replica's name, by a file no more than by a session.
      What the hub refuses is parked by the store that takes the answer.

      A file is checked as a whole before anything of it is used. Importing it
      twice, or after a sync, changes nothing; an import that was interrupted is
      finished by importing the file again.

      Example: kvsync import hub-data/notes notes.out --answer notes.back
               kvsync import field-notes notes.back
      """)

  @Argument(help: "The directory of the store, or HUBDIR/SPACE.", completion: .directory) var target: String
  @Argument(help: "The file.", completion: .file()) var file: String
  @Option(
    help: ArgumentHelp("At a hub: write the answer to this file.", valueName: "file"), completion: .file())
  var answer: String?
  @Option(help: ArgumentHelp("At a hub with tokens: whose replica wrote the file.", valueName: "holder"))
  var holder: String?
  @Option(
    parsing: .singleValue,
    help: ArgumentHelp("In a store: how conflicts are resolved, POLICY or PREFIX=POLICY.", valueName: "policy"))
  var policy: [PolicyArgument] = []
  @OptionGroup var output: OutputOptions

  func validate() throws {
    try ArgumentBytes.checkPath(target, of: "the store")
    try ArgumentBytes.checkPath(file, of: "the file")
    if let answer { try ArgumentBytes.checkPath(answer, of: "the answer") }
    if let error = PolicyArgument.check(policy) { throw error }
  }

  func execute() async throws -> ExitStatus {
    if let place = HubPlace(target) { return try await place.withStorage { try await atHub($0, place) } }
    guard answer == nil, holder == nil else {
      throw Failure(
        .usage, "--\(answer == nil ? "holder" : "answer") is for a hub: \(target) is a store",
        remedy: "Leave it out, or give HUBDIR/SPACE.")
    }
    var options = StoreOptions()
    options.store = target
    let store = try await options.openForWriting()
    return try await withStore(store) { store in
      var configuration = Replicator.Configuration()
      configuration.policy = PolicyArgument.policy(policy)
      let exchange = FileExchange(store, configuration: configuration)
      let report = try await FileProgress.show("bytes") { try await exchange.importAnswer(from: file, progress: $0) }
      try print(report)
      let counters = store.counters()
      return counters.unresolvedConflicts > 0 || counters.parkedCommits > 0 ? .differences : .ok
    }
  }

  private func atHub(_ storage: EmbeddedHubStorage, _ place: HubPlace) async throws -> ExitStatus {
    let report = try await FileProgress.show("bytes") {
      try await storage.importChanges(from: file, into: place.space, holder: holder, progress: $0)
    }
    try print(report)
    guard let answer else { return .ok }
    let written = try await storage.exportAnswer(to: answer, for: file, of: place.space)
    try written.print(answer, output)
    return .ok
  }

  private func print(_ report: HubImportReport) throws {
    guard output.json else {
      var text = "imported \(Amount.count(report.changes, "change")) in \(Amount.count(report.commits, "commit"))"
      if report.skippedCommits > 0 { text += ", \(Amount.count(report.skippedCommits)) commits were here already" }
      if report.stale > 0 { text += ", \(Amount.count(report.stale)) met newer changes and will be offered again" }
      if report.refused > 0 { text += ", \(Amount.count(report.refused)) refused and will be parked" }
      Messages.write(text + "; the space is at version \(report.hubVersion)\n")
      return
    }
    try Output.printObject { out in
      out.member("replica", report.replica.description)
      out.member("commits", report.commits)
      out.member("changes", report.changes)
      out.member("stale", report.stale)
      out.member("refused", report.refused)
      out.member("skipped", report.skippedCommits)
      out.member("hubVersion", report.hubVersion)
    }
  }

  private func print(_ report: SyncReport) throws {
    guard output.json else {
      Messages.write(
        "\(Amount.count(report.pushedChanges, "change")) acknowledged, \(Amount.count(report.pulledChanges)) of others applied, "
          + "\(Amount.count(report.conflicts, "conflict")), \(Amount.count(report.pendingChanges)) still pending\n")
      return
    }
    try Output.printObject { out in
      out.member("acknowledged", report.pushedChanges)
      out.member("pulled", report.pulledChanges)
      out.member("conflicts", report.conflicts)
      out.member("reoffered", report.reoffered)
      out.member("parked", report.parked)
      out.member("pending", report.pendingChanges)
    }
  }
}
