// NIO's decoding loop around KVProtocol's frame reader.
//
// Invariants:
// - Bytes are looked at where NIO received them; a message's records are copied once, into the message.
// - What is staged for an unfinished message is reserved in the shared budget, and given back when the message is
//   finished or the connection ends.

import KVProtocol
import NIOCore

final class MessageDecoder: NIOSingleStepByteToMessageDecoder {
  typealias InboundOut = Message

  private var reader: FrameReader
  private let link: LinkState
  private let staging: ByteBudget?
  private var reservedBytes = 0

  init(link: LinkState, staging: ByteBudget?) {
    self.link = link
    self.staging = staging
    reader = FrameReader(phase: link.isWelcomed ? .session : .handshake)
  }

  deinit {
    staging?.release(reservedBytes)
  }

  func decode(buffer: inout ByteBuffer) throws(ProtocolError) -> Message? {
    if case .handshake = reader.phase, link.isWelcomed { reader.phase = .session }
    while buffer.readableBytes >= reader.neededBytes {
      let count = reader.neededBytes
      let message = try reader.consume(buffer.readableBytesSpan.extracting(first: count))
      buffer.moveReaderIndex(forwardBy: count)
      try reserve()
      if let message { return message }
    }
    return nil
  }

  func decodeLast(buffer: inout ByteBuffer, seenEOF: Bool) throws(ProtocolError) -> Message? {
    try decode(buffer: &buffer)
  }

  private func reserve() throws(ProtocolError) {
    let change = reader.stagedBytes - reservedBytes
    guard change != 0, let staging else { return }
    if change > 0 {
      guard staging.reserve(change) else { throw .stagingFull }
    } else {
      staging.release(-change)
    }
    reservedBytes += change
  }
}
