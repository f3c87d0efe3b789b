// kvsync verify: checks a store by itself, and against a hub.

import ArgumentParser
import KVLog
import KVReplicator
import KVStore

struct Verify: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Check a store, and compare it with a hub.",
    discussion: """
      Checks the structure, every checksum of log and index, and the log against
      the index. With --hub it then compares every row with the hub's: both hold
      the same data, or the first key that differs is named with exit status 3.
      Nothing is changed, here or on the hub.

      The store is read in a process of its own, which damage may end. When it is
      damaged, what can be got out of it is said too, and the exit status is 14.

      Example: kvsync verify field-notes
               kvsync verify field-notes --hub kvsync://127.0.0.1:7447/notes
      """)

  @OptionGroup var target: StoreOptions
  @Option(
    help: ArgumentHelp(
      "Compare with this space: kvsyncs://HOST:PORT/SPACE, or kvsync:// without TLS.", valueName: "URL"),
    transform: HubAddress.init(_:))
  var hub: HubAddress?
  @OptionGroup(title: "Hub options") var connect: ConnectOptions
  @OptionGroup var output: OutputOptions

  func execute() async throws -> ExitStatus {
    let report: VerificationReport
    switch try VerifyStore.run(target.store) {
    case .sound(let found): report = found
    case .damaged(let what): throw damage(what)
    }
    guard output.json else {
      var out = Output()
      text(report, to: &out)
      try out.flushToWhoeverReads()
      guard let hub else { return .ok }
      let comparison = try await compare(with: hub)
      text(comparison, hub, to: &out)
      try out.flushToWhoeverReads()
      return comparison.isEqual ? .ok : .differences
    }
    var comparison: Comparison?
    var failure: (any Error)?
    if let hub {
      do { comparison = try await compare(with: hub) } catch { failure = error }
    }
    // Also when comparing failed: the store was checked all the same.
    var out = Output()
    out.beginObject()
    json(report, to: &out)
    if let comparison { json(comparison, to: &out) }
    out.endObject()
    try out.flushToWhoeverReads()
    if let failure { throw failure }
    return comparison?.isEqual ?? true ? .ok : .differences
  }

  /// What is wrong, and what can be got out of the store all the same.
  private func damage(_ what: String) -> Failure {
    var what = what
    while what.hasSuffix(".") { what.removeLast() }
    guard let salvage = try? Store.salvage(at: target.store) else { return Failure(.corrupt, what) }
    return Failure(.corrupt, what, remedy: salvage.advice(target.store))
  }

  private func compare(with hub: HubAddress) async throws -> Comparison {
    let store = try await target.openForReading()
    var configuration = Replicator.Configuration()
    connect.apply(to: &configuration)
    return try await withStore(store) { [configuration] store in
      try await Replicator(store, hub: hub, configuration: configuration).compare()
    }
  }

  private func json(_ report: VerificationReport, to out: inout Output) {
    out.member("keys", report.keys)
    out.member("tombstones", report.tombstones)
    out.member("commits", report.commits)
    out.member("changes", report.changes)
    out.member("firstLogVersion", report.firstVersion)
    out.member("localVersion", report.lastVersion)
    out.member("digest", report.digest.description)
    out.member("logBytes", report.logBytes)
    out.member("logSegments", report.logSegments)
  }

  private func text(_ report: VerificationReport, to out: inout Output) {
    out.append("\(target.store) is sound: \(Amount.count(report.keys, "key")); a log of ")
    out.append("\(Amount.count(report.commits, "commit")) with \(Amount.count(report.changes, "change"))")
    if report.commits > 0 { out.append(", versions \(report.firstVersion) to \(report.lastVersion)") }
    out.append("\n")
  }

  private func json(_ comparison: Comparison, to out: inout Output) {
    out.member("equal", comparison.isEqual)
    out.member("comparedKeys", comparison.keys)
    out.member("hubVersion", comparison.hubVersion)
    out.member("serverVersion", comparison.serverVersion)
    out.member("pendingChanges", comparison.pendingChanges)
    if let difference = comparison.firstDifference {
      out.member("firstDifference", difference.key)
      out.member("difference", difference.kind.rawValue)
    }
    if let obstacle = comparison.obstacle { out.member("obstacle", obstacle.message) }
  }

  private func text(_ comparison: Comparison, _ hub: HubAddress, to out: inout Output) {
    if let difference = comparison.firstDifference {
      out.append("\(target.store) and \(hub) differ, first at key ")
      out.appendEscaped(difference.key)
      let reason =
        switch difference.kind {
        case .missingOnHub: "it is missing on the hub"
        case .missingHere: "it is missing here"
        case .value: "the values differ"
        }
      out.append(": \(reason). \(advice(comparison))\n")
    } else if !comparison.isEqual {
      out.append(
        "\(target.store) and \(hub) hold the same \(Amount.count(comparison.keys, "key")), but not at the same ")
      out.append(
        "version: \(Amount.count(comparison.pendingChanges, "change")) here \(comparison.pendingChanges == 1 ? "is" : "are")"
      )
      out.append(" pending, and of the hub's version \(comparison.hubVersion) this store has ")
      out.append("\(comparison.serverVersion). \(advice(comparison))\n")
    } else {
      out.append("\(target.store) and \(hub) hold the same \(Amount.count(comparison.keys, "key")) ")
      out.append("at version \(comparison.hubVersion)\n")
      if comparison.obstacle != nil { out.append("\(advice(comparison))\n") }
    }
  }

  private func advice(_ comparison: Comparison) -> String {
    guard let obstacle = comparison.obstacle else { return "kvsync sync makes them equal." }
    return "before kvsync sync makes them equal: \(obstacle.message)"
  }
}
