import KVLog
import KVProtocol
import TestSupport
import Testing

@Suite struct MessageCodingTests {
  @Test(arguments: MessageKind.allCases)
  func `what is decoded from the encoding of a message equals the message`(kind: MessageKind) throws {
    var random = SeededGenerator()
    for _ in 0..<200 {
      let message = random.message(kind)
      #expect(try Message.decode(kind, message.payload) == message, "seed \(random.seed)")
      #expect(try Message.decode(kind, assembled: message.payload) == message, "seed \(random.seed)")
      #expect(message.kind == kind)
      if message.chargedBytes > 0 { #expect(message.chargedBytes == message.payload.count) }
    }
  }

  @Test(arguments: MessageKind.allCases)
  func `a payload cut anywhere is an error or, where only records are cut, another message`(kind: MessageKind) {
    var random = SeededGenerator()
    for _ in 0..<20 {
      let message = random.message(kind)
      let payload = message.payload
      for count in 0..<payload.count {
        let decoded = try? Message.decode(kind, Array(payload[..<count]))
        let mayDecode =
          (kind == .push && count >= Push.headByteCount) || (kind == .feed && count >= Feed.headByteCount)
          || (kind == .restore && count >= Restore.headByteCount)
        #expect((decoded != nil) == mayDecode, "seed \(random.seed), cut at \(count)")
        #expect(decoded != message)
      }
    }
  }

  @Test(arguments: MessageKind.allCases)
  func `damaged payloads never trap`(kind: MessageKind) {
    var random = SeededGenerator()
    for _ in 0..<2_000 {
      var payload = random.message(kind).payload
      for _ in 0..<Int.random(in: 1...4, using: &random) where !payload.isEmpty {
        payload[Int.random(in: 0..<payload.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      if Bool.random(using: &random) { payload += random.bytes(0...20) }
      _ = try? Message.decode(kind, payload)
      _ = try? Message.decode(kind, random.bytes(0...300))
    }
  }

  @Test func `a count that the bytes do not bear out is refused before anything is allocated for it`() {
    var random = SeededGenerator()
    for kind in [MessageKind.rows, .acknowledgement, .welcome] {
      let empty: Message =
        switch kind {
        case .rows: .rows(Rows(version: 1, digest: .zero, rows: [], isLast: true))
        case .acknowledgement: .acknowledgement(Acknowledgement(through: 1, exceptions: [], head: 1))
        default:
          .welcome(
            Welcome(
              space: random.identity(), head: .start(of: random.identity()), lastApplied: 0, appliedDigest: .zero,
              common: .start(of: .zero),
              unconfirmed: [], retentionFloor: 0))
        }
      var payload = empty.payload
      // The count is the last field of each.
      payload.replaceSubrange(payload.count - 4..<payload.count, with: [0xFF, 0xFF, 0xFF, 0xFF])
      #expect(throws: ProtocolError.self) { try Message.decode(kind, payload) }
    }
  }

  @Test func `a welcome names a space and an epoch, and what is declined is in order and was brought back`() {
    var random = SeededGenerator()
    for (space, epoch) in [(Identity.zero, random.identity()), (random.identity(), .zero)] {
      let welcome = Welcome(
        space: space, head: .start(of: epoch), lastApplied: 0, appliedDigest: .zero, common: .start(of: epoch),
        unconfirmed: [], retentionFloor: 0)
      #expect(throws: ProtocolError.self) { try Message.decode(.welcome, Message.welcome(welcome).payload) }
    }
    for declined: [Version] in [[0], [2, 2], [3, 2], [4, 10]] {
      let restored = Message.restored(Restored(through: 9, declined: declined, head: 4))
      #expect(throws: ProtocolError.self, "\(declined)") { try Message.decode(.restored, restored.payload) }
    }
  }

  @Test func `a hello or welcome of a newer protocol may say more at its end, no other message may`() throws {
    var random = SeededGenerator()
    for kind in MessageKind.allCases where ![.push, .feed, .restore].contains(kind) {
      let message = random.message(kind)
      let decoded = try? Message.decode(kind, message.payload + [1, 2, 3])
      #expect(decoded == (kind == .hello || kind == .welcome ? message : nil))
    }
  }

  @Test func `without a protocol in common the hello says which ones were offered, whatever follows them`() {
    #expect(throws: ProtocolError.unsupportedProtocol(offered: 7...9)) {
      try Message.decode(.hello, [0x4B, 0x56, 0x53, 0x59, 7, 0, 9, 0, 1, 2, 3])
    }
    #expect(throws: ProtocolError.notKVSync) { try Message.decode(.hello, Array("GET / HTTP/1.1\r\n".utf8)) }
    #expect(throws: ProtocolError.notKVSync) { try Message.decode(.hello, []) }
  }

  @Test(arguments: [
    ("notes", true), ("a", true), ("0.9_x-y", true), (String(repeating: "a", count: 64), true),
    ("", false), (".hidden", false), ("..", false), ("a/b", false), ("Notes", false), ("ä", false), ("a b", false),
    (String(repeating: "a", count: 65), false),
  ])
  func `a space has a name that is a directory's name everywhere`(name: String, isValid: Bool) {
    #expect(SpaceName.isValid(name) == isValid)
  }
}
