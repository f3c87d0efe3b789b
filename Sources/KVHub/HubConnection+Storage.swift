// What a session asks of the storage, carried out: opening a space for whoever may, deciding pushes, feeding, comparing.
//
// Invariants:
// - A replica's claims count only after its credential did: it is its principal's, and who is going to be refused takes over
//   from nobody and begins no epoch.
// - What a replica sends is screened before the storage decides it: by limits and hook, and by the right to bring it back.

import KVLog
import KVProtocol
import KVTransport
import Logging
import NIOPosix
import Synchronization

extension HubConnection {
  func perform(_ action: HubSession.Action) async -> HubSession.Event? {
    do {
      switch action {
      case .open(let hello):
        return try await open(hello)
      case .admit(let push, let replica, let confirmed):
        let push = try await validated(push, of: replica)
        let acknowledgement = try await opened().admit(
          push, from: replica, confirmed: confirmed)
        hub.alarm.stored(in: name(action), bytes: action.storedBytes)
        return .admitted(acknowledgement)
      case .restore(let restoration):
        let outcome = try await opened().restore(screened(restoration))
        hub.alarm.stored(in: name(action), bytes: action.storedBytes)
        return .restored(outcome)
      case .read(let request, let maximumBytes):
        let space = try opened()
        return .read(try await blocking { try space.feed(request, maximumBytes: maximumBytes) })
      case .readPage(let interval, let replica, let deletions, let maximumBytes):
        let space = try opened()
        return .page(
          try await blocking {
            try space.page(of: interval, for: replica, deletions: deletions, maximumBytes: maximumBytes)
          })
      case .awaitHead(let version):
        return .headMoved(try await opened().advance(beyond: version))
      case .readRows(let key, let maximumBytes):
        let space = try opened()
        return .rows(try await blocking { try space.rows(after: key, maximumBytes: maximumBytes) })
      case .preview(let request, let replica):
        let space = try opened()
        return .previewed(try await blocking { try space.preview(request, excluding: replica) })
      case .readHead:
        let space = try opened()
        return .head(try await blocking { try space.head().version })
      case .close:
        // A replica that does not take the last words is not waited for.
        try await Task.sleep(for: Self.farewell)
        connection.close()
        return nil
      case .send, .establish:
        preconditionFailure("not an action of the storage")
      }
    } catch {
      return failure(of: action, error)
    }
  }

  private func failure(of action: HubSession.Action, _ error: any Error) -> HubSession.Event {
    switch error {
    case let error as HubStorageError:
      hub.alarm.failed(error, in: name(action), bytes: action.storedBytes)
      return .failed(error)
    case is CancellationError:
      return .closed
    case let refusal as Refusal:
      return .refused(refusal)
    default:
      logger.error("storage failed", metadata: ["error": "\(error)"])
      return .failed(.failed("\(error)"))
    }
  }

