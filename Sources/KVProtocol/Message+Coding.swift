// Between a message and the payload of its frames.
//
//     acknowledgement = through u64 | head u64 | backedUp u64 | exceptions
//     exceptions      = count u32 | *(version u64 | reason)                 KVLog's CommitException.swift
//     reason          = 1 u8 | hubVersion u64                               stale
//                     | 2 u8 | code u16 | message (u16 count | UTF-8)       refused
//     credit          = bytes u64
//     ping, pong      = number u64
//     headRequest     = number u64
//     head            = number u64 | version u64
//     goodbye         =
//
// The other payloads are laid out in the files of their types. All integers little-endian, unaligned.
//
// Invariants:
// - Decoding never traps and never allocates in proportion to a count that the bytes present do not bear out.
// - What is decoded from the encoding of a message equals the message.

import KVLog

/// A message ready for framing: the payload is `head`, then `body`.
package struct EncodedMessage: Sendable {
  package let kind: MessageKind
  package let head: [UInt8]
  /// The commit records of a push, a feed, a page or a restore, shared with the message and not copied; empty otherwise.
  package let body: [UInt8]

  package var byteCount: Int { head.count + body.count }
}

extension Message {
  package func encoded() -> EncodedMessage {
    var head: [UInt8] = []
    var body: [UInt8] = []
    switch self {
    case .hello(let hello):
      hello.encode(to: &head)
    case .welcome(let welcome):
      welcome.encode(to: &head)
    case .refuse(let refusal):
      refusal.encode(to: &head)
    case .push(let push):
      push.encodeHead(to: &head)
      body = push.segment.records
    case .acknowledgement(let acknowledgement):
      head.append(littleEndian: acknowledgement.through)
      head.append(littleEndian: acknowledgement.head)
      head.append(littleEndian: acknowledgement.backedUp)
      CommitException.encode(acknowledgement.exceptions, to: &head)
    case .feed(let feed):
      feed.encodeHead(to: &head)
      body = feed.segment.records
    case .page(let page):
      page.encodeHead(to: &head)
      body = page.snapshot.record
    case .restore(let restore):
      restore.encodeHead(to: &head)
      body = restore.segment.records
    case .restored(let restored):
      restored.encode(to: &head)
    case .credit(let bytes):
      head.append(littleEndian: UInt64(bytes))
    case .ping(let number), .pong(let number), .headRequest(let number):
      head.append(littleEndian: number)
    case .rowsRequest(let request):
      request.encode(to: &head)
    case .rows(let rows):
      rows.encode(to: &head)
    case .previewRequest(let request):
      request.encode(to: &head)
    case .preview(let preview):
      preview.encode(to: &head)
    case .fileEnd(let end):
      end.encode(to: &head)
    case .head(let number, let version):
      head.append(littleEndian: number)
      head.append(littleEndian: version)
    case .goodbye:
      break
    }
    return EncodedMessage(kind: kind, head: head, body: body)
  }

  /// The message with this payload.
  package static func decode(_ kind: MessageKind, from bytes: RawSpan) throws(ProtocolError) -> Message {
    let headBytes = kind.headByteCount
    switch kind {
    case .hello:
      let protocols = try Hello.checkProtocols(bytes)
      return try parse(kind) { () throws(LogFormatError) in .hello(try Hello(protocols: protocols, decoding: bytes)) }
    case .push, .feed, .restore:
      guard bytes.byteCount >= headBytes else { throw .malformed(kind, LogFormatError(.cutShort, at: bytes.byteCount)) }
      return try segment(kind, head: bytes, records: bytes.copied(headBytes..<bytes.byteCount))
    default:
      return try parse(kind) { () throws(LogFormatError) in try plain(kind, bytes) }
    }
  }

  /// As `decode(_:from:)`; the records of a push or a feed keep the memory they came in.
  package static func decode(_ kind: MessageKind, assembled bytes: consuming [UInt8]) throws(ProtocolError) -> Message {
    let headBytes = kind.headByteCount
    guard headBytes > 0, bytes.count >= headBytes else {
      return try unsafe decode(kind, from: bytes.span.bytes)
    }
    let head = Array(bytes[..<headBytes])
    bytes.removeSubrange(..<headBytes)
    return try unsafe segment(kind, head: head.span.bytes, records: bytes)
  }

  private static func segment(_ kind: MessageKind, head: RawSpan, records: [UInt8]) throws(ProtocolError) -> Message {
    try parse(kind) { () throws(LogFormatError) in
      switch kind {
      case .push: .push(try Push(head: head, records: records))
      case .feed: .feed(try Feed(head: head, records: records))
      default: .restore(try Restore(head: head, records: records))
      }
    }
  }

  private static func plain(_ kind: MessageKind, _ bytes: RawSpan) throws(LogFormatError) -> Message {
    var reader = ByteReader()
    switch kind {
    case .welcome:
      return .welcome(try Welcome(decoding: bytes))
    case .refuse:
      return .refuse(try Refusal(decoding: bytes))
    case .acknowledgement:
      let through = try reader.read(UInt64.self, from: bytes)
      let head = try reader.read(UInt64.self, from: bytes)
      let backedUp = try reader.read(UInt64.self, from: bytes)
      let exceptions = try CommitException.decodeList(from: &reader, in: bytes)
      try reader.end(of: bytes)
      var acknowledgement = Acknowledgement(through: through, exceptions: exceptions, head: head)
      acknowledgement.backedUp = backedUp
      return .acknowledgement(acknowledgement)
    case .page:
      return .page(try Page(decoding: bytes))
    case .restored:
      return .restored(try Restored(decoding: bytes))
    case .credit:
      let granted = try reader.read(UInt64.self, from: bytes)
      guard granted <= UInt64(ProtocolLimits.maximumCredit) else { throw LogFormatError(.overLimit, at: 0) }
      try reader.end(of: bytes)
      return .credit(Int(granted))
    case .ping, .pong, .headRequest:
      let number = try reader.read(UInt64.self, from: bytes)
      try reader.end(of: bytes)
      return kind == .ping ? .ping(number) : kind == .pong ? .pong(number) : .headRequest(number)
    case .head:
      let number = try reader.read(UInt64.self, from: bytes)
      let version = try reader.read(UInt64.self, from: bytes)
      try reader.end(of: bytes)
      return .head(number, version)
    case .rowsRequest:
      return .rowsRequest(try RowsRequest(decoding: bytes))
    case .rows:
      return .rows(try Rows(decoding: bytes))
    case .previewRequest:
      return .previewRequest(try PreviewRequest(decoding: bytes))
    case .preview:
      return .preview(try Preview(decoding: bytes))
    case .fileEnd:
      return .fileEnd(try FileEnd(decoding: bytes))
    case .goodbye:
      try reader.end(of: bytes)
      return .goodbye
    case .hello, .push, .feed, .restore:
      preconditionFailure("decoded by the caller")
    }
  }

  private static func parse(
    _ kind: MessageKind, _ body: () throws(LogFormatError) -> Message
  ) throws(ProtocolError) -> Message {
    do { return try body() } catch { throw .malformed(kind, error) }
  }
}

extension MessageKind {
  /// What comes before the records in a message that carries commits; 0 for the others.
  fileprivate var headByteCount: Int {
    switch self {
    case .push: Push.headByteCount
    case .feed: Feed.headByteCount
    case .restore: Restore.headByteCount
    default: 0
    }
  }
}

extension RawSpan {
  /// Owned bytes of the range, which lies within the span.
  func copied(_ range: Range<Int>) -> [UInt8] {
    unsafe extracting(range).withUnsafeBytes { unsafe Array($0) }
  }
}
