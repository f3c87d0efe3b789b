// Word from the system that the network may be back. A hint, never trusted: it makes the replicator try at once, and
// changes nothing else.

/// Tells when it may be worth trying to reach the hub before the wait is over.
public protocol NetworkMonitor: Sendable {
  /// A sequence with an element each time that the network may have come back: an interface that went up, an address, a
  /// route. It may tell too often, too seldom, or nothing at all; the waits are kept all the same. What it uses is
  /// released when the sequence is dropped.
  func returns() -> AsyncStream<Void>
}

/// Says nothing.
public struct NoNetworkMonitor: NetworkMonitor {
  /// A monitor that says nothing.
  public init() {}

  /// An empty sequence.
  public func returns() -> AsyncStream<Void> { AsyncStream { $0.finish() } }
}

/// What this system has: netlink on Linux, the Network framework on Apple's platforms, nothing elsewhere.
public struct SystemNetworkMonitor: NetworkMonitor {
  /// The system's monitor.
  public init() {}

  /// A sequence with an element each time that the network may have come back; empty where the system does not say.
  public func returns() -> AsyncStream<Void> {
    #if os(Linux)
      NetlinkSocket.returns()
    #elseif canImport(Network)
      PathMonitor.returns()
    #else
      NoNetworkMonitor().returns()
    #endif
  }
}
