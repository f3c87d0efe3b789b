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
      again.

      Policies for keys that two replicas changed without knowing of each other:
      lastWriterWins (default), localWins, remoteWins, and manual: what the hub has
      stands until you decide. PREFIX=POLICY is for the keys that begin with PREFIX;
      --policy may be given several times, and the longest prefix counts. The value
      that lost is kept: kvsync conflicts.

      Example: kvsync sync field-notes kvsync://127.0.0.1:7447/notes
      """)

  @OptionGroup var target: StoreOptions
  @Argument(
    help: ArgumentHelp("The space: kvsync://HOST:PORT/SPACE.", valueName: "url"), transform: HubAddress.init(_:))
  var hub: HubAddress
  @Flag(help: "Only send.") var push = false
  @Flag(help: "Only receive.") var pull = false
  @Flag(help: "Go on until a signal.") var continuous = false
  @Option(
    parsing: .singleValue,
    help: ArgumentHelp("How conflicts are resolved: POLICY or PREFIX=POLICY.", valueName: "policy"))
  var policy: [PolicyArgument] = []
  @OptionGroup var output: OutputOptions

  func validate() throws {
    if push, pull {
      throw ValidationError("--push and --pull exclude each other; without both, both directions are used.")
    }
    if let error = PolicyArgument.check(policy) { throw error }
  }

  func execute() async throws -> ExitStatus {
    let store = try await target.openForWriting()
    return try await withStore(store) { store in
      let tally = SyncTally(pendingAtStart: store.counters().pendingChanges)
      let news = SyncNews(hub: hub, json: output.json)
      let replicator = Replicator(store, hub: hub, configuration: configuration(tally, news))
      var failure: (any Error)?
      do {
        let direction: Replicator.Direction = push ? .push : pull ? .pull : .both
        if continuous {
          try await Signals.run(ContinuousReplicator(replicator: replicator, direction: direction))
        } else {
          _ = try await replicator.syncOnce(direction)
        }
      } catch {
        failure = error
      }
      tally.clearProgress()
      // Also after a failure: what was done stays done, and the numbers say how much that is.
      let counters = store.counters()
      try print(tally.total, pending: counters.pendingChanges, elapsed: tally.elapsed)
      if let failure { throw failure }
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
    configuration.policy = PolicyArgument.policy(policy)
    configuration.progress = { tally.update($0) }
    configuration.retrying = { error, wait in
      tally.endSession()
      tally.clearProgress()
      news.retrying(after: error, in: wait)
    }
    if continuous {
      configuration.caughtUp = { report in
        tally.clearProgress()
        news.caughtUp(report)
      }
    }
    return configuration
  }

  private func print(_ report: SyncReport, pending: Int, elapsed: Duration) throws {
    let changes = report.pushedChanges + report.pulledChanges
    var out = Output()
    if output.json {
      out.beginObject()
      out.member("pushed", report.pushedChanges)
      out.member("pushedBytes", report.pushedBytes)
      out.member("pulled", report.pulledChanges)
      out.member("pulledBytes", report.pulledBytes)
      out.member("conflicts", report.conflicts)
      out.member("reoffered", report.reoffered)
      out.member("parked", report.parked)
      out.member("pending", pending)
      out.member("awaitsPull", report.awaitsPull)
      out.member("seconds", Amount.seconds(elapsed))
      out.member("changesPerSecond", Int(Amount.perSecond(changes, in: elapsed)))
      out.endObject()
    } else {
      out.append("pushed \(Amount.count(report.pushedChanges, "change")) (\(Amount.bytes(report.pushedBytes))), ")
      out.append("pulled \(Amount.count(report.pulledChanges)) (\(Amount.bytes(report.pulledBytes))), ")
      out.append("\(Amount.count(report.conflicts, "conflict")), \(Amount.count(pending)) still pending: ")
      out.append("\(Amount.decimal(Amount.seconds(elapsed), places: 2)) s, \(Amount.rate(changes, in: elapsed))\n")
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
