import KVLog
import KVProtocol
import Testing

/// The bytes of one message of each kind, written down once: a change of the format is a change of this file.
@Suite struct GoldenBytesTests {
  static let replica = Identity(high: 0x0101_0101_0101_0101, low: 0x0101_0101_0101_0101)
  static let epoch = Identity(high: 0x0202_0202_0202_0202, low: 0x0202_0202_0202_0202)
  static let digest = Digest(high: 0x0303_0303_0303_0303, low: 0x0303_0303_0303_0303)
  static let exceptions = [
    CommitException(version: 5, reason: .stale(hubVersion: 6)),
    CommitException(version: 7, reason: .refused(code: 8, message: "no")),
  ]
  static let segment = CommitSegment(after: 1, through: 2, digest: digest, records: [0xAA, 0xBB], changeCount: 4)

  static var hello: Hello {
    var hello = Hello(
      mode: [.push, .pull], replica: replica, space: "notes",
      cursor: Position(identity: epoch, version: 9, digest: digest), lastVersion: 10,
      shipped: Position(identity: replica, version: 8, digest: digest), token: [0xFE])
    hello.cursorSpace = epoch
    hello.positions = [Position(identity: epoch, version: 4, digest: digest)]
    hello.covered = Coverage(prefixes: [[0x61, 0x2F]])
    hello.missing = Coverage(prefixes: [[0xFF]])
    return hello
  }

  static var page: Page {
    let position = Position(identity: epoch, version: 9, digest: digest)
    var rows = RowsBuilder()
    let key: [UInt8] = [0x6B]
    rows.append(
      key: key.bytes, value: key.bytes, isDeletion: false,
      RowOrigin(serverVersion: 4, time: HybridTime(rawValue: 5), author: replica))
    let interval = KeyInterval(from: [0x6B], end: [0x6B, 0x00])
    return Page(
      snapshot: SnapshotPage(position: position, interval: interval, record: rows.record(of: position)), head: 9)
  }

  static var preview: Preview {
    var preview = Preview(through: 9, head: 12)
    preview.commits = 3
    preview.changes = 4
    preview.bytes = 5
    preview.segments = 1
    preview.keys = [Preview.Key(key: [0x6B], hash: digest, isDeletion: true)]
    return preview
  }

  private static var welcome: Welcome {
    var welcome = Welcome(
      space: replica, head: Position(identity: epoch, version: 9, digest: digest), lastApplied: 8,
      appliedDigest: digest,
      common: Position(identity: epoch, version: 2, digest: .zero), unconfirmed: exceptions, retentionFloor: 3)
    welcome.horizon = Horizon(version: 10, digest: digest)
    welcome.confirmed = 5
    return welcome
  }

  private static var push: Push {
    var push = Push(segment: segment, cursor: 9, confirmed: 3)
    push.horizon = Horizon(version: 11, digest: digest)
    return push
  }

