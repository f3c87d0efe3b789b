// How a link to a hub is protected: with TLS, or by not leaving this machine.

import NIOCore
import NIOPosix
import NIOSSL

struct ClientSecurity: Sendable {
  private let context: NIOSSLContext?
  /// What the hub's certificate must be for: a name, or else the address that the link goes to.
  private let hubName: String?
  private let allowsPlaintext: Bool

  /// Reads the files of `tls`.
  init(_ tls: ClientTLS?, host: String, allowsPlaintext: Bool) async throws(TransportError) {
    self.allowsPlaintext = allowsPlaintext
    guard let tls else {
      context = nil
      hubName = nil
      return
    }
    let name = tls.hubName ?? host
    hubName = (try? SocketAddress(ipAddress: name, port: 0)) == nil ? name : nil
    do {
      context = try await NIOThreadPool.singleton.runIfActive { try tls.context() }
    } catch let error as TransportError {
      throw error
    } catch {
      throw .cancelled
    }
  }

  /// Whether a link to this address may not be; an address that is not known yet may be.
  func isRefused(_ address: SocketAddress?) -> Bool {
    guard context == nil, !allowsPlaintext, let address else { return false }
    return !address.isLoopback
  }

  /// Puts TLS into the pipeline, before everything else. On the channel's event loop.
  func secure(_ channel: any Channel) throws -> TLSHandshake? {
    guard let context else { return nil }
    let handshake = TLSHandshake(done: channel.eventLoop.makePromise())
    try channel.pipeline.syncOperations.addHandler(NIOSSLClientHandler(context: context, serverHostname: hubName))
    try channel.pipeline.syncOperations.addHandler(HandshakeWatcher(handshake.done, hubName: hubName))
    return handshake
  }
}

/// A TLS handshake under way.
struct TLSHandshake: Sendable {
  let done: EventLoopPromise<Void>

  /// Waits for its end; at the deadline, or when the task is cancelled, the link ends.
  func wait(until deadline: NIODeadline, on channel: any Channel) async throws {
    let expiry = channel.eventLoop.scheduleTask(deadline: deadline) { done.fail(ChannelError.connectTimeout(.zero)) }
    defer { expiry.cancel() }
    try await withTaskCancellationHandler {
      try await done.futureResult.get()
    } onCancel: {
      done.fail(TransportError.cancelled)
    }
  }
}

extension SocketAddress {
  /// An IPv4 address; of an IPv6 address the 64 bits that its holder has been given.
  var network: String? {
    guard let text = ipAddress, text.contains(":"), !text.hasPrefix("::ffff:") else { return ipAddress }
    let gap = text.firstRange(of: "::")
    let head = text[..<(gap?.lowerBound ?? text.endIndex)].split(separator: ":")
    let tail = gap.map { text[$0.upperBound...].split(separator: ":") } ?? []
    let zeros = repeatElement("0", count: max(0, 8 - head.count - tail.count))
    return (head.map(String.init) + zeros + tail.map(String.init)).prefix(4).joined(separator: ":") + "/64"
  }

  /// Whether it stays on this machine.
  var isLoopback: Bool {
    guard let text = ipAddress else { return pathname != nil }
    return text.hasPrefix("127.") || text == "::1" || text.hasPrefix("::ffff:127.")
  }
}
