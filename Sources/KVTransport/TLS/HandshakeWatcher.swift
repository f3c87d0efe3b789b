// Behind NIOSSL's handler on the replica's side: says when the TLS handshake is over, and how it ended.
//
// Invariant: who connects to a name gets a hub whose certificate has that name. NIOSSL is content with the address that the
// name led to, which whoever answers for names could choose.

import NIOCore
import NIOSSL
import NIOTLS

final class HandshakeWatcher: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer

  private let done: EventLoopPromise<Void>
  /// `nil`: an address was connected to.
  private let hubName: String?

  init(_ done: EventLoopPromise<Void>, hubName: String?) {
    self.done = done
    self.hubName = hubName
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case .handshakeCompleted = event as? TLSUserEvent {
      let certificate = try? context.pipeline.syncOperations.nioSSL_peerCertificate()
      if let hubName, !(certificate?.isFor(hubName) ?? false) {
        done.fail(TLSHandshakeError(failure: .otherName))
      } else {
        done.succeed()
      }
    }
    context.fireUserInboundEventTriggered(event)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    let failure = TLSFailure(error, peer: try? context.pipeline.syncOperations.nioSSL_peerCertificate())
    done.fail(failure.map { TLSHandshakeError(failure: $0) } ?? error)
    context.fireErrorCaught(error)
  }

  func channelInactive(context: ChannelHandlerContext) {
    done.fail(TLSHandshakeError(failure: .closed))
    context.fireChannelInactive()
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    done.fail(TLSHandshakeError(failure: .closed))
  }
}

extension NIOSSLCertificate {
  /// Whether the name is among its own; `*` there stands for one label, the first.
  fileprivate func isFor(_ name: String) -> Bool {
    var name = name.lowercased()
    if name.hasSuffix(".") { name.removeLast() }
    let behindFirst = name.firstIndex(of: ".").map { name[$0...] }
    return _subjectAlternativeNames().contains { alternative in
      guard alternative.nameType == .dnsName else { return false }
      let own = String(decoding: alternative.contents, as: UTF8.self).lowercased()
      return own == name || own.hasPrefix("*.") && own.dropFirst() == behindFirst
    }
  }
}

struct TLSHandshakeError: Error {
  let failure: TLSFailure
}
