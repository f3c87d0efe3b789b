// Linux: the kernel tells over a netlink socket of links, addresses and routes that come and go.
//
// Invariants
// - The socket is closed when the sequence is dropped, and at no other time.
// - What comes is looked at only for its kind; a message that cannot be understood counts as word of a change.

#if os(Linux)
  import CPlatform
  import Dispatch
  import Foundation

  enum NetlinkSocket {
    private static let bufferBytes = 16 << 10

    static func returns() -> AsyncStream<Void> {
      let (stream, continuation) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))
      let descriptor = network_changes_open()
      guard descriptor >= 0 else {
        // A sandbox may forbid it: then only the waits are left.
        continuation.finish()
        return stream
      }
      let queue = DispatchQueue(label: "kvsync.network")
      // Dispatch's sources may be used from any thread, though Dispatch does not say so to the compiler.
      nonisolated(unsafe) let source = DispatchSource.makeReadSource(fileDescriptor: descriptor, queue: queue)
      unsafe source.setEventHandler { if hasGain(descriptor) { continuation.yield() } }
      unsafe source.setCancelHandler { close(descriptor) }
      continuation.onTermination = { _ in unsafe source.cancel() }
      unsafe source.resume()
      return stream
    }

    /// Reads what there is; whether anything of it says that a link, an address or a route is there.
    private static func hasGain(_ descriptor: Int32) -> Bool {
      var buffer = [UInt8](repeating: 0, count: bufferBytes)
      var hasGain = false
      while true {
        let count = unsafe buffer.withUnsafeMutableBytes { unsafe recv(descriptor, $0.baseAddress, $0.count, 0) }
        if count < 0, errno == ENOBUFS {
          // More happened than the socket could hold.
          hasGain = true
        } else if count <= 0 {
          return hasGain
        } else {
          let isGain = unsafe buffer.withUnsafeBytes { unsafe network_changes_gain($0.baseAddress, UInt64(count)) }
          hasGain = hasGain || isGain != 0
        }
      }
    }
  }
#endif
