// Who is connected.
//
// Invariants:
// - A replica that pushes or pulls has one session per space: a newer one ends the older, which is most likely the half
//   of a link whose other half is gone. One that only compares is no such session.
// - A connection that comes after `end` is told so at once.

import KVLog
import KVProtocol
import KVTransport
import Synchronization

final class HubRegistry: Sendable {
  struct Member: Hashable {
    var space: String
    var replica: Identity
  }

  private struct State {
    var connections: [ObjectIdentifier: HubConnection] = [:]
    /// All that have yet to leave, the newest last.
    var sessions: [Member: [HubConnection]] = [:]
    var isEnding = false
  }

  private let maximumConnections: Int
  private let state = Mutex(State())

  init(maximumConnections: Int) {
    self.maximumConnections = maximumConnections
  }

  var count: Int { state.withLock { $0.connections.count } }

  /// A connection has come. Gives `false` when it is not to be served at all.
  func came(_ connection: HubConnection) -> Bool {
    state.withLock { state in
      // As many again may wait for their refusal; beyond that not even that is said.
      guard !state.isEnding, state.connections.count < 2 * maximumConnections else { return false }
      state.connections[ObjectIdentifier(connection)] = connection
      return true
    }
  }

  func hasRoom(for connection: HubConnection) -> Bool {
    state.withLock { $0.connections.count <= maximumConnections }
  }

  /// A connection becomes a replica's session, and the older ones end; gives those that have yet to leave.
  func joined(_ connection: HubConnection, as member: Member) -> [HubConnection] {
    let older = state.withLock { state in
      let older = state.sessions[member, default: []]
      state.sessions[member] = older + [connection]
      return older
    }
    for connection in older {
      connection.handle(
        .refused(Refusal(.replaced, "another connection of this replica took over; is a copy of it in use?")))
    }
    return older
  }

  func left(_ connection: HubConnection) {
    state.withLock { state in
      state.connections[ObjectIdentifier(connection)] = nil
      guard let member = state.sessions.first(where: { $0.value.contains { $0 === connection } })?.key else { return }
      state.sessions[member]?.removeAll { $0 === connection }
      if state.sessions[member]?.isEmpty == true { state.sessions[member] = nil }
    }
  }

  /// Those that are connected at this moment.
  var connections: [HubConnection] { state.withLock { Array($0.connections.values) } }

  /// Nobody is taken in any more; gives those who are to be told.
  func end() -> [HubConnection] {
    state.withLock { state in
      state.isEnding = true
      return Array(state.connections.values)
    }
  }
}

/// What all connections of a hub share.
struct HubContext: Sendable {
  let storage: any HubStorage
  let options: Hub.Options
  let registry: HubRegistry
  let gate: HubGate
  /// What windows have grown by, over all connections.
  let windows: ByteBudget
  /// What does not fit in a window: unfinished messages, and commits larger than one.
  let staging: ByteBudget
  let alarm: HubAlarm
  let validator: HubValidator
  let epochs = EpochGate()

  var configuration: HubSession.Configuration {
    var configuration = HubSession.Configuration()
    configuration.windowBytes = min(options.windowBytes, HubLimits.firstWindowBytes)
    configuration.maximumWindowBytes = options.windowBytes
    configuration.handshakeTimeout = options.handshakeTimeout
    configuration.heartbeatInterval = options.heartbeatInterval
    configuration.idleLimit = options.idleLimit
    configuration.mayRefuse = validator.isNeeded
    return configuration
  }
}
