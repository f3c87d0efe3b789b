// kvsync plan: what sync would do.

import ArgumentParser
import KVReplicator
import KVStore

struct Plan: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan",
    abstract: "Say what sync would send and get, and change nothing.",
    discussion: """
      Reads what is pending as sync would and asks the hub what it has: how much
      would go, without what was overwritten here since, how much would come, and
      how many conflicts are to be expected. No space is made on the hub, and
      whoever synchronises the store meanwhile is not disturbed. Exact as long as
      nobody writes; what conflicts lead to is not counted.

      Example: kvsync plan field-notes kvsync://127.0.0.1:7447/notes
      """)

  @OptionGroup var target: StoreOptions
  @Argument(
    help: ArgumentHelp("The space: kvsyncs://HOST:PORT/SPACE, or kvsync:// without TLS.", valueName: "url"),
    transform: HubAddress.init(_:))
  var hub: HubAddress
  @Flag(help: "Only what would be sent.") var push = false
  @Flag(help: "Only what would come.") var pull = false
  @Option(help: "What is sent of commits that were overwritten since: nothing (latest) or all (every).")
  var history = History.latest
  @OptionGroup(title: "Hub options") var connect: ConnectOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    if push, pull {
      throw ValidationError("--push and --pull exclude each other; without both, both directions are used.")
    }
  }

  func execute() async throws -> ExitStatus {
    try await Plan.execute(self, target, hub, push ? .push : pull ? .pull : .both, history, connect)
  }

  /// For `plan`, and for `sync --dry-run`.
  static func execute(
    _ command: some ToolCommand, _ target: StoreOptions, _ hub: HubAddress, _ direction: Replicator.Direction,
    _ history: History, _ connect: ConnectOptions
  ) async throws -> ExitStatus {
    let store = try await target.openForReading()
    return try await command.withStore(store) { store in
      var configuration = Replicator.Configuration()
      configuration.history = history.shipped
      connect.apply(to: &configuration)
      let plan = try await Replicator(store, hub: hub, configuration: configuration).plan(direction)
      var out = Output()
      if command.output.json { json(plan, to: &out) } else { text(plan, hub, to: &out) }
      try out.flushToWhoeverReads()
      return plan.obstacle == nil && plan.expectedConflicts == 0 ? .ok : .differences
    }
  }

  private static func json(_ plan: SyncPlan, to out: inout Output) {
    out.beginObject()
    out.member("pending", plan.pendingChanges)
    out.member("pendingBytes", plan.pendingBytes)
    out.member("superseded", plan.supersededChanges)
    out.member("sendCommits", plan.commitsToSend)
    out.member("sendChanges", plan.changesToSend)
    out.member("sendBytes", plan.bytesToSend)
    out.member("sendSegments", plan.segmentsToSend)
    out.member("receiveCommits", plan.commitsToReceive)
    out.member("receiveChanges", plan.changesToReceive)
    out.member("receiveBytes", plan.bytesToReceive)
    out.member("receiveSegments", plan.segmentsToReceive)
    out.member("expectedConflicts", plan.expectedConflicts)
    out.member("hubVersion", plan.hubVersion)
    out.member("createsSpace", plan.createsSpace)
    if let obstacle = plan.obstacle { out.member("obstacle", obstacle.message) }
    out.endObject()
  }

  private static func text(_ plan: SyncPlan, _ hub: HubAddress, to out: inout Output) {
    out.append(
      "send     \(Amount.count(plan.changesToSend, "change")) in \(Amount.count(plan.commitsToSend, "commit")), ")
    out.append("\(Amount.bytes(plan.bytesToSend)), \(Amount.count(plan.segmentsToSend, "segment"))")
    if plan.supersededChanges > 0 {
      out.append(
        "; of \(Amount.count(plan.pendingChanges)) pending, \(Amount.count(plan.supersededChanges)) are superseded")
    }
    out.append("\nreceive  \(Amount.count(plan.changesToReceive, "change")) in ")
    out.append("\(Amount.count(plan.commitsToReceive, "commit")), \(Amount.bytes(plan.bytesToReceive)), ")
    out.append("\(Amount.count(plan.segmentsToReceive, "segment"))\n")
    out.append("expect   \(Amount.count(plan.expectedConflicts, "conflict"))\n")
    if plan.createsSpace {
      out.append("there is no space \"\(hub.space)\" yet; sync makes it, if the hub makes spaces\n")
    }
    if let obstacle = plan.obstacle { out.append("before anything else: \(obstacle.message)\n") }
  }
}
