// A commit that the hub decided against, and why.
//
//     exceptions = count u32 | *exception
//     exception  = version u64 | 1 u8 | hubVersion u64                                   stale
//                | version u64 | 2 u8 | code u16 | length u16 | message (UTF-8)          refused

/// The hub consumed a commit and did not apply it.
package struct CommitException: Hashable, Sendable {
  package enum Reason: Hashable, Sendable {
    /// Made without having seen what the hub has at `hubVersion`.
    case stale(hubVersion: Version)
    /// Not acceptable; `message` says why and what to do.
    case refused(code: UInt16, message: String)
  }

  /// The commit's version on the replica.
  package var version: Version
  package var reason: Reason

  package init(version: Version, reason: Reason) {
    self.version = version
    self.reason = reason
  }
}

/// What is wrong with a commit in a push, decided before the push is admitted.
package struct CommitRefusal: Hashable, Sendable {
  /// The commit's version on the replica.
  package var version: Version
  package var code: UInt16
  package var message: String

  package init(version: Version, code: UInt16, message: String) {
    self.version = version
    self.code = code
    self.message = message
  }

  // Codes of kvsync's own, 1 to 99; they never change their meaning.

  /// The commit is larger than the hub takes.
  package static let commitTooLarge: UInt16 = 1
  /// A key is longer than the hub takes.
  package static let keyTooLong: UInt16 = 2
  /// A value is longer than the hub takes.
  package static let valueTooLong: UInt16 = 3
}

extension CommitException {
  package func encode(to bytes: inout [UInt8]) {
    bytes.append(littleEndian: version)
    switch reason {
    case .stale(let hubVersion):
      bytes.append(1)
      bytes.append(littleEndian: hubVersion)
    case .refused(let code, let message):
      bytes.append(2)
      bytes.append(littleEndian: code)
      let text = message.prefix(bytes: LogLimits.maximumMessageBytes)
      bytes.append(littleEndian: UInt16(text.utf8.count))
      bytes.append(contentsOf: text.utf8)
    }
  }

  package init(from reader: inout ByteReader, in bytes: RawSpan) throws(LogFormatError) {
    version = try reader.read(UInt64.self, from: bytes)
    let offset = reader.offset
    switch try reader.read(UInt8.self, from: bytes) {
    case 1:
      reason = .stale(hubVersion: try reader.read(UInt64.self, from: bytes))
    case 2:
      let code = try reader.read(UInt16.self, from: bytes)
      reason = .refused(
        code: code, message: try reader.text(UInt16.self, atMost: LogLimits.maximumMessageBytes, from: bytes))
    default:
      throw LogFormatError(.badValue, at: offset)
    }
  }

  package static func encode(_ exceptions: [CommitException], to bytes: inout [UInt8]) {
    bytes.append(littleEndian: UInt32(exceptions.count))
    for exception in exceptions { exception.encode(to: &bytes) }
  }

  package static func decodeList(
    from reader: inout ByteReader, in bytes: RawSpan
  ) throws(LogFormatError) -> [CommitException] {
    let offset = reader.offset
    let count = Int(try reader.read(UInt32.self, from: bytes))
    // The smallest exception has 13 bytes: a count that cannot fit allocates nothing.
    guard count <= LogLimits.maximumExceptions, count <= reader.remaining(in: bytes) / 13 else {
      throw LogFormatError(.overLimit, at: offset)
    }
    var exceptions: [CommitException] = []
    exceptions.reserveCapacity(count)
    for _ in 0..<count { exceptions.append(try CommitException(from: &reader, in: bytes)) }
    return exceptions
  }
}

extension String {
  /// The longest prefix of whole characters with at most so many bytes.
  package func prefix(bytes limit: Int) -> Substring {
    guard utf8.count > limit else { return self[...] }
    var end = startIndex
    while true {
      let next = index(after: end)
      if utf8.distance(from: startIndex, to: next) > limit { return self[..<end] }
      end = next
    }
  }
}
