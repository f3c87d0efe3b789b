// One connection in the simulator: the session of a replica, the session of the hub, and what is on its way between
// them. Whoever drives it decides what happens next.
//
// Invariants:
// - Messages arrive in order and whole, or not at all.
// - Work that a session asked for is done at one step and answered at a later one: anything can come in between, other
//   answers too.

import KVLog
import KVProtocol
import KVStore

@testable import KVHub
@testable import KVReplicator

final class SimulatedLink {
  var replica: ReplicaSession
  var hub: HubSession
  private(set) var toHub: [Message] = []
  private(set) var toReplica: [Message] = []
  private var replicaWork: [ReplicaSession.Action] = []
  private var replicaAnswers: [ReplicaSession.Event] = []
  private var hubWork: [HubSession.Action] = []
  private var hubAnswers: [HubSession.Event] = []
  /// How the replica's session ended.
  private(set) var ending: ReplicatorError??
  private(set) var isHubDone = false
  private var isPaused = false
  /// What was on the hub when somebody asked, in the order of asking, and how many of them were served.
  private var fences: [Version] = []
  private var served = 0
  /// Messages that have arrived so far, in both directions.
  private(set) var delivered = 0

  var isReplicaDone: Bool { ending != nil }

  init(_ configuration: ReplicaSession.Configuration, hubWindowBytes: Int, store: ModelStore) {
    replica = ReplicaSession(configuration, state: store.state)
    var hubConfiguration = HubSession.Configuration()
    hubConfiguration.windowBytes = hubWindowBytes
    hub = HubSession(hubConfiguration)
    tellReplica(.connected)
  }

  // MARK: What can happen

  enum Step: CaseIterable {
    case deliverToHub, deliverToReplica
    case workAtReplica, answerReplica
    case workAtHub, answerHub
  }

  func canTake(_ step: Step, _ store: ModelStore, _ space: InMemorySpace) -> Bool {
    switch step {
    case .deliverToHub: !toHub.isEmpty && !isHubDone
    case .deliverToReplica: !toReplica.isEmpty && !isReplicaDone
    case .workAtReplica: !isReplicaDone && replicaWork.contains { isReady($0, store) }
    case .answerReplica: !isReplicaDone && !replicaAnswers.isEmpty
    case .workAtHub: !isHubDone && hubWork.contains { isReady($0, space) }
    case .answerHub: !isHubDone && !hubAnswers.isEmpty
    }
  }

  /// `choice` says which of several answers comes first: they are given by tasks that know nothing of each other.
  /// Returns true when something became durable at the replica.
  func take(
    _ step: Step, _ store: inout ModelStore, _ space: InMemorySpace, choice: Int = 0
  ) throws -> Bool {
    switch step {
    case .deliverToHub:
      delivered += 1
      tellHub(.received(toHub.removeFirst()))
    case .deliverToReplica:
      delivered += 1
      tellReplica(.received(toReplica.removeFirst()))
    case .workAtReplica:
      guard let index = replicaWork.firstIndex(where: { isReady($0, store) }) else { return false }
      let (event, isDurable) = try work(replicaWork.remove(at: index), &store)
      replicaAnswers.append(event)
      return isDurable
    case .answerReplica:
      tellReplica(replicaAnswers.remove(at: choice % replicaAnswers.count))
    case .workAtHub:
      guard let index = hubWork.firstIndex(where: { isReady($0, space) }) else { return false }
      hubAnswers.append(try work(hubWork.remove(at: index), space))
    case .answerHub:
      tellHub(hubAnswers.remove(at: choice % hubAnswers.count))
    }
    return false
  }

  /// The link breaks. So many messages still reach the hub; the replica hears nothing more.
  func cut(reachingHub count: Int) {
    toHub.removeLast(max(0, toHub.count - count))
    toReplica = []
    if ending == nil { ending = .some(ReplicatorError(.unreachable, "cut")) }
  }

  /// The hub notices that the link is gone.
  func close() {
    if !isHubDone { tellHub(.closed) }
  }

  func stop() { tellReplica(.stop) }

  func pause() {
    isPaused = true
    tellReplica(.pause)
  }

  func runOut() { tellReplica(.timeIsUp) }

  /// Somebody waits for what the hub has, of which this is the newest version.
  func fence(_ head: Version) {
    fences.append(head)
    tellReplica(.fence(UInt64(fences.count)))
  }

