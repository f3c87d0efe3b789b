// The hub: a port, its connections, and the storage behind them.
//
// Invariants:
// - A hub goes from idle to serving to ended, once.
// - After `shutdown` returned, no connection is left, the port is free and the storage is closed.

import KVTransport
import Logging
import Synchronization

public import ServiceLifecycle

/// Serves spaces to replicas.
///
/// Run it as a service, or call ``start()`` and ``shutdown()`` yourself. What a replica pushes is acknowledged once it
/// is durable; a hub that is killed loses nothing that it acknowledged. A `Hub` may be used from any thread, and runs
/// once: after ``shutdown()`` a new one is needed.
public final class Hub: Sendable, Service {
  /// Where a hub listens.
  public struct Address: Sendable, Hashable, CustomStringConvertible {
    /// The local address, in numbers.
    public let host: String
    /// The TCP port, 1 to 65,535.
    public let port: Int

    /// `HOST:PORT`, an IPv6 address in brackets.
    public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
  }

  private enum State {
    case idle
    case starting
    case serving(Listener, Task<Void, Never>)
    case ended
  }

  private let context: HubContext
  private let state = Mutex(State.idle)

  package init(engine: any HubStorage, options: Options) {
    let options = options.withinLimits
    context = HubContext(
      storage: engine, options: options, registry: HubRegistry(maximumConnections: options.maximumConnections),
      gate: HubGate(options), windows: ByteBudget(limitBytes: options.inFlightBytes),
      staging: ByteBudget(limitBytes: options.stagedBytes),
      alarm: HubAlarm(logger: options.logger), validator: HubValidator(options))
  }

  /// A hub that is yet to be started, and that forgets everything when it ends, for tests and for trying things out.
  public convenience init(storage: InMemoryHubStorage, options: Options = Options()) {
    self.init(engine: storage, options: options)
  }

  /// Where the hub listens, with the port that the system chose; `nil` unless it is serving.
  public var address: Address? {
    state.withLock { state in
      guard case .serving(let listener, _) = state else { return nil }
      return Address(host: listener.localHost, port: listener.localPort)
    }
  }

  /// Connections at this moment, those in their handshake included.
  public var connectionCount: Int { context.registry.count }

  /// Binds the port and serves until ``shutdown()``. Returns once connections are taken.
  ///
  /// Throws ``HubError``: `portInUse`, `notAllowed`, `cannotListen`, `certificate`, `insecure` (after these it may be started again), or
  /// `notStartable`.
  @discardableResult
  public func start() async throws(HubError) -> Address {
    let mayStart = state.withLock { state in
      guard case .idle = state else { return false }
      state = .starting
      return true
    }
    guard mayStart else { throw HubError(.notStartable, "this hub has been started before; make a new one") }
    let listener: Listener
    do {
      let options = context.options
      listener = try await Listener.bind(
        host: options.host, port: options.port, tls: try options.tls?.source(options.logger),
        allowsPlaintext: options.allowsInsecure,
        staging: context.staging)
    } catch {
      state.withLock { state in
        if case .starting = state { state = .idle }
      }
      throw HubError(error)
    }
    guard listener.isLocal || context.options.allowsInsecure || !context.options.access.admitsStrangers() else {
      listener.close()
      await listener.closed()
      state.withLock { state in
        if case .starting = state { state = .idle }
      }
      throw HubError(
        .insecure,
        "other machines can reach \(context.options.host), and everybody would be admitted; create a token first, listen on "
          + "127.0.0.1, or allow insecure connections")
    }
    let isServing = state.withLock { state in
      // It may have been shut down meanwhile.
      guard case .starting = state else { return false }
      state = .serving(listener, Task { [context] in await Hub.serve(listener, context) })
      return true
    }
    guard isServing else {
      listener.close()
      throw HubError(.notStartable, "this hub was shut down while it started")
    }
    let address = Address(host: listener.localHost, port: listener.localPort)
    context.options.logger.info("hub serving", metadata: ["address": "\(address)"])
    return address
  }

  /// Takes no more connections, lets what is being stored be acknowledged, says goodbye and closes the storage.
  ///
  /// Waits for ``Options/shutdownLimit`` at most, then ends the connections that are left: what they had not been
  /// acknowledged they send again to the next hub. A failure to close the storage goes to the logger; what was
  /// acknowledged is durable all the same. A second call does nothing.
  public func shutdown() async {
    let previous = state.withLock { state in
      defer { state = .ended }
      return state
    }
    if case .ended = previous { return }
    if case .serving(let listener, let serving) = previous {
      listener.close()
      for connection in context.registry.end() { connection.handle(.shutdown) }
      let limit = Task { [context] in
        try await Task.sleep(for: context.options.shutdownLimit)
        serving.cancel()
      }
      await serving.value
      limit.cancel()
      await listener.closed()
    }
    do {
      try await context.storage.close()
    } catch {
      context.options.logger.error("closing the storage failed", metadata: ["error": "\(error)"])
    }
    context.options.logger.info("hub ended")
  }

  /// Serves until the service group shuts down or the task is cancelled. Throws what ``start()`` throws.
  public func run() async throws {
    try await start()
    try? await gracefulShutdown()
    await shutdown()
  }

  private static func serve(_ listener: Listener, _ context: HubContext) async {
    let watch = Task {
      while true {
        try await Task.sleep(for: context.options.accessInterval)
        for connection in context.registry.connections { await connection.checkAccess() }
      }
    }
    defer { watch.cancel() }
    await withDiscardingTaskGroup { group in
      for await accepted in listener.connections {
        let connection = HubConnection(accepted, hub: context)
        guard context.registry.came(connection) else {
          accepted.close()
          continue
        }
        group.addTask { await connection.run() }
      }
    }
  }
}
