// Puts the fragments of a message together.
//
// Invariants:
// - At most `limit` bytes are staged; memory follows what has arrived, never what was announced.
// - Fragments of one message are not interleaved with other frames.

import KVLog

package struct MessageAssembler: Sendable {
  private let limit: Int
  private var kind: MessageKind?
  private var staged: [UInt8] = []

  package init(limit: Int = ProtocolLimits.maximumMessageBytes) {
    self.limit = limit
  }

  /// Bytes of an unfinished message.
  package var stagedBytes: Int { staged.count }

  /// Takes the payload of one frame, whose checksum has been verified; gives the message that it completes.
  package mutating func add(_ header: FrameHeader, _ payload: RawSpan) throws(ProtocolError) -> Message? {
    guard let kind else {
      guard header.hasMore else { return try Message.decode(header.kind, from: payload) }
      self.kind = header.kind
      staged.append(payload)
      return nil
    }
    guard header.kind == kind else { throw .interleavedFragments }
    guard payload.byteCount <= limit - staged.count else { throw .messageTooLarge(limit: limit) }
    staged.append(payload)
    if header.hasMore { return nil }
    self.kind = nil
    let whole = staged
    staged = []
    return try Message.decode(kind, assembled: whole)
  }
}
