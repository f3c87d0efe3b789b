// Apple's platforms: the Network framework tells of every change of the path to the outside.

#if canImport(Network)
  import Dispatch
  import Network

  enum PathMonitor {
    static func returns() -> AsyncStream<Void> {
      let (stream, continuation) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))
      let monitor = NWPathMonitor()
      monitor.pathUpdateHandler = { path in
        if path.status == .satisfied { continuation.yield() }
      }
      continuation.onTermination = { _ in monitor.cancel() }
      monitor.start(queue: DispatchQueue(label: "kvsync.network"))
      return stream
    }
  }
#endif
