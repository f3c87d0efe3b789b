// kvsync export: what is pending, or what a replica lacks, as a file.

import ArgumentParser
import KVHub
import KVHubEmbedded
import KVLog
import KVReplicator
import KVStore

struct Export: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "export",
    abstract: "Write what sync would send to a file, for a medium instead of a network.",
    discussion: """
      Of a store: its pending commits, and where it stands. They stay pending until
      the hub's answer is imported; worth doing also when nothing is pending, for
      the hub to answer. Of a space, given as HUBDIR/SPACE, with --for: what the
      replica that wrote that file is to have, as import --answer does it.

      The file must not exist. It has its name when it is complete and durable.

      Example: kvsync export field-notes /media/stick/notes.out
               kvsync export hub-data/notes notes.back --for notes.out
      """)

  @Argument(help: "The directory of the store, or HUBDIR/SPACE.", completion: .directory) var source: String
  @Argument(help: "The file to write.", completion: .file()) var file: String
  @Option(
    name: .customLong("for"),
    help: ArgumentHelp("At a hub: a file that the replica has exported.", valueName: "file"), completion: .file())
  var request: String?
  @Option(help: "What is written of commits that were overwritten since: nothing (latest) or all (every).")
  var history = History.latest
  @OptionGroup var output: OutputOptions

  func validate() throws {
    try ArgumentBytes.checkPath(source, of: "the store")
    try ArgumentBytes.checkPath(file, of: "the file")
    if let request { try ArgumentBytes.checkPath(request, of: "the replica's file") }
  }

  func execute() async throws -> ExitStatus {
    if let place = HubPlace(source) {
      guard let request else {
        throw Failure(
          .usage, "\(source) is a space of a hub, which exports for one replica",
          remedy: "Give a file that the replica has exported: --for FILE.")
      }
      return try await place.withStorage { storage in
        let report = try await FileProgress.show("versions") {
          try await storage.exportAnswer(to: file, for: request, of: place.space, progress: $0)
        }
        try report.print(file, output)
        return .ok
      }
    }
    guard request == nil else {
      throw Failure(.usage, "--for is for a hub: \(source) is a store", remedy: "Leave it out, or give HUBDIR/SPACE.")
    }
    var options = StoreOptions()
    options.store = source
    let store = try await options.openForReading()
    return try await withStore(store) { store in
      var configuration = Replicator.Configuration()
      configuration.history = history.shipped
      let exchange = FileExchange(store, configuration: configuration)
      let report = try await FileProgress.show("changes") { try await exchange.export(to: file, progress: $0) }
      try print(report)
      return .ok
    }
  }

  private func print(_ report: ExportReport) throws {
    guard output.json else {
      Messages.write(
        "exported \(Amount.count(report.pendingChanges, "pending change")) in \(Amount.count(report.commits, "commit")) "
          + "to \(file), \(Amount.bytes(report.fileBytes))\n")
      if report.awaitsPull {
        Messages.write("what is pending met newer changes on the hub: import the hub's answer first, then export it\n")
      }
      return
    }
    try Output.printObject { out in
      out.member("file", file)
      out.member("pending", report.pendingChanges)
      out.member("superseded", report.supersededChanges)
      out.member("commits", report.commits)
      out.member("segments", report.segments)
      out.member("fileBytes", report.fileBytes)
      out.member("awaitsPull", report.awaitsPull)
    }
  }
}

extension HubAnswerReport {
  func print(_ file: String, _ output: OutputOptions) throws {
    guard output.json else {
      Messages.write(
        "wrote \(file) for \(replica): decided through its version \(decidedVersion), "
          + "\(Amount.count(changes, "change")) of others, \(Amount.bytes(fileBytes))\n")
      return
    }
    try Output.printObject { out in
      out.member("file", file)
      out.member("replica", replica.description)
      out.member("decidedVersion", decidedVersion)
      out.member("commits", commits)
      out.member("changes", changes)
      out.member("fileBytes", fileBytes)
    }
  }
}
