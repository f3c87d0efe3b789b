// kvsync sync: synchronises a store with a space of a hub.

import ArgumentParser
import KVReplicator
import KVStore
import ServiceLifecycle

struct Sync: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "sync",
    abstract: "Synchronise a store with a space of a hub.",
    discussion: """
      Sends what was written here before it began, gets what the hub has, and prints
      a summary. With --continuous it goes on, live in both directions and connecting
      again when the link breaks, until SIGINT or SIGTERM; it tells when it loses the
      hub and when it has caught up. What could not be sent stays pending; run it
      again. With --budget it ends where so many bytes of commits have travelled,
      or after so long, and says what is left; each direction that has something
      to do comes forward, however small the budget.

      A hub or a store that was restored to an older state, and a store that was copied
      while both go on, are found and mended; what happened is told.

      Of what was overwritten here before it was sent, nothing is sent, unless
      --history every asks for it; transactions are sent whole.

      Policies for keys that two replicas changed without knowing of each other:
      lastWriterWins (default), localWins, remoteWins, and manual: what the hub has
      stands until you decide. PREFIX=POLICY is for the keys that begin with PREFIX;
      --policy may be given several times, and the longest prefix counts. The value
      that lost is kept: kvsync conflicts.

      A store belongs to the space that it first synchronised with. Another one is
      refused with status 16, whether anything is pending or not. With --adopt the
      store goes over to it, once and for good: all that it holds is offered there,
      what it had from the former space as well, and the policy decides about keys
      that are there already. If that is cut short, run it again.

      A hub that is lost and restored from a backup is brought again what replicas still
      have in their logs, by default the last 256 MB of what it has acknowledged. With
      --until-backup all of it is kept until whoever runs the hub announces a backup
      (kvsync backup --announce), but for what exceeds MB.

      kvsyncs:// connects with TLS, kvsync:// without and to this machine only. A
      token is never an argument, which everybody on the machine can read: it stands
      in a file or in the variable KVSYNC_TOKEN. With --continuous a token that has
      expired or was revoked is waited out: put a new one into the file.

      Example: kvsync sync field-notes kvsync://127.0.0.1:7447/notes
               kvsync sync field-notes kvsyncs://my-hub/notes --token-file token
      """)

  @OptionGroup var target: StoreOptions
  @Argument(
    help: ArgumentHelp("The space: kvsyncs://HOST:PORT/SPACE, or kvsync:// without TLS.", valueName: "url"),
    transform: HubAddress.init(_:))
  var hub: HubAddress
  @Flag(help: "Only send.") var push = false
  @Flag(help: "Only receive.") var pull = false
  @Flag(help: "Go on until a signal.") var continuous = false
  @Flag(help: "Only say what would go and come, as kvsync plan does.") var dryRun = false
  @Option(
    name: .customLong("budget"), parsing: .singleValue,
    help: ArgumentHelp("End after so many bytes or so long: 10MB, 30s. Once for each.", valueName: "bytes|duration"))
  var budgetParts: [BudgetPart] = []
  @Option(help: "What is sent of commits that were overwritten since: nothing (latest) or all (every).")
  var history = History.latest
  @Option(
    parsing: .singleValue,
    help: ArgumentHelp("How conflicts are resolved: POLICY or PREFIX=POLICY.", valueName: "policy"))
  var policy: [PolicyArgument] = []
  @Option(
    help: ArgumentHelp(
      "Keep the log that the hub has until it announces that a backup covers it, so many megabytes at most.",
      valueName: "MB"))
  var untilBackup: Int?
  @Flag(help: "Go over to this space if it is another one, with all that the store holds.") var adopt = false
  @OptionGroup(title: "Hub options") var connect: ConnectOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    if push, pull {
      throw ValidationError("--push and --pull exclude each other; without both, both directions are used.")
    }
    if dryRun, adopt {
      throw ValidationError("--dry-run changes nothing, and --adopt does for good: they exclude each other.")
    }
    if dryRun, continuous { throw ValidationError("--dry-run and --continuous exclude each other.") }
    if continuous, !budgetParts.isEmpty {
      throw ValidationError("--budget ends one pass, and --continuous goes on for ever: they exclude each other.")
    }
    if let untilBackup, !(0...1 << 24).contains(untilBackup) {
      throw ValidationError("--until-backup is 0 to 16777216 megabytes.")
    }
    _ = try budgetParts.budget()
    if let error = PolicyArgument.check(policy) { throw error }
  }

  private var direction: Replicator.Direction { push ? .push : pull ? .pull : .both }

  func execute() async throws -> ExitStatus {
    if dryRun { return try await Plan.execute(self, target, hub, direction, history, connect) }
    let store = try await target.openForWriting(untilBackup.map { .untilBackedUp(atMost: $0 << 20) })
    return try await withStore(store) { store in
      let tally = SyncTally(pendingAtStart: store.counters().pendingChanges)
      let news = SyncNews(hub: hub, json: output.json)
      let replicator = Replicator(store, hub: hub, configuration: configuration(tally, news))
      var failure: (any Error)?
      var isCutShort = false
      do {
        if continuous {
          try await Signals.run(ContinuousReplicator(replicator: replicator, direction: direction))
        } else {
          isCutShort = try await replicator.syncOnce(direction, budget: budgetParts.budget()).isCutShort
        }
      } catch {
        failure = error
      }
      tally.clearProgress()
      // Also after a failure: what was done stays done, and the numbers say how much that is.
      let counters = store.counters()
      try print(tally.total, tally.repairs, counters, isCutShort: isCutShort, elapsed: tally.elapsed)
      if let failure {
        if !continuous { news.tellIfRunningOut(store) }
        throw failure
      }
      let awaitsPull = tally.total.awaitsPull
      if awaitsPull, !output.json {
        Messages.write("some of what is pending met newer changes on the hub: sync without --push to resolve it\n")
      }
      if counters.unresolvedConflicts > 0, !output.json {
        Messages.write(
          "\(Amount.count(counters.unresolvedConflicts, "conflict")) to decide: see kvsync conflicts list --unresolved\n"
        )
      }
      if counters.parkedCommits > 0, !output.json {
        Messages.write("the hub refused \(Amount.count(counters.parkedCommits, "commit")): see kvsync parked list\n")
      }
      return counters.unresolvedConflicts > 0 || counters.parkedCommits > 0 || awaitsPull ? .differences : .ok
    }
  }

  private func configuration(_ tally: SyncTally, _ news: SyncNews) -> Replicator.Configuration {
    var configuration = Replicator.Configuration()
    configuration.history = history.shipped
    configuration.policy = PolicyArgument.policy(policy)
    configuration.adoptsForeignHub = adopt
    connect.apply(to: &configuration)
    configuration.progress = { tally.update($0) }
    configuration.retrying = { error, wait in
      tally.endSession()
      tally.clearProgress()
      news.retrying(after: error, in: wait)
    }
    configuration.repaired = { repair in
      tally.note(repair)
      // One pass says it once, with everything else.
      guard continuous || !output.json else { return }
      tally.clearProgress()
      news.repaired(repair)
    }
    if continuous {
      configuration.lapseWarning = { time in
        tally.clearProgress()
        news.lapseWarning(within: time)
      }
      configuration.caughtUp = { report in
        tally.clearProgress()
        news.caughtUp(report)
      }
    }
    return configuration
  }

  private func print(
    _ report: SyncReport, _ repairs: [Repair], _ counters: Counters, isCutShort: Bool, elapsed: Duration
  ) throws {
    let pending = counters.pendingChanges
    let changes = report.pushedChanges + report.pulledChanges
    var out = Output()
    if output.json {
      out.beginObject()
      out.member("pushed", report.pushedChanges)
      out.member("pushedBytes", report.pushedBytes)
      out.member("superseded", report.supersededChanges)
      out.member("pulled", report.pulledChanges)
      out.member("pulledBytes", report.pulledBytes)
      out.member("conflicts", report.conflicts)
      out.member("reoffered", report.reoffered)
      out.member("parked", report.parked)
      out.member("adoptedRows", report.adoptedRows)
      out.member("pending", pending)
      out.member("pendingBytes", counters.pendingBytes)
      out.member("remainingServerVersions", report.remainingServerVersions)
      out.member("cutShort", isCutShort)
      out.member("awaitsPull", report.awaitsPull)
      out.array(of: repairs)
      out.member("seconds", Amount.seconds(elapsed))
      out.member("changesPerSecond", Int(Amount.perSecond(changes, in: elapsed)))
      out.endObject()
    } else {
      if report.adoptedRows > 0 {
        out.append("adopted this space: \(Amount.count(report.adoptedRows, "row")) of the former one offered to it\n")
      }
      let unsent = report.supersededChanges
      out.append("pushed \(Amount.count(report.pushedChanges, "change")) (\(Amount.bytes(report.pushedBytes))")
      out.append(unsent > 0 ? "; \(Amount.count(unsent)) superseded and not sent), " : "), ")
      out.append("pulled \(Amount.count(report.pulledChanges)) (\(Amount.bytes(report.pulledBytes))), ")
      out.append("\(Amount.count(report.conflicts, "conflict")), \(Amount.count(pending)) still pending: ")
      out.append("\(Amount.decimal(Amount.seconds(elapsed), places: 2)) s, \(Amount.rate(changes, in: elapsed))\n")
      if isCutShort {
        out.append(
          "the budget is spent; left: \(Amount.count(pending, "change")) (\(Amount.bytes(counters.pendingBytes)))")
        out.append(" to push, \(Amount.count(report.remainingServerVersions, "version")) of the hub to pull\n")
      }
    }
    try out.flushToWhoeverReads()
  }
}

/// A replicator that runs in the direction asked for.
private struct ContinuousReplicator: Service {
  let replicator: Replicator
  let direction: Replicator.Direction

  func run() async throws { try await replicator.run(direction) }
}
