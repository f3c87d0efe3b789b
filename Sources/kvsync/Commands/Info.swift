// kvsync info: what a store is and where it stands.

import ArgumentParser
import KVLog
import KVStore

struct Info: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "info",
    abstract: "Show a store's identity, versions and sizes.",
    discussion: """
      localVersion counts the commits of this store, serverVersion is the hub's
      version up to which everything is here (while a snapshot is loaded, of the keys
      that are here), acknowledgedVersion the local one up to which the hub has
      decided. Pending is what the hub has not decided;
      parked is what it refused, and what waits for a decision here.

      Example: kvsync info field-notes --json
      """)

  @OptionGroup var target: StoreOptions
  @OptionGroup var output: OutputOptions

  func execute() async throws -> ExitStatus {
    let store = try await target.openForReading()
    return try await withStore(store) { store in
      let information = try store.information()
      var out = Output()
      if output.json { json(information, to: &out) } else { text(information, to: &out) }
      try out.flush()
      return .ok
    }
  }

  private func json(_ information: StoreInformation, to out: inout Output) {
    let counters = information.counters
    out.beginObject()
    out.member("path", information.path)
    out.member("identity", information.identity.description)
    out.member("incarnation", information.incarnation.description)
    out.member("hubEpoch", information.hubEpoch?.description)
    out.member("localVersion", counters.localVersion)
    out.member("serverVersion", counters.serverVersion)
    out.member("acknowledgedVersion", counters.acknowledgedVersion)
    out.member("pendingChanges", counters.pendingChanges)
    out.member("pendingBytes", counters.pendingBytes)
    out.member("keys", information.keys)
    out.member("conflicts", counters.conflicts)
    out.member("unresolvedConflicts", counters.unresolvedConflicts)
    out.member("parkedCommits", counters.parkedCommits)
    out.member("parkedBytes", counters.parkedBytes)
    out.member("logBytes", information.logBytes)
    out.member("logSegments", information.logSegments)
    out.member("firstLogVersion", information.firstLogVersion)
    out.member("indexBytes", information.indexBytes)
    out.member("tailBytes", information.tailBytes)
    out.member("oldestReaderProcess", information.oldestReader.map { Int($0.process) })
    out.member("oldestReaderSeconds", information.oldestReader.map { Int($0.seconds) })
    out.member("oldestReaderHeldBytes", information.oldestReader?.heldBytes)
    out.endObject()
  }

  private func text(_ information: StoreInformation, to out: inout Output) {
    let counters = information.counters
    var rows: [(String, String)] = [
      ("store", information.path),
      ("identity", information.identity.description),
      ("hub epoch", information.hubEpoch?.description ?? "never synchronised"),
      ("keys", Amount.count(information.keys)),
      ("local version", Amount.count(counters.localVersion)),
      ("server version", Amount.count(counters.serverVersion)),
      ("acknowledged version", Amount.count(counters.acknowledgedVersion)),
      ("pending", "\(Amount.count(counters.pendingChanges, "change")), \(Amount.bytes(counters.pendingBytes))"),
      (
        "conflicts",
        "\(Amount.count(counters.conflicts)), \(Amount.count(counters.unresolvedConflicts)) of them unresolved"
      ),
      ("parked", "\(Amount.count(counters.parkedCommits, "commit")), \(Amount.bytes(counters.parkedBytes))"),
      (
        "log",
        "\(Amount.bytes(information.logBytes)) in \(Amount.count(information.logSegments, "segment")),"
          + " from version \(Amount.count(information.firstLogVersion))"
      ),
      ("index", Amount.bytes(information.indexBytes)),
    ]
    if let reader = information.oldestReader { rows.append(("oldest reader", text(reader))) }
    let width = rows.map(\.0.count).max() ?? 0
    for (name, value) in rows {
      out.append("\(name)\(String(repeating: " ", count: width - name.count))  \(value)\n")
    }
  }

  private func text(_ reader: OldestReader) -> String {
    let held = Amount.bytes(reader.heldBytes)
    return "process \(reader.process), for \(Int(reader.seconds)) s or longer, holds back \(held) of the index"
  }
}
