// What a hub remembers of a replica, stored in the same durable step as the commits it applies from it.
//
//     progress = replica 16 | incarnation 16 | lastApplied u64 | digest 16 | exceptions (CommitException.swift)
//
// Invariants:
// - `lastApplied` only grows within an incarnation: a commit at or below it is never applied again.

package struct ReplicaProgress: Hashable, Sendable {
  package var replica: Identity
  package var incarnation: Identity
  /// The replica's version through which every commit has been decided.
  package var lastApplied: Version
  /// The replica's digest there, as it sent it.
  package var digest: Digest
  /// Exceptions that the replica has not yet said it has recorded.
  package var unconfirmed: [CommitException]

  package init(
    replica: Identity, incarnation: Identity, lastApplied: Version, digest: Digest, unconfirmed: [CommitException]
  ) {
    self.replica = replica
    self.incarnation = incarnation
    self.lastApplied = lastApplied
    self.digest = digest
    self.unconfirmed = unconfirmed
  }

  /// Bytes that the reasons of further refusals may have together.
  package var messageRoom: Int {
    unconfirmed.reduce(LogLimits.unconfirmedMessageBytes) { room, exception in
      if case .refused(_, let message) = exception.reason { room - message.utf8.count } else { room }
    }
  }

  /// Remembers that a commit was refused, with as much of the reason as `messageRoom` has for it.
  package mutating func refuse(_ refusal: CommitRefusal, messageRoom: inout Int) {
    let message = String(refusal.message.prefix(bytes: max(0, min(messageRoom, LogLimits.maximumMessageBytes))))
    messageRoom -= message.utf8.count
    unconfirmed.append(
      CommitException(version: refusal.version, reason: .refused(code: refusal.code, message: message)))
  }

  package func encode(to bytes: inout [UInt8]) {
    bytes.append(replica)
    bytes.append(incarnation)
    bytes.append(littleEndian: lastApplied)
    bytes.append(digest)
    CommitException.encode(unconfirmed, to: &bytes)
  }

  package var encoded: [UInt8] {
    var bytes: [UInt8] = []
    encode(to: &bytes)
    return bytes
  }

  package init(decoding bytes: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    replica = try reader.identity(from: bytes)
    incarnation = try reader.identity(from: bytes)
    lastApplied = try reader.read(UInt64.self, from: bytes)
    digest = try reader.digest(from: bytes)
    unconfirmed = try CommitException.decodeList(from: &reader, in: bytes)
    try reader.end(of: bytes)
  }
}
