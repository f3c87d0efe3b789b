// The end of the pipeline: hands messages to the connection's reader and stops the socket when nobody reads.
//
// Invariants:
// - At most `ProtocolLimits.inboundHighMessages`, and what one read from the socket brought, wait to be taken; beyond
//   that no further read is issued until the reader catches up.
// - The sequence finishes exactly once: with what broke the protocol or the link, or without an error at its end.

import KVProtocol
import NIOCore
import NIOSSL

typealias InboundProducer = NIOThrowingAsyncSequenceProducer<
  Message, any Error, NIOAsyncSequenceProducerBackPressureStrategies.HighLowWatermark, InboundHandler.Demand
>

final class InboundHandler: ChannelDuplexHandler {
  typealias InboundIn = Message
  typealias OutboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  /// Told by the reader's side that it wants more.
  struct Demand: NIOAsyncSequenceProducerDelegate {
    let loop: any EventLoop
    let handler: NIOLoopBound<InboundHandler>

    func produceMore() {
      if loop.inEventLoop { handler.value.resume() } else { loop.execute { handler.value.resume() } }
    }

    func didTerminate() {}
  }

  private let gate: SendGate
  private let link: LinkState
  private let remoteAddress: String
  private var source: InboundProducer.Source?
  private var onActive: (() -> Void)?
  private var context: ChannelHandlerContext?
  private var isPaused = false
  private var readIsHeld = false

  init(gate: SendGate, link: LinkState, remoteAddress: String, onActive: (() -> Void)?) {
    self.gate = gate
    self.link = link
    self.remoteAddress = remoteAddress
    self.onActive = onActive
  }

  /// Makes the sequence that this handler feeds. On the event loop.
  func makeSequence(on loop: any EventLoop) -> InboundProducer {
    let producer = InboundProducer.makeSequence(
      elementType: Message.self, failureType: (any Error).self,
      backPressureStrategy: .init(lowWatermark: 1, highWatermark: ProtocolLimits.inboundHighMessages),
      finishOnDeinit: true, delegate: Demand(loop: loop, handler: NIOLoopBound(self, eventLoop: loop)))
    source = producer.source
    return producer.sequence
  }

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    if context.channel.isActive { activate() }
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    finish(.closed)
    onActive = nil
    self.context = nil
  }

  func channelActive(context: ChannelHandlerContext) {
    activate()
    context.fireChannelActive()
  }

  private func activate() {
    onActive?()
    onActive = nil
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard let source else { return }
    switch source.yield(unwrapInboundIn(data)) {
    case .produceMore: break
    case .stopProducing:
      isPaused = true
      link.isHeld = true
    case .dropped: self.source = nil
    }
  }

  func read(context: ChannelHandlerContext) {
    if isPaused { readIsHeld = true } else { context.read() }
  }

  private func resume() {
    isPaused = false
    link.isHeld = false
    guard readIsHeld else { return }
    readIsHeld = false
    context?.read()
  }

  func channelInactive(context: ChannelHandlerContext) {
    finish(.closed)
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    switch error {
    case let error as ProtocolError:
      // Still open for sending, so that the user can say why it refuses; what else arrives is dropped.
      source?.finish(TransportError.protocolBroken(error))
      source = nil
      resume()
    case is ByteToMessageDecoderError where source == nil:
      break
    default:
      finish(reason(error, context))
      context.close(promise: nil)
    }
  }

  private func reason(_ error: any Error, _ context: ChannelHandlerContext) -> TransportError {
    if error is ByteToMessageDecoderError { return .lost(reason: "it ended in the middle of a message") }
    let certificate = try? context.pipeline.syncOperations.nioSSL_peerCertificate()
    if let failure = TLSFailure(error, peer: certificate) { return .tls(failure, peer: remoteAddress) }
    return .lost(reason: Reason.of(error))
  }

  /// Ends both directions.
  private func finish(_ error: TransportError) {
    gate.fail(error)
    guard let source else { return }
    self.source = nil
    if error == .closed { source.finish() } else { source.finish(error) }
  }
}