  static var messages: [(Message, String)] {
    [
      (
        .hello(hello),
        """
        c0000000 01 00 0000 a6974d18
        4b5653590100010003000000010101010101010101010101010101010202020202020202020202020202020209000000
        00000000030303030303030303030303030303030a00000000000000080000000000000003030303
        030303030303030303030303020202020202020202020202020202020104000000000000000303030303030303030303
        03030303030000100000004000056e6f74657301000200612f0200613001000100ff0000000000000000000000
        0100fe
        """
      ),
      (
        .welcome(welcome),
        """
        e2000000 02 00 0000 98d1f31d
        010000000101010101010101010101010101010102020202020202020202020202020202080000000000000003030303
        030303030303030303030303000000000a0000000000000003030303030303030303030303030303
        0500000000000000
        0200000000000000000000000000000000000000000000000900000000000000
        030303030303030303030303030303030300000000000000000000000000000000000000000000000000100000004000
        0100000000000200
        00000500000000000000010600000000000000070000000000000002080002006e6f
        """
      ),
      (.refuse(Refusal(.gap, version: 4, "gap")), "19000000 03 00 0000 93b9cf8b 0b00000004000000000000000300676170"),
      (
        .push(push),
        """
        5a000000 04 00 0000 2138d29b
        010000000000000002000000000000000303030303030303030303030303030309000000000000000300000000000000
        0b00000000000000030303030303030303030303030303030400000000000000aabb
        """
      ),
      (
        .acknowledgement(Acknowledgement(through: 7, exceptions: exceptions, head: 9)),
        """
        44000000 05 00 0000 e117ebf9
        0700000000000000090000000000000000000000000000000200000005000000000000000106000000000000000700000000000000020800
        02006e6f
        """
      ),
      (
        .feed(Feed(segment: segment, head: 9)),
        """
        3a000000 06 00 0000 2236fa95
        010000000000000002000000000000000303030303030303030303030303030309000000000000000400000000000000
        aabb
        """
      ),
      (.credit(0x01_0000), "10000000 07 00 0000 ac9c5d8f 0000010000000000"),
      (.ping(0x0102_0304_0506_0708), "10000000 08 00 0000 add92f16 0807060504030201"),
      (.pong(1), "10000000 09 00 0000 2791ef02 0100000000000000"),
      (.rowsRequest(RowsRequest(after: [0x6B], maximumBytes: 4_096)), "0f000000 0a 00 0000 2f358062 0010000001006b"),
      (
        .rows(Rows(version: 9, digest: digest, rows: [RowHash(key: [0x6B], hash: digest)], isLast: true)),
        """
        3b000000 0b 00 0000 8a47c222
        090000000000000003030303030303030303030303030303010000000100000003030303030303030303030303030303
        01006b
        """
      ),
      (
        .page(page),
        """
        b8000000 0f 00 0000 f6d2ff60
        090000000000000002020202020202020202020202020202030303030303030303030303030303030000000000000000
        090000000000000001006b02006b006d0000006500000001000000090000000000000000000000000000000202020202
        0202020202020202020202090000000000000005000000000000000800000001000000000100010000006b6b04000000
        0000000005000000000000000000010101010101010101010101010101010100
        """
      ),
      (
        .restore(
          Restore(
            segment: CommitSegment(after: 1, through: 2, digest: .zero, records: [0xAA, 0xBB], changeCount: 4),
            cursor: 9)),
        "2a000000 0d 00 0000 1fe507b2 0100000000000000020000000000000009000000000000000400000000000000aabb"
      ),
      (
        .restored(Restored(through: 2, declined: [2], head: 7)),
        "24000000 0e 00 0000 9b0531ad 02000000000000000700000000000000010000000200000000000000"
      ),
      (.goodbye, "08000000 0c 00 0000 c3661a70"),
      (
        .previewRequest(PreviewRequest(after: 9, wantsKeys: true)),
        "14000000 16 00 0000 a71f46fe 0900000000000000 01000000"
      ),
      (
        .preview(preview),
        """
        4e000000 17 00 0000 5ededaea
        000009000000000000000c00000000000000030000000000000004000000000000000500000000000000010000000100
        0000030303030303030303030303030303030101006b
        """
      ),
      (
        .fileEnd(FileEnd(frames: 2, digest: digest)),
        "20000000 18 00 0000 7c4a7c64 0200000000000000 03030303030303030303030303030303"
      ),
      (.headRequest(2), "10000000 14 00 0000 21029c8e 0200000000000000"),
      (.head(2, 0x0304), "18000000 15 00 0000 0a3a493a 0200000000000000 0403000000000000"),
    ]
  }

  @Test func `the frames of a message are these bytes`() throws {
    for (message, expected) in Self.messages {
      let golden = expected.filter { !$0.isWhitespace }
      #expect(Self.hexadecimal(message.encoded().frames()) == golden, "\(message.kind)")
      var reader = FrameReader(phase: .session)
      #expect((try? reader.consumeAll(Self.bytes(golden))) == [message], "\(message.kind)")
    }
    #expect(Set(Self.messages.map(\.0.kind)) == Set(MessageKind.allCases))
  }

  static func hexadecimal(_ bytes: [UInt8]) -> String {
    let digits = Array("0123456789abcdef")
    return String(bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
  }

  static func bytes(_ hexadecimal: String) -> [UInt8] {
    let digits = hexadecimal.compactMap(\.hexDigitValue)
    return stride(from: 0, to: digits.count - 1, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
  }
}