  private func open(_ hello: Hello) async throws -> HubSession.Event {
    guard hub.registry.hasRoom(for: self) else {
      return .refused(Refusal(.busy, "the hub serves as many connections as it may; try again later"))
    }
    let grant: Hub.Grant
    do throws(Refusal) {
      grant = try await hub.gate.admit(hello, from: connection.remoteNetwork)
    } catch {
      return .refused(error)
    }
    let space: any HubSpace
    do {
      let mayCreate = grant.mayCreateSpace && Handshake.mayCreateSpace(hello)
      // It may look at a disk.
      space = try await withTaskExecutorPreference(globalConcurrentExecutor) {
        try await hub.storage.space(named: hello.space, creating: mayCreate)
      }
    } catch HubStorageError.unknownSpace {
      return .refused(Handshake.refuseAbsentSpace(hello, mayCreate: grant.mayCreateSpace))
    }
    self.space.withLock { $0 = space }
    spaceName.withLock { $0 = hello.space }
    credential.withLock { $0 = (hello, grant) }
    let readState = { [self] in try await blocking { try space.state(for: hello) } }
    var state = try await readState()
    let isSynchronising = hello.mode.isSynchronising && state.common != nil
    if let principal = grant.principal, isSynchronising {
      let owner = try await blocking { try space.owner(of: hello.replica, claimedBy: principal) }
      guard owner == principal else { return .refused(HubGate.otherOwner) }
    }
    if let common = state.common, Handshake.findsHubRestored(hello, state) {
      guard grant.right >= .write, hub.epochs.mayBegin(in: hello.space) else {
        return .refused(
          Refusal(
            .busy,
            "the hub was restored to an older state, which a replica that may write has to mend first; try again later"
          ))
      }
      logger.warning(
        "the space was restored to an older state: it lacks what a replica knows; a new epoch begins",
        metadata: ["space": "\(hello.space)", "replica": "\(hello.replica)", "common": "\(common.version)"])
      try await space.beginEpoch(after: state.head.identity, through: common.version)
      state = try await readState()
    }
    // Who is going to be refused takes over from nobody.
    if isSynchronising, Handshake.decide(hello, state) == nil {
      let older = hub.registry.joined(self, as: .init(space: hello.space, replica: hello.replica))
      for connection in older { await connection.idle() }
      try Task.checkCancellation()
      if !older.isEmpty { state = try await readState() }
    }
    logger.debug("session opened", metadata: ["space": "\(hello.space)", "replica": "\(hello.replica)"])
    return .opened(state)
  }

  /// The push, with what is to be refused of it.
  private func validated(_ push: PushSegment, of replica: Identity) async throws -> PushSegment {
    guard hub.validator.isNeeded else { return push }
    let space = try opened()
    // Nothing of the replica is admitted beside this, so that is where it stays meanwhile.
    let decided = try await blocking { try space.progress(of: replica)?.lastApplied ?? 0 }
    var validated = push
    let principal = credential.withLock { $0?.grant.principal }
    validated.refusals = try await hub.validator.refusals(
      in: push.segment, after: decided, of: .init(space: name, replica: replica), principal: principal)
    return validated
  }

  /// What is brought back, with what is not to be taken of it.
  private func screened(_ restoration: Restoration) async throws -> Restoration {
    guard let (hello, grant) = credential.withLock({ $0 }) else { throw HubStorageError.closed }
    let screen = RestorationScreen(
      space: try opened(), member: .init(space: name, replica: hello.replica), grant: grant, validator: hub.validator)
    return try await screen.screened(restoration) { [self] body in try await blocking(body) }
  }

  /// The space that the action is about.
  private func name(_ action: HubSession.Action) -> String {
    if case .open(let hello) = action { hello.space } else { name }
  }

  /// The space that was opened.
  var name: String { spaceName.withLock { $0 } }

  /// Answers `read` with what is in memory; nil: it is not.
  func readAtHand(_ request: FeedRequest, maximumBytes: Int) -> HubSession.Event? {
    do {
      return try opened().feedAtHand(request, maximumBytes: maximumBytes).map { .read($0) }
    } catch {
      return failure(of: .read(request, maximumBytes: maximumBytes), error)
    }
  }

  private func opened() throws -> any HubSpace {
    guard let space = space.withLock({ $0 }) else { throw HubStorageError.closed }
    return space
  }

  private func blocking<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
    try await NIOThreadPool.singleton.runIfActive(body)
  }
}

extension HubSession.Action {
  /// The bytes it stores. Of what fails otherwise, no push that succeeds says that it is over.
  fileprivate var storedBytes: Int {
    switch self {
    case .admit(let push, _, _): push.segment.records.count
    case .restore(let restoration): restoration.segment.records.count
    default: .max
    }
  }

  /// Whether it stores what a replica sent.
  var isAdmission: Bool {
    switch self {
    case .admit, .restore: true
    default: false
    }
  }
}
