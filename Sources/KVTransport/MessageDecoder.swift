// NIO's decoding loop around KVProtocol's frame reader.
//
// Invariants:
// - Bytes are looked at where NIO received them; a message's records are copied once, into the message.
// - Somebody who speaks TLS where plaintext is spoken is told apart before a frame is looked for.
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
  private var isFirst = true

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
    if isFirst, isTLS(buffer.getBytes(at: buffer.readerIndex, length: min(7, buffer.readableBytes)) ?? []) {
      throw .tlsSpoken
    }
    var hasCompleted = false
    defer {
      link.read(
        hasCompleted: hasCompleted, isUnderWay: buffer.readableBytes > 0 || !reader.isBetweenMessages)
    }
    while buffer.readableBytes >= reader.neededBytes {
      isFirst = false
      hasCompleted = true
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

  /// A handshake record, from a stranger who wants to begin with TLS; or, to a replica that began without, the fatal alert
  /// that a server has for it. No frame looks so: it would be too long for a stranger, or have unknown flags.
  private func isTLS(_ bytes: [UInt8]) -> Bool {
    guard bytes.count >= 3, bytes[1] == 3, (1...4).contains(bytes[2]) else { return false }
    if case .handshake = reader.phase { return bytes[0] == 0x16 }
    return bytes.count >= 7 && bytes[0] == 0x15 && bytes[3...5].elementsEqual([0, 2, 2])
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
