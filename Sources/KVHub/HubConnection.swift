// Drives one session: feeds it what happens on the link and in the storage, and does what it asks for.
//
// Invariants:
// - The session is only touched under its lock; its actions are dispatched under the same lock, so that messages go out
//   in the order in which the session decided on them.
// - Storage is never touched on an event loop, and functions of it that block run on threads made for that.
// - A session that synchronises learns where its replica stands when nothing of that replica is being admitted for an
//   older connection: what such an admission brought would otherwise be fed to others before it is acknowledged here.
// - When `run` returns, the link is closed and nothing of the session is under way any more.

import KVLog
import KVProtocol
import KVTransport
import Logging
import NIOCore
import NIOPosix
import Synchronization

final class HubConnection: Sendable {
  /// Messages that may wait for the socket. The session keeps far below it with a replica that reads.
  private static let maximumWaitingMessages = 1_024
  /// How long the last words may take.
  private static let farewell = Duration.seconds(5)

  private let connection: Connection
  private let hub: HubContext
  private let logger: Logger
  private let session: Mutex<HubSession>
  private let admissions = AdmissionGate()
  private let space = Mutex<(any HubSpace)?>(nil)
  private let spaceName = Mutex("")
  /// What the session came in with.
  private let credential = Mutex<(token: [UInt8], mode: SessionMode, principal: String?)?>(nil)
  private let began = ContinuousClock.now
  /// What is reserved for this connection in the hub's budgets.
  private let reserved = Mutex((windows: 0, staging: 0))
  private let outbox: AsyncStream<Message>
  private let outboxEnd: AsyncStream<Message>.Continuation
  private let work: AsyncStream<HubSession.Action>
  private let workEnd: AsyncStream<HubSession.Action>.Continuation

