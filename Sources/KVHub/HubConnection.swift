// Drives one session: feeds it what happens on the link and in the storage, and does what it asks for.
//
// Invariants:
// - The session is only touched under its lock; its actions are dispatched under the same lock, so that messages go out
//   in the order in which the session decided on them.
// - Its tasks run on the connection's event loop. Functions of the storage that block, and those by which the program decides,
//   do not: they run on threads made for that.
// - A session that synchronises learns where its replica stands when nothing of that replica is being admitted for an
//   older connection: what such an admission brought would otherwise be fed to others before it is acknowledged here.
// - When `run` returns, the link is closed and nothing of the session is under way any more.

import KVLog
import KVProtocol
import KVTransport
import Logging
import Synchronization

final class HubConnection: Sendable {
  private struct State {
    var session: HubSession
    /// What follows at once, when the lock is free: on the event loop, where alone it comes about.
    var due: [Due] = []
  }

  private enum Due {
    case event(HubSession.Event)
    case read(FeedRequest, maximumBytes: Int)
  }

  /// How long the last words may take.
  static let farewell = Duration.seconds(5)

  let connection: Connection
  let hub: HubContext
  let logger: Logger
  private let state: Mutex<State>
  private let admissions = AdmissionGate()
  let space = Mutex<(any HubSpace)?>(nil)
  let spaceName = Mutex("")
  /// What the session came in with.
  let credential = Mutex<(hello: Hello, grant: Hub.Grant)?>(nil)
  private let began = ContinuousClock.now
  /// What is reserved for this connection in the hub's budgets.
  private let reserved = Mutex((windows: 0, staging: 0))
  private let outbox: Outbox
  private let actions: ConnectionTasks

  init(_ connection: Connection, hub: HubContext) {
    self.connection = connection
    self.hub = hub
    var logger = hub.options.logger
    logger[metadataKey: "remote"] = "\(connection.remoteAddress)"
    self.logger = logger
    state = Mutex(State(session: HubSession(hub.configuration)))
    outbox = Outbox(of: connection)
    actions = ConnectionTasks(of: connection)
  }

  /// Serves the connection to its end.
  func run() async {
    await withTaskCancellationHandler {
      await withTaskExecutorPreference(connection.executor) {
        await withDiscardingTaskGroup { group in
          group.addTask { await self.receive() }
          group.addTask { await self.keepTime() }
          await transmit()
          group.cancelAll()
        }
        await actions.end()
      }
    } onCancel: {
      abort()
      actions.cancel()
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
    react(to: event)
    guard connection.executor.isCurrent else { return }
    while let due = state.withLock({ $0.due.isEmpty ? nil : $0.due.removeFirst() }) {
      switch due {
      case .event(let event): react(to: event)
      case .read(let request, let maximumBytes):
        if let event = readAtHand(request, maximumBytes: maximumBytes) {
          react(to: event)
        } else {
          start(.read(request, maximumBytes: maximumBytes))
        }
      }
    }
  }

  private func react(to event: HubSession.Event) {
    state.withLock { state in
      for action in state.session.handle(event) { dispatch(action, &state) }
    }
  }

  /// Ends the session if what it came in with no longer grants what it does.
  func checkAccess() async {
    guard let credential = credential.withLock({ $0 }) else { return }
    do throws(Refusal) {
      let grant = try await hub.gate.decide(name, credential.hello.token, credential.hello.mode)
      guard grant.principal != credential.grant.principal else { return }
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
    outbox.finish()
  }

  private func dispatch(_ action: HubSession.Action, _ state: inout State) {
    switch action {
    case .send(let message):
      if case .refuse(let refusal) = message {
        logger.notice(
          "session refused", metadata: ["code": "\(refusal.code.rawValue)", "reason": "\(refusal.message)"])
      }
      switch outbox.post(message) {
      case .sent: if let sent = Self.sent(message) { state.due.append(.event(sent)) }
      case .waiting: break
      case .dropped:
        logger.notice("connection dropped: the replica does not read")
        abort()
      }
    case .establish(let frameBytes):
      connection.establish(outboundFrameBytes: frameBytes)
    case .read(let request, let maximumBytes) where connection.executor.isCurrent:
      state.due.append(.read(request, maximumBytes: maximumBytes))
    case .open, .read, .readPage, .awaitHead, .readRows, .preview, .readHead:
      start(action)
    case .admit, .restore:
      admissions.began()
      start(action)
    case .close:
      outbox.finish()
      start(action)
    }
  }

  private func start(_ action: HubSession.Action) {
    actions.start { [self] in
      let event = await perform(action)
      if action.isAdmission { admissions.finished() }
      if let event { handle(event) }
      if action.isAdmission { balance() }
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
    let (wish, hasDecidedAll) = state.withLock { ($0.session.windowWish, $0.session.hasDecidedAll) }
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
      try await outbox.run { message in
        if let sent = Self.sent(message) { handle(sent) }
      }
      await connection.finish()
    } catch {
      connection.close()
      handle(.closed)
    }
  }

  /// What the session is told when the message is on its way.
  private static func sent(_ message: Message) -> HubSession.Event? {
    switch message {
    case .feed, .page: .feedSent
    case .rows, .preview: .rowsSent
    default: nil
    }
  }

  private func keepTime() async {
    let interval = min(state.withLock { $0.session.tickInterval }, hub.options.frameLimit / 2)
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
}
