// Word that the network is back: one try at once, at most one a second, and the waits are kept.

import Foundation
import KVHub
import KVStore
import Synchronization
import TestSupport
import Testing

@testable import KVReplicator

@Suite struct NetworkMonitorTests {
  /// Attempts as they fail, with the wait that each announces.
  private final class Attempts: Sendable {
    private let waits = Mutex<[(at: ContinuousClock.Instant, wait: Duration)]>([])

    func add(_ wait: Duration) { waits.withLock { $0.append((.now, wait)) } }
    var all: [(at: ContinuousClock.Instant, wait: Duration)] { waits.withLock { $0 } }
    var count: Int { all.count }
  }

  @Test(
    "A hint leads to one try at once, a burst of them to one a second, and none of them moves what the wait was for")
  func hints() async throws {
    let bench = try Workbench()
    let store = try await bench.store("a")
    // Nobody is there, and the system gives the port to nobody.
    let address = HubAddress(host: "127.0.0.1", port: 1, space: "space")
    let monitor = FakeMonitor()
    let attempts = Attempts()
    var configuration = Replicator.Configuration()
    configuration.networkMonitor = monitor
    configuration.shortestRetry = .seconds(6_000)
    configuration.longestRetry = .seconds(6_000)
    configuration.retrying = { attempts.add($1) }
    let replicator = Replicator(store, hub: address, configuration: configuration)
    let running = Task { try await replicator.run() }
    try await eventually { attempts.count == 1 }
    let probe = SchedulingProbe(disk: bench.path)
    let (began, start) = (ContinuousClock.now, monotonicMicroseconds())
    var late: Duration { .microseconds(probe.worst(since: start)) }
    monitor.networkReturns()
    try await eventually { attempts.count == 2 }
    #expect(ContinuousClock.now - began < .milliseconds(900) + late * 3, "at once")
    // A cable with a loose contact.
    let flapping = Task {
      while !Task.isCancelled {
        monitor.networkReturns()
        try await Task.sleep(for: .milliseconds(5))
      }
    }
    try await eventually { attempts.count == 4 }
    flapping.cancel()
    let times = attempts.all
    // A try may be told of late, and not early: so they are counted from the first hint.
    for (number, time) in times.dropFirst().enumerated() {
      #expect(time.at - began >= .milliseconds(950) * number, "one a second")
    }
    // The first wait goes on: the announced end stays where it was.
    let ends = times.map { $0.at + $0.wait }
    let tolerance = .milliseconds(200) + late * 3
    for end in ends { #expect(end - ends[0] < tolerance && ends[0] - end < tolerance) }
    running.cancel()
    try await running.value
  }

  @Test("A hint while it is connected changes nothing")
  func connected() async throws {
    let bench = try Workbench()
    let store = try await bench.store("a")
    let hub = try await bench.hub()
    let proxy = try await SwallowingProxy.start(to: hub)
    let monitor = FakeMonitor()
    var configuration = Replicator.Configuration.small
    configuration.networkMonitor = monitor
    let replicator = Replicator(
      store, hub: HubAddress(host: "127.0.0.1", port: proxy.port, space: "space"), configuration: configuration)
    let running = Task { try await replicator.run() }
    try await replicator.caughtUp()
    for _ in 0..<5 { monitor.networkReturns() }
    try await replicator.caughtUp()
    #expect(proxy.connections == 1)
    running.cancel()
    try await running.value
    try await proxy.close()
    await hub.shutdown()
  }

  #if os(Linux)
    /// Whether this thread may have a network of its own.
    static let hasNamespaces: Bool = {
      let outcome = Mutex<Bool?>(nil)
      Thread {
        let done = NetworkOfItsOwn.enter(); outcome.withLock { $0 = done }
      }.start()
      while outcome.withLock({ $0 == nil }) { usleep(1_000) }
      return outcome.withLock { $0 } == true && FileManager.default.isExecutableFile(atPath: NetworkOfItsOwn.tool)
    }()

    @Test(
      "An interface that comes up is told by the system's monitor",
      .enabled(if: hasNamespaces, "Needs leave to make a network namespace, and ip(8)."))
    func netlink() async throws {
      let (told, continuation) = AsyncStream<String>.makeStream()
      let thread = Thread {
        guard NetworkOfItsOwn.enter() else { return continuation.finish() }
        // The socket belongs to the namespace of the thread that opens it, and so do the commands it starts.
        let hints = SystemNetworkMonitor().returns()
        Task {
          for await _ in hints { continuation.yield("hint") }
          continuation.finish()
        }
        // Of a new namespace, the loopback interface is down.
        if !NetworkOfItsOwn.run(["link", "set", "lo", "up"]) { continuation.yield("ip failed") }
      }
      thread.start()
      let expiry = Task {
        try await Task.sleep(for: .seconds(20))
        continuation.finish()
      }
      var first: String?
      for await word in told {
        first = word
        break
      }
      expiry.cancel()
      #expect(first == "hint")
    }
  #endif
}

#if os(Linux)
  enum NetworkOfItsOwn {
    static let tool = "/usr/sbin/ip"

    /// Gives the calling thread a network namespace of its own.
    static func enter() -> Bool {
      typealias Unshare = @convention(c) (Int32) -> Int32
      // Swift's module of the C library leaves it out.
      guard let symbol = unsafe dlsym(nil, "unshare") else { return false }
      let newNetwork: Int32 = 0x4000_0000
      return unsafe unsafeBitCast(symbol, to: Unshare.self)(newNetwork) == 0
    }

    /// Runs ip(8) in the calling thread's namespace.
    static func run(_ arguments: [String]) -> Bool {
      var pointers: [UnsafeMutablePointer<CChar>?] = unsafe ([tool] + arguments).map { unsafe strdup($0) }
      unsafe pointers.append(nil)
      defer { for index in unsafe pointers.indices { unsafe free(pointers[index]) } }
      var process: pid_t = 0
      guard unsafe posix_spawn(&process, tool, nil, nil, pointers, environ) == 0 else { return false }
      var status: Int32 = 0
      return unsafe waitpid(process, &status, 0) == process && status == 0
    }
  }
#endif
