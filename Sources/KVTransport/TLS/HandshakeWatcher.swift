// Behind NIOSSL's handler on the replica's side: says when the TLS handshake is over, and how it ended.

import NIOCore
import NIOSSL
import NIOTLS

final class HandshakeWatcher: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer

  private let done: EventLoopPromise<Void>

  init(_ done: EventLoopPromise<Void>) {
    self.done = done
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case .handshakeCompleted = event as? TLSUserEvent { done.succeed() }
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

struct TLSHandshakeError: Error {
  let failure: TLSFailure
}
