// Messages of every kind with random contents within their limits.

import KVLog
import KVProtocol
import TestSupport

extension SeededGenerator {
  mutating func identity() -> Identity { Identity(high: next() | 1, low: next()) }
  mutating func digest() -> Digest { Digest(high: next(), low: next()) }

  mutating func exceptions() -> [CommitException] {
    (0..<Int.random(in: 0...5, using: &self)).map { _ in
      CommitException(
        version: next(),
        reason: Bool.random(using: &self)
          ? .stale(hubVersion: next()) : .refused(code: UInt16(truncatingIfNeeded: next()), message: "nein"))
    }
  }

  mutating func segment() -> CommitSegment {
    CommitSegment(
      after: next(), through: next(), digest: digest(), records: bytes(0...400),
      changeCount: Int.random(in: 0...9_999, using: &self))
  }

  private mutating func undigested() -> CommitSegment {
    var segment = segment()
    segment.digest = .zero
    return segment
  }

  mutating func message(_ kind: MessageKind) -> Message {
    switch kind {
    case .hello:
      let replica = identity()
      var hello = Hello(
        mode: SessionMode(rawValue: UInt16.random(in: 0...7, using: &self)), replica: replica,
        space: ["notes", "a", "x.y_z-0", ""].randomElement(using: &self)!,
        cursor: Bool.random(using: &self) ? Position(identity: identity(), version: next(), digest: digest()) : nil,
        lastVersion: next(),
        shipped: Position(identity: replica, version: next(), digest: digest()), token: bytes(0...40))
      hello.covered = Coverage(prefixes: (0..<below(4)).map { _ in bytes(0...12) })
      hello.missing = Coverage(prefixes: (0..<below(4)).map { _ in bytes(0...12) }).subtracting(hello.covered)
      hello.wantsDeletions = Bool.random(using: &self)
      if let epoch = hello.cursor?.identity {
        hello.positions = (0..<Int.random(in: 0...3, using: &self)).map { _ in
          Position(identity: epoch, version: next(), digest: digest())
        }
      }
      hello.codecs = UInt16.random(in: 0...3, using: &self)
      return .hello(hello)
    case .welcome:
      let head = Position(identity: identity(), version: next(), digest: digest())
      var welcome = Welcome(
        space: identity(), head: head, lastApplied: next(), appliedDigest: digest(),
        common: Position(identity: head.identity, version: next(), digest: digest()), unconfirmed: exceptions(),
        retentionFloor: next())
      welcome.covered = Coverage(prefixes: (0..<below(4)).map { _ in bytes(0...12) })
      welcome.retentionSeconds = next()
      welcome.backedUp = next()
      welcome.horizon = Horizon(version: next(), digest: digest())
      welcome.confirmed = next()
      return .welcome(welcome)
    case .refuse: return .refuse(Refusal(.gap, version: next(), "étrange \(next())"))
    case .push:
      var push = Push(segment: segment(), cursor: next(), confirmed: next())
      push.pages = UInt32(truncatingIfNeeded: next())
      push.horizon = Horizon(version: next(), digest: digest())
      return .push(push)
    case .acknowledgement:
      var acknowledgement = Acknowledgement(through: next(), exceptions: exceptions(), head: next())
      acknowledgement.backedUp = next()
      return .acknowledgement(acknowledgement)
    case .page:
      let position = Position(identity: identity(), version: next() | 1, digest: digest())
      let keys = Set((0..<below(4)).map { _ in [7] + bytes(0...9) }).sorted { $0.lexicographicallyPrecedes($1) }
      var rows = RowsBuilder()
      for key in keys {
        let value = bytes(0...9)
        rows.append(
          key: key.bytes, value: value.bytes, isDeletion: false,
          RowOrigin(serverVersion: 1, time: HybridTime(rawValue: next()), author: identity()))
      }
      let snapshot = SnapshotPage(
        position: position, applied: next(),
        interval: KeyInterval(from: [7], end: Bool.random(using: &self) ? [8] : nil),
        record: rows.isEmpty ? [] : rows.record(of: position))
      return .page(Page(snapshot: snapshot, head: next()))
    case .feed: return .feed(Feed(segment: segment(), head: next()))
    case .credit: return .credit(Int.random(in: 0...ProtocolLimits.maximumCredit, using: &self))
    case .ping: return .ping(next())
    case .pong: return .pong(next())
    case .restore: return .restore(Restore(segment: undigested(), cursor: next()))
    case .restored:
      let declined = Set((0..<Int.random(in: 0...4, using: &self)).map { _ in next() | 1 }).sorted()
      return .restored(Restored(through: max(next(), declined.last ?? 0), declined: declined, head: next()))
    case .rowsRequest:
      return .rowsRequest(
        RowsRequest(
          after: Bool.random(using: &self) ? bytes(1...30) : nil, maximumBytes: Int.random(in: 0...9_999, using: &self))
      )
    case .rows:
      let rows = (0..<Int.random(in: 0...6, using: &self)).map { _ in RowHash(key: bytes(1...20), hash: digest()) }
      return .rows(Rows(version: next(), digest: digest(), rows: rows, isLast: Bool.random(using: &self)))
    case .previewRequest:
      return .previewRequest(PreviewRequest(after: next(), wantsKeys: Bool.random(using: &self)))
    case .preview:
      var preview = Preview(through: next(), head: next())
      preview.commits = below(1_000)
      preview.changes = below(1_000_000)
      preview.bytes = below(1 << 40)
      preview.segments = below(1_000)
      preview.keys = (0..<below(6)).map { _ in
        Preview.Key(key: bytes(1...20), hash: digest(), isDeletion: Bool.random(using: &self))
      }
      return .preview(preview)
    case .fileEnd: return .fileEnd(FileEnd(frames: next(), digest: digest()))
    case .goodbye: return .goodbye
    case .headRequest: return .headRequest(next())
    case .head: return .head(next(), next())
    }
  }
}

extension Message {
  var payload: [UInt8] {
    let encoded = encoded()
    return encoded.head + encoded.body
  }

  static func decode(_ kind: MessageKind, _ bytes: [UInt8]) throws(ProtocolError) -> Message {
    try unsafe decode(kind, from: bytes.span.bytes)
  }
}

extension FrameReader {
  /// Feeds the bytes in pieces of whatever size the reader asks for; gives the messages and what is left over.
  mutating func consumeAll(_ bytes: [UInt8]) throws(ProtocolError) -> [Message] {
    var messages: [Message] = []
    var offset = 0
    while bytes.count - offset >= neededBytes {
      let range = offset..<offset + neededBytes
      offset = range.upperBound
      let message = try unsafe consume(bytes.span.bytes.extracting(range))
      if let message { messages.append(message) }
    }
    return messages
  }
}