  // MARK: Sessions

  private func tellReplica(_ event: ReplicaSession.Event) {
    defer {
      let reached = Int(replica.fence.reached)
      for head in fences[served..<reached] {
        precondition(replica.state.cursor?.version ?? 0 >= head, "caught up, and what the hub had is not here")
      }
      served = reached
    }
    for action in replica.handle(event) {
      switch action {
      case .send(let message):
        if isPaused {
          switch message {
          case .push, .credit, .headRequest: preconditionFailure("paused, and it sends a \(message.kind)")
          default: break
          }
        }
        toHub.append(message)
        if case .push(let push) = message { replicaAnswers.append(.pushSent(bytes: push.chargedBytes)) }
      case .establish, .shipEvery, .notify: break
      case .end(let error): ending = .some(error)
      case .fail(let failure): preconditionFailure("the model store does not fail: \(failure.error)")
      default: replicaWork.append(action)
      }
    }
  }

  private func tellHub(_ event: HubSession.Event) {
    for action in hub.handle(event) {
      switch action {
      case .send(let message):
        if !isReplicaDone { toReplica.append(message) }
        if case .feed = message { hubAnswers.append(.feedSent) }
      case .establish: break
      case .close: isHubDone = true
      default: hubWork.append(action)
      }
    }
  }

  private func isReady(_ action: ReplicaSession.Action, _ store: ModelStore) -> Bool {
    if case .awaitLocal(let version) = action { store.version > version } else { true }
  }

  private func isReady(_ action: HubSession.Action, _ space: InMemorySpace) -> Bool {
    if case .awaitHead(let version) = action { space.head().version > version } else { true }
  }

  private func work(
    _ action: ReplicaSession.Action, _ store: inout ModelStore
  ) throws -> (ReplicaSession.Event, isDurable: Bool) {
    switch action {
    case .readDigest(let version, _):
      let changes = store.localChanges(after: store.shipped, through: version)
      return (
        .digest(store.digest(at: version).map { .init(log: $0, compared: $0) }, localChanges: changes, localBytes: 0),
        false
      )
    case .readPush(let after, let maximumBytes):
      let state = store.state
      return (.pushRead(store.pushSegment(after: after, maximumBytes: maximumBytes), state: state), false)
    case .acknowledge(let acknowledgement, let digest, let changes, _, let epoch):
      let outcome = store.acknowledge(acknowledgement, digest: digest, localChanges: changes, epoch: epoch)
      return (.acknowledged(outcome, state: store.state), !acknowledgement.exceptions.isEmpty)
    case .apply(let run, let epoch):
      let outcome = try store.apply(run, epoch: epoch)
      return (.applied(outcome, state: store.state), outcome.commits > 0)
    case .awaitLocal: return (.localAdvanced, false)
    case .rollBack(let cursor, let space, let shipped, _):
      store.follow(cursor, in: space, shipped: shipped)
      return (.rolledBack(store.state), true)
    case .load, .lapse, .becomeNewIncarnation, .adopt, .readRestoration, .recordRestored, .send, .establish, .shipEvery,
      .notify, .end,
      .beginAgain, .fail:
      preconditionFailure("not work")
    }
  }

  private func work(_ action: HubSession.Action, _ space: InMemorySpace) throws -> HubSession.Event {
    switch action {
    case .open(let hello): return .opened(try space.state(for: hello))
    case .admit(let push, let replica, let confirmed):
      do {
        return .admitted(try space.admit(push, from: replica, confirmed: confirmed))
      } catch let error as HubStorageError {
        return .failed(error)
      }
    case .restore(let restoration): return .restored(try space.restore(restoration))
    case .read(let request, let maximumBytes):
      return .read(try space.feed(request, maximumBytes: maximumBytes))
    case .readPage(let interval, let replica, let deletions, let maximumBytes):
      return .page(space.page(of: interval, for: replica, deletions: deletions, maximumBytes: maximumBytes))
    case .awaitHead: return .headMoved(space.head().version)
    case .readRows(let key, let maximumBytes): return .rows(space.rows(after: key, maximumBytes: maximumBytes))
    case .preview(let request, let replica):
      return .previewed(try space.preview(request, excluding: replica))
    case .readHead: return .head(space.head().version)
    case .send, .establish, .close: preconditionFailure("not work")
    }
  }
}
