// What a hub remembers of a replica, stored in the same durable step as the commits it applies from it.
//
//     progress = replica 16 | lastApplied u64 | digest 16 | kind u8 | zero 3 | horizon u64 | its digest 16 |
//                confirmed u64 | exceptions (CommitException.swift)
//
// Invariants:
// - `lastApplied` only grows: a commit at or below it is never applied again.

package struct ReplicaProgress: Hashable, Sendable {
  package var replica: Identity
  /// The replica's version through which every commit has been decided.
  package var lastApplied: Version
  /// What tells whether the commits through there are those of the replica's log.
  package var digest: Digest
  package var digestKind = DigestKind.log

  package enum DigestKind: UInt8, Hashable, Sendable {
    /// The digest of the replica's log there, as it sent it.
    case log = 0
    /// The mark of the commit there: the hub had lost it, and others brought it back.
    case commit = 1
  }
  /// The furthest of what was left out through there: a replica that has another log there is not the one that sent it.
  package var horizon = Horizon.none
  /// The last exception that the replica has said it has recorded, which is forgotten here: a replica that has not heard of what
  /// was decided there is not what it was. 0: none.
  package var confirmed: Version = 0
  /// Exceptions that the replica has not yet said it has recorded.
  package var unconfirmed: [CommitException]

  /// Of one that has not pushed yet.
  package init(of replica: Identity) {
    self.init(replica: replica, lastApplied: 0, digest: .origin(of: replica), unconfirmed: [])
  }

  package init(
    replica: Identity, lastApplied: Version, digest: Digest, unconfirmed: [CommitException]
  ) {
    self.replica = replica
    self.lastApplied = lastApplied
    self.digest = digest
    self.unconfirmed = unconfirmed
  }

  /// A run was decided.
  package mutating func decided(_ push: PushSegment) {
    lastApplied = push.segment.through
    digest = push.segment.digest
    digestKind = .log
    if push.horizon.version > horizon.version { horizon = push.horizon }
  }

  /// The replica has recorded the exceptions through that version.
  package mutating func confirm(through version: Version) {
    guard let last = unconfirmed.last(where: { $0.version <= version }) else { return }
    confirmed = last.version
    unconfirmed.removeAll { $0.version <= version }
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
    bytes.append(littleEndian: lastApplied)
    bytes.append(digest)
    bytes.append(littleEndian: UInt32(digestKind.rawValue))
    horizon.encode(to: &bytes)
    bytes.append(littleEndian: confirmed)
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
    lastApplied = try reader.read(UInt64.self, from: bytes)
    digest = try reader.digest(from: bytes)
    digestKind = try reader.digestKind(from: bytes)
    horizon = try Horizon(from: &reader, in: bytes)
    confirmed = try reader.read(UInt64.self, from: bytes)
    unconfirmed = try CommitException.decodeList(from: &reader, in: bytes)
    try reader.end(of: bytes)
  }
}

extension ByteReader {
  package mutating func digestKind(from bytes: RawSpan) throws(LogFormatError) -> ReplicaProgress.DigestKind {
    let start = offset
    let value = try read(UInt32.self, from: bytes)
    guard let kind = UInt8(exactly: value).flatMap(ReplicaProgress.DigestKind.init) else {
      throw LogFormatError(.badValue, at: start)
    }
    return kind
  }
}

extension CommitView {
  /// What tells a commit from others under the same name and version, whatever part of its changes travelled: the XXH3-128
  /// of the first 32 bytes of its core, which are origin, version and time.
  package func mark(in bytes: RawSpan, as origin: Identity? = nil) -> Digest {
    var start: [UInt8] = []
    start.append(origin ?? header.origin)
    start.append(bytes.extracting(core.lowerBound + 16..<core.lowerBound + 32))
    return unsafe checksum128(start.span.bytes)
  }
}
