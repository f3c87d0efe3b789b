// What is wrong with what the other side sent.

package import KVLog

/// Why bytes or messages of the other side are not acceptable. The connection ends with it.
package enum ProtocolError: Error, Hashable, Sendable {
  /// A header announces more than is allowed at this point; nothing of it was buffered.
  case frameTooLarge(bytes: Int, limit: Int)
  /// A header that no kvsync peer writes.
  case badHeader(String)
  /// A frame of a kind that has no place here, such as anything but a hello before the handshake.
  case unexpectedFrame(kind: UInt8)
  /// The payload is not the one that was sent.
  case checksumMismatch(MessageKind)
  /// A fragment of one message inside another.
  case interleavedFragments
  /// More fragments than the largest commit needs.
  case messageTooLarge(limit: Int)
  /// A payload that does not follow the grammar of its kind.
  case malformed(MessageKind, LogFormatError)
  /// A hello without the magic bytes.
  case notKVSync
  /// The other side speaks TLS where plaintext is spoken.
  case tlsSpoken
  /// No protocol that both sides speak.
  case unsupportedProtocol(offered: ClosedRange<UInt16>)
  /// A well-formed message that may not be sent at this point or with these values.
  case violation(String)
  /// The receiver's limit on bytes staged for fragmented messages, over all its connections, is reached.
  case stagingFull
}

extension ProtocolError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .frameTooLarge(let bytes, let limit):
      "a frame of \(bytes) bytes was announced where at most \(limit) are allowed"
    case .badHeader(let reason): "not a frame of this protocol: \(reason)"
    case .unexpectedFrame(let kind): "a frame of kind \(kind) is not expected here"
    case .checksumMismatch(let kind): "the checksum of a \(kind) frame does not match: it was damaged on its way"
    case .interleavedFragments: "a frame of another message came between the fragments of one"
    case .messageTooLarge(let limit): "a message exceeds \(limit) bytes"
    case .malformed(let kind, let error): "malformed \(kind) message: \(error)"
    case .notKVSync: "the other side does not speak the kvsync protocol"
    case .tlsSpoken: "the other side speaks TLS, and this one does not; use kvsyncs:// for a hub that has a certificate"
    case .unsupportedProtocol(let offered):
      "the other side speaks protocol \(offered.lowerBound) to \(offered.upperBound), this one "
        + "\(ProtocolLimits.versions.lowerBound) to \(ProtocolLimits.versions.upperBound); upgrade the older of the two"
    case .violation(let reason): "the other side broke the protocol: \(reason)"
    case .stagingFull: "too many bytes of unfinished messages are waiting; try again later"
    }
  }
}