  init(_ connection: Connection, hub: HubContext) {
    self.connection = connection
    self.hub = hub
    var logger = hub.options.logger
    logger[metadataKey: "remote"] = "\(connection.remoteAddress)"
    self.logger = logger
    session = Mutex(HubSession(hub.configuration))
    (outbox, outboxEnd) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(Self.maximumWaitingMessages))
    (work, workEnd) = AsyncStream.makeStream()
  }

  /// Serves the connection to its end.
  func run() async {
    await withTaskCancellationHandler {
      await withDiscardingTaskGroup { group in
        group.addTask { await self.receive() }
        group.addTask { await self.keepTime() }
        group.addTask { await self.transmit() }
        for await action in work {
          group.addTask {
            let event = await self.perform(action)
            if action.isAdmission { self.admissions.finished() }
            if let event { self.handle(event) }
            if action.isAdmission { self.balance() }
          }
        }
        group.cancelAll()
      }
    } onCancel: {
      abort()
    }
    admissions.end()
    reserved.withLock { reserved in
      hub.windows.release(reserved.windows)
      hub.staging.release(reserved.staging)
      reserved = (0, 0)
    }
    hub.registry.left(self)
  }

  /// Tells the session something from outside.
  func handle(_ event: HubSession.Event) {
    session.withLock { session in
      for action in session.handle(event) { dispatch(action) }
    }
  }

  /// Ends the session if what it came in with no longer grants what it does.
  func checkAccess() async {
    guard let credential = credential.withLock({ $0 }) else { return }
    do throws(Refusal) {
      let grant = try await hub.gate.decide(name, credential.token, credential.mode)
      guard grant.principal != credential.principal else { return }
      throw Refusal(.notAuthorized, "the token has come to be another holder's; connect again")
    } catch {
      handle(.refused(error))
    }
  }

  /// Waits until nothing is being stored for it.
  func idle() async { await admissions.idle() }

  /// Ends it without a word.
  func abort() {
    connection.close()
    outboxEnd.finish()
  }

  private func dispatch(_ action: HubSession.Action) {
    switch action {
    case .send(let message):
      if case .refuse(let refusal) = message {
        logger.notice(
          "session refused", metadata: ["code": "\(refusal.code.rawValue)", "reason": "\(refusal.message)"])
      }
      if case .dropped = outboxEnd.yield(message) {
        logger.notice("connection dropped: the replica does not read")
        abort()
      }
    case .establish(let frameBytes):
      connection.establish(outboundFrameBytes: frameBytes)
    case .open, .read, .awaitHead, .readRows, .preview, .readHead:
      workEnd.yield(action)
    case .admit, .restore:
      admissions.began()
      workEnd.yield(action)
    case .close:
      outboxEnd.finish()
      workEnd.yield(action)
    }
  }

  // MARK: The link

  private func receive() async {
    do {
      for try await message in connection.messages {
        if reserve(message) { handle(.received(message)) } else { handle(.broken(.stagingFull)) }
      }
      handle(.closed)
    } catch TransportError.protocolBroken(let error) {
      logger.debug("protocol broken", metadata: ["reason": "\(error)"])
      handle(.broken(error))
    } catch {
      handle(.closed)
    }
  }

  /// Whether there is room for commits that no window bounds.
  private func reserve(_ message: Message) -> Bool {
    let bytes: Int
    switch message {
    case .push(let push): bytes = push.chargedBytes
    case .restore(let restore): bytes = restore.segment.records.count
    default: return true
    }
    guard bytes > HubLimits.firstWindowBytes else { return true }
    guard hub.staging.reserve(bytes) else { return false }
    reserved.withLock { $0.staging += bytes }
    return true
  }

  /// Gives back what is no longer needed, and the session the window that it makes use of, as far as there is room.
  private func balance() {
    let (wish, hasDecidedAll) = session.withLock { ($0.windowWish, $0.hasDecidedAll) }
    if hasDecidedAll {
      reserved.withLock { reserved in
        hub.staging.release(reserved.staging)
        reserved.staging = 0
      }
    }
    guard wish > 0 else { return }
    let hasRoom = hub.windows.reserve(wish)
    if hasRoom { reserved.withLock { $0.windows += wish } }
    handle(.windowGrew(bytes: hasRoom ? wish : 0))
  }

  /// Sends what waits, until the session has ended and everything is out.
  private func transmit() async {
    do throws(TransportError) {
      for await message in outbox {
        try await connection.send(message)
        switch message {
        case .feed: handle(.feedSent)
        case .rows, .preview: handle(.rowsSent)
        default: break
        }
      }
      await connection.finish()
    } catch {
      connection.close()
      handle(.closed)
    }
    workEnd.finish()
  }

  private func keepTime() async {
    let interval = min(session.withLock { $0.tickInterval }, hub.options.frameLimit / 2)
    while !Task.isCancelled {
      try? await Task.sleep(for: interval)
      if let slowness {
        logger.notice("connection dropped: the replica is too slow to \(slowness)")
        abort()
      }
      handle(.tick(elapsed: ContinuousClock.now - began, silence: connection.silence))
    }
  }

  private var slowness: String? {
    if connection.unsentTime >= hub.options.frameLimit { return "take what it is sent" }
    if connection.unfinishedTime >= hub.options.frameLimit { return "finish what it sends" }
    return nil
  }

  // MARK: The storage

  private func perform(_ action: HubSession.Action) async -> HubSession.Event? {
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
        let outcome = try await opened().restore(restoration)
        hub.alarm.stored(in: name(action), bytes: action.storedBytes)
        return .restored(outcome)
      case .read(let version, let replica, let maximumBytes):
        let space = try opened()
        return .read(
          try await blocking { try space.feed(after: version, excluding: replica, maximumBytes: maximumBytes) })
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
    } catch let error as HubStorageError {
      hub.alarm.failed(error, in: name(action), bytes: action.storedBytes)
      return .failed(error)
    } catch is CancellationError {
      return .closed
    } catch let refusal as Refusal {
      return .refused(refusal)
    } catch {
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
      space = try await hub.storage.space(
        named: hello.space, creating: grant.mayCreateSpace && Handshake.mayCreateSpace(hello))
    } catch HubStorageError.unknownSpace {
      return .refused(Handshake.refuseAbsentSpace(hello))
    }
    self.space.withLock { $0 = space }
    spaceName.withLock { $0 = hello.space }
    credential.withLock { $0 = (hello.token, hello.mode, grant.principal) }
    let readState = { [self] in try await blocking { try space.state(for: hello) } }
    var state = try await readState()
    let isSynchronising = hello.mode.isSynchronising && state.common != nil
    if let principal = grant.principal, isSynchronising {
      let owner = try await blocking { try space.owner(of: hello.replica, claimedBy: principal) }
      guard owner == principal else { return .refused(HubGate.otherOwner) }
    }
    if let common = state.common, Handshake.findsHubRestored(hello, state) {
      guard grant.right >= .write else {
        return .refused(
          Refusal(
            .busy, "the hub was restored to an older state, which a replica that may write has to mend first; try again"
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
    validated.refusals = try await hub.validator.refusals(
      in: push, after: decided, of: .init(space: spaceName.withLock { $0 }, replica: replica), principal: nil)
    return validated
  }

  /// The space that the action is about.
  private func name(_ action: HubSession.Action) -> String {
    if case .open(let hello) = action { hello.space } else { name }
  }

  /// The space that was opened.
  private var name: String { spaceName.withLock { $0 } }

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
  fileprivate var isAdmission: Bool {
    switch self {
    case .admit, .restore: true
    default: false
    }
  }
}
