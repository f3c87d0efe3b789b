// Turns a stream of bytes into messages, without owning the stream.
//
// Invariants:
// - It is handed exactly `neededBytes` at a time, and never asks for more than the phase allows: a header's length is
//   checked before a byte of the payload is waited for.
// - After an error it is of no further use: the stream has no place to start again from.

package struct FrameReader: Sendable {
  package enum Phase: Sendable {
    /// A stranger: one hello, of handshake size.
    case handshake
    case session
  }

  package var phase: Phase
  private var header: FrameHeader?
  private var assembler: MessageAssembler

  package init(phase: Phase, maximumMessageBytes: Int = ProtocolLimits.maximumMessageBytes) {
    self.phase = phase
    assembler = MessageAssembler(limit: maximumMessageBytes)
  }

  /// How many bytes the next step takes.
  package var neededBytes: Int { header?.payloadBytes ?? FrameHeader.byteCount }
  /// Bytes of an unfinished message.
  package var stagedBytes: Int { assembler.stagedBytes }
  /// Whether the stream may end here.
  package var isBetweenMessages: Bool { header == nil && assembler.stagedBytes == 0 }

  /// Takes the next `neededBytes`; gives the message that they complete.
  package mutating func consume(_ bytes: RawSpan) throws(ProtocolError) -> Message? {
    precondition(bytes.byteCount == neededBytes, "the reader takes exactly what it asked for")
    if let header {
      self.header = nil
      return try finish(header, bytes)
    }
    switch phase {
    case .handshake:
      let header = try FrameHeader(decoding: bytes, limit: ProtocolLimits.maximumHandshakeBytes)
      guard header.kind == .hello else { throw .unexpectedFrame(kind: header.kind.rawValue) }
      self.header = header
    case .session:
      self.header = try FrameHeader(decoding: bytes, limit: ProtocolLimits.maximumFrameBytes)
    }
    // A message without a payload is complete with its header.
    guard let header, header.payloadBytes == 0 else { return nil }
    self.header = nil
    return try finish(header, RawSpan())
  }

  private mutating func finish(_ header: FrameHeader, _ payload: RawSpan) throws(ProtocolError) -> Message? {
    guard header.matches(payload) else { throw .checksumMismatch(header.kind) }
    return try assembler.add(header, payload)
  }
}
