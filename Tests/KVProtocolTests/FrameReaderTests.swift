import KVLog
import KVProtocol
import TestSupport
import Testing

@Suite struct FrameReaderTests {
  @Test func `a stream of frames gives the messages in their order, fragmented or not`() throws {
    var random = SeededGenerator()
    for _ in 0..<50 {
      let messages = (0..<20).map { _ in random.message(MessageKind.allCases.randomElement(using: &random)!) }
      var stream: [UInt8] = []
      for message in messages {
        let size = message.kind.mayBeFragmented ? Int.random(in: 1...200, using: &random) : 1 << 20
        stream += message.encoded().frames(of: size)
      }
      var reader = FrameReader(phase: .session)
      #expect(try reader.consumeAll(stream) == messages, "seed \(random.seed)")
      #expect(reader.isBetweenMessages)
      #expect(reader.stagedBytes == 0)
    }
  }

  @Test func `a header that announces too much is refused before its payload is waited for`() throws {
    for (phase, limit) in [
      (FrameReader.Phase.session, ProtocolLimits.maximumFrameBytes), (.handshake, ProtocolLimits.maximumHandshakeBytes),
    ] {
      let kind = MessageKind.hello
      var reader = FrameReader(phase: phase)
      let most = FrameHeader(kind, payloadBytes: limit, hasMore: false, checksum: 0)
      #expect(try reader.consumeAll(most.encoded) == [])
      #expect(reader.neededBytes == limit)
      reader = FrameReader(phase: phase)
      let tooMuch = FrameHeader(kind, payloadBytes: limit + 1, hasMore: false, checksum: 0)
      #expect(throws: ProtocolError.frameTooLarge(bytes: limit + 1, limit: limit)) {
        try reader.consumeAll(tooMuch.encoded)
      }
    }
  }

  @Test func `before the handshake nothing but a hello is read`() throws {
    var random = SeededGenerator()
    for kind in MessageKind.allCases where kind != .hello {
      var reader = FrameReader(phase: .handshake)
      #expect(throws: ProtocolError.self) { try reader.consumeAll(random.message(kind).encoded().frames()) }
    }
    var reader = FrameReader(phase: .handshake)
    let hello = random.message(.hello)
    #expect(try reader.consumeAll(hello.encoded().frames()) == [hello])
  }

  @Test func `any flipped bit of a frame is found out`() {
    var random = SeededGenerator()
    for kind in [MessageKind.push, .acknowledgement, .ping] {
      let frame = random.message(kind).encoded().frames()
      for bit in 0..<frame.count * 8 {
        var damaged = frame
        damaged[bit / 8] ^= 1 << (bit % 8)
        var reader = FrameReader(phase: .session)
        let messages = try? reader.consumeAll(damaged)
        // A flipped length may leave the reader waiting for more; it never gives a message.
        #expect(messages ?? [] == [], "seed \(random.seed), bit \(bit)")
      }
    }
  }

  @Test func `fragments of two messages do not mix`() throws {
    var random = SeededGenerator()
    // Less than the fields around the records: a push without any is of several frames too.
    let push = random.message(.push).encoded().frames(of: 20)
    let firstFrame = Array(push[..<(FrameHeader.byteCount + 20)])
    for kind in MessageKind.allCases where kind != .push {
      var reader = FrameReader(phase: .session)
      #expect(try reader.consumeAll(firstFrame) == [], "seed \(random.seed)")
      #expect(throws: ProtocolError.interleavedFragments, "seed \(random.seed)") {
        try reader.consumeAll(random.message(kind).encoded().frames())
      }
    }
  }

  @Test func `what does not fit a message's limit is refused, and memory follows what arrived`() throws {
    let payload = [UInt8](repeating: 7, count: 1_000)
    let frame = unsafe FrameHeader(.push, hasMore: true, payload: payload.span.bytes).encoded + payload
    var reader = FrameReader(phase: .session, maximumMessageBytes: 10_500)
    for count in 1...10 {
      #expect(try reader.consumeAll(frame) == [])
      #expect(reader.stagedBytes == count * 1_000)
    }
    #expect(throws: ProtocolError.messageTooLarge(limit: 10_500)) { try reader.consumeAll(frame) }
  }

  @Test func `garbage never traps and is refused within its first header or checksum`() {
    var random = SeededGenerator()
    for _ in 0..<5_000 {
      var reader = FrameReader(phase: Bool.random(using: &random) ? .handshake : .session)
      let messages = try? reader.consumeAll(random.bytes(0...200))
      #expect(messages ?? [] == [], "seed \(random.seed)")
    }
  }
}
