// kvsync status: where a store stands with its hub, and what the process that synchronises it is doing.

import ArgumentParser
import KVLog
import KVReplicator
import KVStore

struct Status: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "status",
    abstract: "Show how a store stands with its hub.",
    discussion: """
      Versions and what is pending are the store's own. State, next try and last
      error are those of the process that synchronises it, which leaves them in
      the store; when that process is gone the state is offline, unless it had
      failed for good. The hub's version is the one it last heard of; with the
      address of a space the hub is asked.

      What was mended by itself stays on show, the last of each kind: a hub or a
      store that was restored to an older state, or a store that was copied.

      A hub may keep what is new for some days only: until when this store may stay
      away is told, from the time at which hub and store last had the same. Afterwards
      it comes back through a snapshot, which keeps what is pending.

      States: offline, connecting, catchingUp, live, paused, needsAuthorization,
      failed. The lag is the number of the hub's versions that are not here, and
      the time since hub and store were last found to have the same; while a snapshot
      is loaded, it is that of the keys which are here.

      Example: kvsync status field-notes
               kvsync status field-notes kvsync://127.0.0.1:7447/notes --json
      """)

  @OptionGroup var target: StoreOptions
  @Argument(
    help: ArgumentHelp("Ask this space: kvsyncs://HOST:PORT/SPACE, or kvsync:// without TLS.", valueName: "url"),
    transform: HubAddress.init(_:))
  var hub: HubAddress?
  @OptionGroup(title: "Hub options") var connect: ConnectOptions
  @OptionGroup var output: OutputOptions

  func execute() async throws -> ExitStatus {
    let store = try await target.openForReading()
    return try await withStore(store) { store in
      var answer: Result<Version, any Error>?
      if let hub {
        var configuration = Replicator.Configuration()
        connect.apply(to: &configuration)
        let replicator = Replicator(store, hub: hub, configuration: configuration)
        do { answer = .success(try await replicator.hubVersion()) } catch { answer = .failure(error) }
      }
      let standing = Standing(store, asked: try? answer?.get())
      var out = Output()
      if output.json { json(standing, to: &out) } else { text(standing, to: &out) }
      try out.flushToWhoeverReads()
      // Also when the hub cannot be reached: what the store knows was said all the same.
      if case .failure(let error) = answer { throw error }
      return .ok
    }
  }

  /// What is said, whatever the form.
  private struct Standing {
    var counters: Counters
    var note: StatusNote?
    var hubVersion: Version?
    var oldestAge: Double?
    var retention: HubRetention?
    /// A snapshot is not here as a whole.
    var isLoading: Bool
    var now = Store.clockMilliseconds
    var time: HybridTime { HybridTime(milliseconds: now) }

    init(_ store: Store, asked: Version?) {
      counters = store.counters()
      note = StatusNote.left(in: store)
      retention = HubRetention(store.replicaState().contact)
      // A file may have brought more than the process had heard of.
      hubVersion = asked ?? note?.hubVersion.map { [counters] in max($0, counters.serverVersion) }
      let state = store.replicaState()
      isLoading = state.cursor != nil && !state.missing.isEmpty
      if counters.pendingChanges > 0,
        let time = try? store.timeOfLocalCommit(after: counters.acknowledgedVersion)
      {
        oldestAge = now > time ? Double(now - time) / 1_000 : 0
      }
    }

    /// Who left the note and is gone is doing nothing any more; how it ended still counts.
    var state: ReplicatorStatus.State {
      guard let note else { return .offline }
      switch note.state {
      case .needsAuthorization, .failed: return note.state
      default: return note.isCurrent ? note.state : .offline
      }
    }

    var lagVersions: UInt64? {
      hubVersion.map { $0 > counters.serverVersion ? $0 - counters.serverVersion : 0 }
    }

    var lagSeconds: Double? {
      if let lagVersions, lagVersions > 0, let note, let lag = note.lagSeconds(at: now), lag == 0 {
        // The hub says more than the process had heard of.
        return Double(now > note.time ? now - note.time : 0) / 1_000
      }
      return note?.lagSeconds(at: now)
    }

    /// nil: for ever, or not known.
    var keptForSeconds: Double? {
      guard case .time(let left) = retention?.remaining(at: time) else { return nil }
      return Amount.seconds(left)
    }

    var nextTrySeconds: Double? {
      guard let note, note.isCurrent, let next = note.nextTry else { return nil }
      return next > now ? Double(next - now) / 1_000 : 0
    }
  }

  private func json(_ standing: Standing, to out: inout Output) {
    let counters = standing.counters
    out.beginObject()
    out.member("state", standing.state.name)
    if case .catchingUp(let progress, let rate, let remaining) = standing.state {
      out.member("progress", progress)
      out.member("rate", rate)
      out.member("remaining", remaining)
    }
    out.member("hub", standing.note?.hub)
    out.member("localVersion", counters.localVersion)
    out.member("acknowledgedVersion", counters.acknowledgedVersion)
    out.member("serverVersion", counters.serverVersion)
    out.member("hubVersion", standing.hubVersion)
    out.member("pendingChanges", counters.pendingChanges)
    out.member("pendingBytes", counters.pendingBytes)
    out.member("oldestPendingSeconds", standing.oldestAge)
    out.member("loadingSnapshot", standing.isLoading)
    out.member("lagVersions", standing.lagVersions)
    out.member("lagSeconds", standing.lagSeconds)
    out.member("nextTrySeconds", standing.nextTrySeconds)
    out.member("lastErrorCode", standing.note?.errorCode)
    out.member("lastError", standing.note?.errorMessage)
    let retention = standing.retention
    out.member("lastCaughtUp", retention.map { Amount.time(milliseconds: $0.lastCaughtUp.milliseconds) })
    out.member("hubRetentionSeconds", retention?.keeps.map(Amount.seconds))
    out.member("keptUntil", retention?.keptUntil.map { Amount.time(milliseconds: $0.milliseconds) })
    out.member("keptForSeconds", standing.keptForSeconds)
    out.member("isRunningOut", retention?.isRunningOut(at: standing.time) ?? false)
    out.member("unresolvedConflicts", counters.unresolvedConflicts)
    out.array(of: standing.note?.repairs ?? [])
    out.member("parkedCommits", counters.parkedCommits)
    out.member("parkedBytes", counters.parkedBytes)
    out.member("adopting", counters.isAdopting)
    out.member("noteSeconds", standing.note.map { Double(standing.now - min(standing.now, $0.time)) / 1_000 })
    out.endObject()
  }

  private func text(_ standing: Standing, to out: inout Output) {
    let counters = standing.counters
    var pending = "\(Amount.count(counters.pendingChanges, "change")), \(Amount.bytes(counters.pendingBytes))"
    if let age = standing.oldestAge { pending += ", the oldest for \(seconds(age))" }
    var rows = [
      ("state", state(standing)),
      ("local version", Amount.count(counters.localVersion)),
      ("acknowledged version", Amount.count(counters.acknowledgedVersion)),
      ("server version", Amount.count(counters.serverVersion)),
      ("hub version", standing.hubVersion.map { Amount.count($0) } ?? "not known"),
      ("pending", pending),
    ]
    if standing.isLoading {
      rows.append(("snapshot", "not all of the hub's keys are here yet: the next sync goes on with it"))
    }
    if let versions = standing.lagVersions {
      let time = standing.lagSeconds.map { ", \(seconds($0))" } ?? ""
      rows.append(("lag", "\(Amount.count(versions, "version"))\(time)"))
    }
    if let next = standing.nextTrySeconds { rows.append(("next try", "in \(seconds(next))")) }
    if let error = standing.note?.errorMessage { rows.append(("last error", error)) }
    if let retention = standing.retention {
      rows.append(("caught up", "last at \(Amount.time(milliseconds: retention.lastCaughtUp.milliseconds))"))
      rows.append(("hub keeps", retention.sentence(at: standing.time)))
    }
    rows.append(("unresolved conflicts", Amount.count(counters.unresolvedConflicts)))
    rows.append(("parked", Amount.count(counters.parkedCommits, "commit")))
    if counters.isAdopting {
      rows.append(("adopting", "not all that is here has been offered to the new space yet: sync again"))
    }
    for repair in standing.note?.repairs ?? [] {
      rows.append(("mended", "\(Amount.time(milliseconds: repair.time.milliseconds)): \(repair.sentence)"))
    }
    let width = rows.map(\.0.count).max() ?? 0
    for (name, value) in rows {
      out.append("\(name)\(String(repeating: " ", count: width - name.count))  \(value)\n")
    }
  }

  private func state(_ standing: Standing) -> String {
    guard case .catchingUp(let progress, let rate, let remaining) = standing.state else { return standing.state.name }
    let rest = rate >= 1 ? ", \(seconds(Double(remaining) / rate)) left" : ""
    return "catching up: \(Int(progress * 100)) %, \(Amount.count(remaining)) to go at "
      + "\(Amount.count(Int(rate)))/s\(rest)"
  }

  private func seconds(_ value: Double) -> String { "\(Amount.decimal(value, places: value < 10 ? 1 : 0)) s" }
}
