// The bytes of the formats: golden ones, and the way there and back.

import Foundation
import KVLog
import TestSupport
import Testing

@Suite struct FormatTests {
  private func hex(_ bytes: some Sequence<UInt8>) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }

  @Test("A small segment has exactly the bytes it had when the format was fixed")
  func goldenBytes() throws {
    let files = SimulatedFileSystem()
    let log = try ReplicationLog.create(smallLog(files))
    var block = BlockBuilder(after: log.end)
    let time = HybridTime(milliseconds: 1_700_000_000_000, counter: 5)
    #expect(block.beginCommit(serverVersion: 9, time: time, flags: [.resolution]) == 1)
    block.append(key: Array("alpha".utf8), value: Array("one".utf8))
    block.appendDeletion(key: Array("beta".utf8))
    block.endCommit()
    block.append(.acknowledgement, payload: [0xAA, 0xBB])
    try log.append(&block)
    try log.close()

    let path = "log/00000000000000000001.kvlog"
    #expect(files.paths == [path])
    let bytes = try #require(files[path])
    let golden: [(String, Range<Int>, String)] = [
      ("magic, format, header bytes", 0..<16, "4b5653594e4c4f470100000080000000"),
      ("identity", 16..<32, "000102030405060708090a0b0c0d0e0f"),
      ("first version", 32..<40, "0100000000000000"),
      ("digest before", 40..<56, "72950631827607e2842812cc870dcae2"),
      ("previous segment", 56..<64, "0000000000000000"),
      ("zeros", 64..<120, String(repeating: "00", count: 56)),
      ("header checksum", 120..<128, "59ebeaf074963439"),
      ("block magic, payload length", 128..<136, "4b56424c64000000"),
      ("first and last version", 136..<152, "01000000000000000100000000000000"),
      ("synchronized through", 152..<160, "8000000000000000"),
      ("digest before", 160..<176, "72950631827607e2842812cc870dcae2"),
      ("digest", 176..<192, "b19cd4cea0e5a44de6ce70a3f9267171"),
      ("block checksum", 192..<200, "e9c6601dbf59de7d"),
      ("commit record header", 200..<208, "5200000001000000"),
      ("version, server version", 208..<224, "01000000000000000900000000000000"),
      ("origin", 224..<240, "000102030405060708090a0b0c0d0e0f"),
      ("origin version", 240..<248, "0100000000000000"),
      ("time", 248..<256, "05000068e5cf8b01"),
      ("flags, zero, change count", 256..<264, "0100000002000000"),
      ("put alpha = one", 264..<279, "00050003000000616c7068616f6e65"),
      ("delete beta", 279..<290, "0104000000000062657461"),
      ("acknowledgement", 290..<300, "0200000002000000aabb"),
    ]
    for (name, range, expected) in golden {
      #expect(hex(bytes[range]) == expected, "\(name)")
    }
    #expect(bytes.count == 304, "the block is padded to a multiple of 8")
    #expect(log.end.digest.description == "b19cd4cea0e5a44de6ce70a3f9267171")
  }

  @Test("What a builder writes, the cursors read", arguments: Seeds.all)
  func roundTrip(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    var builder = BlockBuilder(after: .start(of: fixedIdentity))
    for _ in 0..<50 {
      builder.reset(after: builder.lastVersion, digest: builder.digest, origin: fixedIdentity)
      let time = HybridTime(rawValue: random.next())
      let version = builder.beginCommit(serverVersion: 3, time: time, flags: [.reoffer])
      var changes: [(isDeletion: Bool, key: [UInt8], value: [UInt8])] = []
      for _ in 0..<Int.random(in: 0...40, using: &random) {
        let isDeletion = Bool.random(using: &random)
        let key = random.bytes(Int.random(in: 1...511, using: &random))
        let value = isDeletion ? [] : random.bytes(Int.random(in: 0...5000, using: &random))
        if isDeletion { builder.appendDeletion(key: key) } else { builder.append(key: key, value: value) }
        changes.append((isDeletion, key, value))
      }
      #expect(builder.openChangeCount == changes.count)
      #expect(
        builder.openCommitBytes
          == changes.reduce(40) { $0 + ChangeEncoding.byteCount(keyBytes: $1.key.count, valueBytes: $1.value.count) })
      builder.endCommit()
      let bytes = builder.recordBytes
      #expect(bytes.count == builder.byteCount)
      try bytes.lend { bytes in
        var records = RecordCursor(over: bytes)
        let record = try #require(try records.next(in: bytes))
        #expect(record.kind == .commit && record.record == 0..<bytes.byteCount)
        let commit = try CommitView(payload: record.payload, in: bytes)
        #expect(
          commit.header
            == CommitHeader(
              version: version, serverVersion: 3, origin: fixedIdentity, originVersion: version, time: time,
              flags: [.reoffer], changeCount: changes.count))
        var cursor = ChangeCursor(commit)
        for expected in changes {
          let change = try #require(try cursor.next(in: bytes))
          var key: [UInt8] = []
          key.append(bytes.extracting(change.key))
          var value: [UInt8] = []
          value.append(bytes.extracting(change.value))
          #expect(change.isDeletion == expected.isDeletion && key == expected.key && value == expected.value)
        }
        #expect(try cursor.next(in: bytes) == nil)
        #expect(try records.next(in: bytes) == nil)
      }
    }
  }

  @Test("A commit that is taken back leaves no trace", arguments: Seeds.all)
  func cancel(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    var plain = BlockBuilder(after: .start(of: fixedIdentity))
    var other = BlockBuilder(after: .start(of: fixedIdentity))
    for _ in 0..<20 {
      if Bool.random(using: &random) {
        _ = other.beginCommit(time: HybridTime(rawValue: 1))
        other.append(key: random.bytes(5), value: random.bytes(100_000))
        other.cancelCommit()
      }
      let value = random.bytes(30)
      plain.put("key", value)
      other.put("key", value)
    }
    #expect(plain.recordBytes == other.recordBytes)
    #expect(plain.lastVersion == 20 && other.lastVersion == 20)
    #expect(plain.digest == other.digest)
  }

  @Test("A commit keeps its core on every hop, and each log has its own envelope and digest")
  func hop() throws {
    var here = BlockBuilder(after: .start(of: fixedIdentity))
    here.put("first", [])
    here.put("key", [1, 2, 3], time: 77)
    var there = BlockBuilder(after: .start(of: otherIdentity), of: otherIdentity)
    try here.withRecords { bytes in
      var records = RecordCursor(over: bytes)
      _ = try records.next(in: bytes)
      let record = try #require(try records.next(in: bytes))
      let core = try CommitView(payload: record.payload, in: bytes).core
      #expect(there.appendCommit(core: bytes.extracting(core), serverVersion: 42) == 1)
      try there.withRecords { copy in
        var records = RecordCursor(over: copy)
        let record = try #require(try records.next(in: copy))
        let commit = try CommitView(payload: record.payload, in: copy)
        #expect(commit.header.version == 1 && commit.header.serverVersion == 42)
        #expect(commit.header.origin == fixedIdentity && commit.header.originVersion == 2)
        #expect(checksum128(copy.extracting(commit.core)) == checksum128(bytes.extracting(core)))
      }
    }
    #expect(there.digest != here.digest)
  }

  @Test("A record of every kind and a mark to come back to")
  func recordsAndMarks() throws {
    var builder = BlockBuilder(after: .start(of: fixedIdentity))
    builder.put("a", [1])
    let mark = builder.mark
    let bytes = builder.recordBytes
    builder.append(.cursor, payload: [1, 2, 3])
    builder.append(.conflict, payload: [])
    builder.append(.progress, payload: [9])
    builder.put("b", [2])
    let kinds = try builder.withRecords { bytes in
      var kinds: [RecordKind] = []
      var records = RecordCursor(over: bytes)
      while let record = try records.next(in: bytes) { kinds.append(record.kind) }
      return kinds
    }
    #expect(kinds == [.commit, .cursor, .conflict, .progress, .commit])
    builder.rewind(to: mark)
    #expect(builder.recordBytes == bytes && builder.lastVersion == 1)
  }

  @Test("Identities and digests are read from what they print, and order as their bytes do")
  func names() {
    #expect(fixedIdentity.description == "000102030405060708090a0b0c0d0e0f")
    for text in [
      "", "0", "000102030405060708090A0B0C0D0E0F", "000102030405060708090a0b0c0d0e0g",
      "000102030405060708090a0b0c0d0e0f0",
    ] {
      #expect(Identity(text) == nil)
      #expect(Digest(text) == nil)
    }
    var random = SeededGenerator(seed: 1)
    for _ in 0..<1000 {
      let left = Identity(high: UInt64.random(in: 0...3, using: &random), low: random.next())
      let right = Identity(high: UInt64.random(in: 0...3, using: &random), low: random.next())
      #expect((left < right) == (left.description < right.description))
      #expect(Identity(left.description) == left)
      var bytes: [UInt8] = []
      bytes.append(left)
      #expect(hex(bytes) == left.description)
      bytes.lend { #expect($0.loadIdentity(at: 0) == left) }
    }
    #expect(Identity.random() != Identity.random())
  }

  @Test("A time after another is greater, whatever the clock says")
  func time() {
    let now = HybridTime(milliseconds: 1_700_000_000_123)
    #expect(HybridTime.next(after: now, clockMilliseconds: 1_700_000_000_124).counter == 0)
    #expect(HybridTime.next(after: now, clockMilliseconds: 1_700_000_000_123) > now)
    #expect(HybridTime.next(after: now, clockMilliseconds: 5).counter == 1)
    #expect(HybridTime.next(after: HybridTime(rawValue: .max), clockMilliseconds: 5).rawValue == .max)
    #expect(HybridTime(date: now.date) == now)
    #expect(HybridTime(date: Date(timeIntervalSince1970: -5)).rawValue == 0)
    #expect(HybridTime(date: Date(timeIntervalSince1970: 1e30)).milliseconds == 1 << 48 - 1)
  }

  @Test("Progress, exceptions and positions come back from their bytes", arguments: Seeds.all)
  func values(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let exceptions = (0..<Int.random(in: 0...20, using: &random)).map { index in
      CommitException(
        version: random.next(),
        reason: Bool.random(using: &random)
          ? .stale(hubVersion: random.next())
          : .refused(code: UInt16(index), message: String(repeating: "ö", count: index * 10)))
    }
    var progress = ReplicaProgress(
      replica: fixedIdentity, lastApplied: random.next(),
      digest: Digest(high: random.next(), low: random.next()), unconfirmed: exceptions)
    progress.confirmed = random.next()
    progress.horizon = Horizon(version: random.next(), digest: Digest(high: random.next(), low: random.next()))
    let bytes = progress.encoded
    #expect(try bytes.lend { (bytes) throws(LogFormatError) in try ReplicaProgress(decoding: bytes) } == progress)
    for count in 0..<bytes.count {
      #expect(throws: LogFormatError.self) {
        try Array(bytes[..<count]).lend { (bytes) throws(LogFormatError) in try ReplicaProgress(decoding: bytes) }
      }
    }
    let position = LogPosition(
      segment: random.next(), offset: random.next(), version: random.next(), digest: progress.digest)
    #expect(position.encoded.count == LogPosition.encodedByteCount)
    let decoded = try position.encoded.lend { (bytes) throws(LogFormatError) in try LogPosition(decoding: bytes) }
    #expect(decoded == position)
  }

  @Test("A message too long is cut between characters")
  func longMessage() throws {
    let exception = CommitException(
      version: 1, reason: .refused(code: 2, message: String(repeating: "é", count: 2000)))
    var bytes: [UInt8] = []
    exception.encode(to: &bytes)
    let decoded = try bytes.lend { (bytes) throws(LogFormatError) in
      var reader = ByteReader()
      return try CommitException(from: &reader, in: bytes)
    }
    #expect(decoded.reason == .refused(code: 2, message: String(repeating: "é", count: 512)))
  }
}
