// The front of the pipeline: notes that bytes arrived, whether or not they complete a message.

import NIOCore

final class ReceiptCounter: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer

  private let link: LinkState

  init(link: LinkState) {
    self.link = link
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    link.received(unwrapInboundIn(data).readableBytes)
    context.fireChannelRead(data)
  }
}
