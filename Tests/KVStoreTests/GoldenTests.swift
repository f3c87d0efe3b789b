// The bytes of what the store keeps besides commits, written down once: the records of the log, a row, the counters and
// the manifest. A change of a format is a change of this file, and of the format's number.

import KVLog
import TestSupport
import Testing

@testable import KVStore

@Suite struct GoldenTests {
  static let store = Identity(high: 0x0001_0203_0405_0607, low: 0x0809_0A0B_0C0D_0E0F)
  static let other = Identity(high: 0x1011_1213_1415_1617, low: 0x1819_1A1B_1C1D_1E1F)
  static let epoch = Identity(high: 0x2021_2223_2425_2627, low: 0x2829_2A2B_2C2D_2E2F)
  static let digest = Digest(high: 0x3031_3233_3435_3637, low: 0x3839_3A3B_3C3D_3E3F)
  static let time = HybridTime(milliseconds: 1_700_000_000_000, counter: 5)

  private func hex(_ bytes: some Sequence<UInt8>) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }

  /// Holds the bytes against named pieces of hexadecimal digits that follow each other.
  private func expect(_ bytes: [UInt8], _ pieces: [(name: String, digits: String)]) {
    var rest = bytes[...]
    for (name, digits) in pieces {
      #expect(hex(rest.prefix(digits.utf8.count / 2)) == digits, "\(name)")
      rest = rest.dropFirst(digits.utf8.count / 2)
    }
    #expect(rest.isEmpty, "nothing follows the last field")
  }

  private func header(version: Version, serverVersion: Version, origin: Identity) -> CommitHeader {
    CommitHeader(
      version: version, serverVersion: serverVersion, origin: origin, originVersion: 3, time: Self.time, flags: [],
      changeCount: 1)
  }

  @Test("Each kind of record has the number it had when the format was fixed")
  func kinds() {
    #expect([RecordKind.commit, .acknowledgement, .cursor, .conflict, .progress].map(\.rawValue) == [1, 2, 3, 4, 5])
    #expect([RecordKind.incarnation, .rollback, .restored].map(\.rawValue) == [6, 7, 8])
    #expect([RecordKind.adoption, .succession, .adopted].map(\.rawValue) == [14, 15, 16])
    #expect(RecordKind.contact.rawValue == 17)
    #expect([RecordKind.parked, .unparked, .decision, .pruning].map(\.rawValue) == [10, 11, 12, 13])
  }

  @Test("An acknowledgement has exactly the bytes it had when the format was fixed")
  func acknowledgement() throws {
    let bytes = AcknowledgementRecord(
      through: 1, digest: Self.digest, changes: 2, bytes: 0x0304, epoch: Self.epoch, holdUntil: 5, head: 6
    ).encoded()
    expect(
      bytes,
      [
        ("through", "0100000000000000"), ("digest", "303132333435363738393a3b3c3d3e3f"),
        ("changes", "0200000000000000"), ("bytes", "0403000000000000"),
        ("epoch", "202122232425262728292a2b2c2d2e2f"), ("holdUntil", "0500000000000000"),
        ("head", "0600000000000000"),
      ])
    let read = try AcknowledgementRecord(decoding: bytes.bytes)
    #expect(read.encoded() == bytes)
  }

  @Test("An adoption has exactly the bytes it had when the format was fixed")
  func adoption() throws {
    let record = AdoptionRecord(
      space: Self.other, head: Position(identity: Self.epoch, version: 9, digest: Self.digest))
    expect(
      record.encoded(),
      [
        ("space", "101112131415161718191a1b1c1d1e1f"), ("epoch", "202122232425262728292a2b2c2d2e2f"),
        ("version", "0900000000000000"), ("digest", "303132333435363738393a3b3c3d3e3f"),
      ])
    let decoded = try AdoptionRecord(decoding: record.encoded().bytes)
    #expect(decoded.space == record.space && decoded.head == record.head)
    let cut = Array(record.encoded().dropLast())
    #expect(throws: LogFormatError.self) { _ = try AdoptionRecord(decoding: cut.bytes) }
  }

  @Test("A succession has exactly the bytes it had when the format was fixed")
  func succession() throws {
    let record = SuccessionRecord([.init(version: 1, successor: 0x0203), .init(version: 4, successor: 5)])
    expect(
      record.encoded(),
      [
        ("version", "0100000000000000"), ("successor", "0302000000000000"), ("version", "0400000000000000"),
        ("successor", "0500000000000000"),
      ])
    #expect(try SuccessionRecord(decoding: record.encoded().bytes).steps == record.steps)
    let key = try #require(record.steps.first).key
    expect(
      key, [("prefix", "737563636573736f722f"), ("version", "0000000000000001"), ("successor", "0000000000000203")])
    #expect(SuccessionRecord.Step(key: key.bytes) == record.steps.first)
  }

  @Test("A contact has exactly the bytes it had when the format was fixed")
  func contact() throws {
    let contact = HubContact(levelTime: 0x0102, retentionSeconds: 3, backedUp: 4)
    expect(
      contact.encoded(),
      [
        ("levelTime", "0201000000000000"), ("retentionSeconds", "0300000000000000"),
        ("backedUp", "0400000000000000"),
      ])
    #expect(try HubContact(decoding: contact.encoded().bytes) == contact)
    #expect(throws: LogFormatError.self) { _ = try HubContact(decoding: Array(contact.encoded().dropLast()).bytes) }
    #expect(throws: LogFormatError.self) { _ = try HubContact(decoding: (contact.encoded() + [0]).bytes) }
  }

  @Test("A cursor has exactly the bytes it had when the format was fixed")
  func cursor() throws {
    let position = Position(identity: Self.epoch, version: 9, digest: Self.digest)
    let bytes = CursorRecord(position).encoded()
    expect(
      bytes,
      [
        ("epoch", "202122232425262728292a2b2c2d2e2f"), ("version", "0900000000000000"),
        ("digest", "303132333435363738393a3b3c3d3e3f"),
      ])
    #expect(try CursorRecord(decoding: bytes.bytes).position == position)
  }

  @Test("A conflict has exactly the bytes it had when the format was fixed, and so has its name in the journal")
  func conflict() throws {
    let local = Row(header(version: 6, serverVersion: 0, origin: Self.store), isTombstone: true)
    let (key, value) = (Array("alpha".utf8), Array("one".utf8))
    let change: [UInt8] = [0, 5, 0, 3, 0, 0, 0] + key + value
    var cursor = ChangeCursor(openChanges: 0..<change.count, count: 1)
    let view = try #require(try cursor.next(in: change.bytes))
    var contest = Contest(
      view, of: header(version: 0x0107, serverVersion: 8, origin: Self.other), isEarlier: false, in: change.bytes,
      local: local, localValue: [])
    contest.outcome = .unresolved
    var record = ConflictRecord(contest, ordinal: 1, found: Self.time)
    let head: [(String, String)] = [
      ("sides", "01"), ("key length", "0500"), ("commitVersion", "0701000000000000"),
      ("voidThrough", "0600000000000000"), ("localVersion", "0600000000000000"), ("localTime", "05000068e5cf8b01"),
      ("serverVersion", "0800000000000000"), ("remoteTime", "05000068e5cf8b01"),
      ("remoteOrigin", "101112131415161718191a1b1c1d1e1f"), ("foundTime", "05000068e5cf8b01"),
    ]
    expect(
      record.encoded(),
      [("ordinal", "01000000"), ("outcome", "04")] + head + [
        ("decidedVersion", "0000000000000000"), ("decision", "00000000"), ("losing length", "00000000"),
        ("key", "616c706861"), ("remote value", "6f6e65"),
      ])
    #expect(try ConflictRecord(decoding: record.encoded().bytes).encoded() == record.encoded())
    #expect(hex(record.identifier) == "000000000000010700000001", "big-endian, so that LMDB orders by version")
    (record.decision, record.isReverted, record.decidedVersion) = (.deletion, true, 9)
    let decided = DecisionRecord(record).encoded()
    expect(
      decided,
      [("ordinal", "01000000"), ("outcome", "04")] + head + [
        ("decidedVersion", "0900000000000000"), ("decision", "84000000"), ("losing length", "00000000"),
        ("key", "616c706861"), ("remote value", "6f6e65"),
      ])
    #expect(try DecisionRecord(decoding: decided.bytes).encoded() == decided)
    contest.outcome = .localWon
    let lost = ConflictRecord(contest, ordinal: 1, found: Self.time).encoded()
    expect(
      lost,
      [("ordinal", "01000000"), ("outcome", "02")] + head + [
        ("decidedVersion", "0000000000000000"), ("decision", "00000000"), ("losing length", "03000000"),
        ("key", "616c706861"), ("losing value", "6f6e65"),
      ])
    let codes = [ConflictRecord.Outcome.identical, .remoteWon, .localWon, .merged, .unresolved].map(\.rawValue)
    #expect(codes == [0, 1, 2, 3, 4])
    let decisions = [ConflictRecord.Decision.none, .local, .remote, .value, .deletion].map(\.rawValue)
    #expect(decisions == [0, 1, 2, 3, 4])
  }

  @Test("What leaves the journal has exactly the bytes it had when the format was fixed")
  func pruning() throws {
    var record = PruningRecord(floor: Conflict.ID(version: 5, ordinal: 6))
    (record.since, record.bytes) = (Self.time, 7)
    record.entries = [Conflict.ID(version: 1, ordinal: 2), Conflict.ID(version: 3, ordinal: 4)]
    let bytes = record.encoded()
    expect(
      bytes,
      [
        ("floor", "0500000000000000" + "06000000"), ("count", "02000000"), ("since", "05000068e5cf8b01"),
        ("bytes", "0700000000000000"), ("first", "0100000000000000" + "02000000"),
        ("second", "0300000000000000" + "04000000"),
      ])
    #expect(try PruningRecord(decoding: bytes.bytes).encoded() == bytes)
    #expect(throws: LogFormatError.self) { try PruningRecord(decoding: Array(bytes.dropLast(12)).bytes) }
  }

  @Test("A parked commit, and the end of its parking, have exactly the bytes they had when the format was fixed")
  func parked() throws {
    var commit: [UInt8] = []
    let change: [UInt8] = [0, 1, 0, 1, 0, 0, 0, 0x6B, 0x76]
    commit.append(
      commit: header(version: 6, serverVersion: 0, origin: Self.store), changes: [0..<change.count], in: change.bytes)
    let record = try ParkedRecord(version: 6, time: Self.time, code: 100, reason: "no", record: commit)
    let bytes = record.encoded()
    expect(
      bytes,
      [
        ("version", "0600000000000000"), ("time", "05000068e5cf8b01"), ("code", "6400"), ("reason length", "0200"),
        ("zero", "00000000"), ("reason", "6e6f"), ("commit", hex(commit.dropFirst(8))),
      ])
    #expect(try ParkedRecord(decoding: bytes.bytes).encoded() == bytes)
    #expect(hex(record.identifier) == "0000000000000006", "big-endian, so that LMDB orders by version")
    #expect(record.payloadBytes == 2)
    let end = UnparkedRecord(version: 6, bytes: 2, fate: .dropped).encoded()
    expect(
      end, [("version", "0600000000000000"), ("bytes", "0200000000000000"), ("fate", "02"), ("zero", "00000000000000")])
    #expect(try UnparkedRecord(decoding: end.bytes).encoded() == end)
  }

  @Test("What a hub remembers of a replica has exactly the bytes it had when the format was fixed")
  func progress() throws {
    var progress = ReplicaProgress(
      replica: Self.other, lastApplied: 4, digest: Self.digest,
      unconfirmed: [
        CommitException(version: 2, reason: .stale(hubVersion: 7)),
        CommitException(version: 3, reason: .refused(code: 8, message: "no")),
      ])
    progress.horizon = Horizon(version: 9, digest: Self.digest)
    progress.confirmed = 1
    let bytes = progress.encoded
    expect(
      bytes,
      [
        ("replica", "101112131415161718191a1b1c1d1e1f"),
        ("lastApplied", "0400000000000000"), ("digest", "303132333435363738393a3b3c3d3e3f"),
        ("digestKind", "00000000"), ("horizon", "0900000000000000"),
        ("horizonDigest", "303132333435363738393a3b3c3d3e3f"), ("confirmed", "0100000000000000"),
        ("exceptions", "02000000"),
        ("stale", "0200000000000000" + "01" + "0700000000000000"),
        ("refused", "0300000000000000" + "02" + "0800" + "0200" + "6e6f"),
      ])
    #expect(try ReplicaProgress(decoding: bytes.bytes) == progress)
    #expect(
      hex(Tables.progress(of: Self.other)) == "70726f67726573732f101112131415161718191a1b1c1d1e1f",
      "\"progress/\" and the replica")
  }

  private func encoded(_ row: Row, value: [UInt8]) -> [UInt8] {
    var bytes = [UInt8](repeating: 0xEE, count: row.byteCount(valueBytes: value.count, home: Self.store))
    var elements = bytes.mutableSpan
    var target = unsafe elements.mutableBytes
    row.write(value: value.bytes, key: Self.key.bytes, home: Self.store, into: &target)
    return bytes
  }

  /// Reading the row, or its value after it, fails.
  private func expectDamage(_ bytes: [UInt8]) {
    #expect(throws: StoreError.self) {
      _ = try Row(bytes.bytes, key: Self.key.bytes, home: Self.store)
      _ = try Row.value(bytes.bytes, key: Self.key.bytes)
    }
    #expect(throws: StoreError.self) {
      if try Row.liveValue(bytes.bytes, key: Self.key.bytes) == nil { throw StoreError(.corrupt, "a tombstone") }
    }
  }

  static let key = Array("alpha".utf8)

  @Test("A row of another store has exactly the bytes it had when the format was fixed", arguments: [false, true])
  func foreignRow(isTombstone: Bool) throws {
    let row = Row(header(version: 0x0102, serverVersion: 8, origin: Self.other), isTombstone: isTombstone)
    let value = isTombstone ? [] : Array("one".utf8)
    let bytes = encoded(row, value: value)
    expect(
      bytes,
      [
        ("checksum", isTombstone ? "82e0bc4d" : "e01a7dc2"), ("shape", isTombstone ? "27" : "26"), ("version", "0201"),
        ("serverVersion", "08"), ("time", "05000068e5cf8b01"), ("origin", "101112131415161718191a1b1c1d1e1f"),
        ("value", hex(value)),
      ])
    #expect(try Row(bytes.bytes, key: Self.key.bytes, home: Self.store) == row)
  }

  @Test("A row of the store's own has exactly the bytes it had when the format was fixed")
  func ownRow() throws {
    let row = Row(header(version: 6, serverVersion: 0, origin: Self.store), isTombstone: false)
    let bytes = encoded(row, value: Array("one".utf8))
    expect(
      bytes,
      [("checksum", "79752b40"), ("shape", "00"), ("version", "06"), ("time", "05000068e5cf8b01"), ("value", "6f6e65")])
    #expect(try Row(bytes.bytes, key: Self.key.bytes, home: Self.store) == row)
  }

  @Test("A row of a long value has exactly the bytes it had when the format was fixed")
  func longRow() throws {
    let row = Row(header(version: 6, serverVersion: 0, origin: Self.store), isTombstone: false)
    let value = [UInt8](repeating: 0x61, count: 1_025)
    expect(
      encoded(row, value: value),
      [
        ("checksum", "de17141b"), ("shape", "00"), ("version", "06"), ("time", "05000068e5cf8b01"),
        ("checksum of the value", "eaa18dfb"), ("value", hex(value)),
      ])
  }

  @Test("A row says what it was made of, whatever its versions take, and no changed byte of it or its key goes unseen")
  func rowsRoundTrip() throws {
    var random = SeededGenerator()
    for _ in 0..<500 {
      let versions = (0..<2).map { _ in random.next() >> UInt64(random.below(64)) }
      let origin = random.chance(50) ? Self.store : Self.other
      let row = Row(
        header(version: versions[0], serverVersion: random.chance(30) ? 0 : versions[1], origin: origin),
        isTombstone: random.chance(20))
      let value = row.isTombstone ? [] : random.chance(70) ? random.bytes(0...300) : random.bytes(1_000...1_050)
      var bytes = encoded(row, value: value)
      #expect(try Row(bytes.bytes, key: Self.key.bytes, home: Self.store) == row)
      #expect(try Row.value(bytes.bytes, key: Self.key.bytes).copied() == value)
      do {
        let live = try Row.liveValue(bytes.bytes, key: Self.key.bytes)
        #expect(row.isTombstone ? live == nil : live?.isEqual(to: value.bytes) == true)
      }
      #expect(throws: StoreError.self) { try Row.isLive(bytes.bytes, key: Array("beta".utf8).bytes) }
      if value.count > 1_024 { expectDamage(Array(bytes.dropLast(value.count))) }
      bytes[random.below(bytes.count)] ^= 1 << UInt8(random.below(8))
      expectDamage(bytes)
      bytes.removeLast(random.below(bytes.count) + 1)
      expectDamage(bytes)
    }
  }

  @Test("The counters have exactly the bytes they had when the format was fixed")
  func state() throws {
    var state = StoreState(start: Self.store)
    state.position = LogPosition(segment: 1, offset: 2, version: 3, digest: Self.digest)
    state.localChanges = 6
    state.localBytes = 7
    state.acknowledgedChanges = 4
    state.acknowledgedBytes = 5
    state.acknowledged = 8
    state.shipped = 9
    state.shippedDigest = Digest(high: 10, low: 11)
    state.hubEpoch = Self.epoch
    state.cursor = 12
    state.cursorDigest = Digest(high: 13, low: 14)
    state.received = 15
    state.receivedPart = 16
    state.holdUntil = 17
    state.voidThrough = 18
    state.conflicts = 19
    state.unresolvedConflicts = 20
    state.parkedCommits = 22
    state.parkedBytes = 23
    state.journal.entries = 24
    state.journal.bytes = 25
    state.journal.floor = Conflict.ID(version: 26, ordinal: 27)
    state.journal.since = HybridTime(rawValue: 28)
    state.lastTime = Self.time
    state.soleAuthor = Self.other
    state.soleAuthorSince = 21
    state.restoredThrough = 22
    state.restoreThrough = 23
    state.restoredBy = 25
    state.lowestRollback = 24
    state.incarnation = Self.epoch
    state.lineage = [.init(incarnation: Self.store, through: 25, until: 26)]
    state.hubPositions.add(11, Self.digest)
    state.coverageMarks.add(hub: 26, local: 27)
    state.hubSpace = Self.other
    state.lastSuccessor = 22
    state.formerThrough = 23
    state.isAdopting = true
    state.ownThrough = 24
    state.decidedBy = 28
    state.contact = HubContact(levelTime: 29, retentionSeconds: 30, backedUp: 31)
    let bytes = state.encoded()
    expect(
      bytes,
      [
        ("position: segment", "0100000000000000"), ("position: offset", "0200000000000000"),
        ("position: version", "0300000000000000"), ("position: digest", "303132333435363738393a3b3c3d3e3f"),
        ("localChanges", "0600000000000000"), ("localBytes", "0700000000000000"),
        ("acknowledgedChanges", "0400000000000000"), ("acknowledgedBytes", "0500000000000000"),
        ("acknowledged", "0800000000000000"), ("shipped", "0900000000000000"),
        ("shippedDigest", "000000000000000a000000000000000b"), ("hubEpoch", "202122232425262728292a2b2c2d2e2f"),
        ("cursor", "0c00000000000000"), ("cursorDigest", "000000000000000d000000000000000e"),
        ("received", "0f00000000000000"), ("receivedPart", "1000000000000000"), ("holdUntil", "1100000000000000"),
        ("voidThrough", "1200000000000000"), ("conflicts", "1300000000000000"),
        ("unresolvedConflicts", "1400000000000000"), ("parkedCommits", "1600000000000000"),
        ("parkedBytes", "1700000000000000"), ("journal: entries", "1800000000000000"),
        ("journal: bytes", "1900000000000000"), ("journal: floor", "1a00000000000000" + "1b00000000000000"),
        ("journal: since", "1c00000000000000"), ("lastTime", "05000068e5cf8b01"),
        ("soleAuthor", "101112131415161718191a1b1c1d1e1f"), ("soleAuthorSince", "1500000000000000"),
        ("restoredThrough", "1600000000000000"), ("restoreThrough", "1700000000000000"),
        ("restoredBy", "1900000000000000"),
        ("lowestRollback", "1800000000000000"), ("incarnation", "202122232425262728292a2b2c2d2e2f"),
        ("former", "0100"), ("former: incarnation", "000102030405060708090a0b0c0d0e0f"),
        ("former: through", "1900000000000000"), ("former: until", "1a00000000000000"), ("positions", "1800"),
        ("position: version", "0b00000000000000"), ("position: digest", "303132333435363738393a3b3c3d3e3f"),
        ("hubSpace", "101112131415161718191a1b1c1d1e1f"),
        ("lastSuccessor", "1600000000000000"), ("formerThrough", "1700000000000000"),
        ("isAdopting", "0100000000000000"), ("ownThrough", "1800000000000000"),
        ("decidedBy", "1c00000000000000"),
        ("contact: levelTime", "1d00000000000000"), ("contact: retentionSeconds", "1e00000000000000"),
        ("contact: backedUp", "1f00000000000000"),
        ("marks", "1000"), ("mark", "1a00000000000000" + "1b00000000000000"), ("isHeldForLoad", "00"),
        ("everything is wanted", "010000"),
        ("coverage", "0000"), ("seen", "0000"), ("seenThrough", "0000000000000000"), ("met", "0000"),
        ("left", "0000"), ("leftThrough", "0000000000000000"),
      ])
    #expect(try StoreState(decoding: bytes.bytes) == state)
  }

  @Test("The manifest reads as it did when the format was fixed")
  func manifest() throws {
    let manifest = StoreManifest(identity: Self.store)
    let text = """
      kvsync store
      format 1
      identity 000102030405060708090a0b0c0d0e0f
      checksum ec328b0807ad59df

      """
    #expect(manifest.encoded() == text)
    #expect(try StoreManifest.decode(text, path: "") == manifest)
  }

  @Test("The manifest of a backup reads as it did when the format was fixed")
  func backupManifest() throws {
    let manifest = StoreManifest(identity: Self.store, backup: 7)
    let text = manifest.encoded()
    #expect(
      text.hasPrefix(
        """
        kvsync store
        format 1
        identity 000102030405060708090a0b0c0d0e0f
        backup 7
        checksum\u{20}
        """))
    #expect(try StoreManifest.decode(text, path: "") == manifest)
  }

  @Test("The checksum of an entry covers its key, and nothing else passes")
  func sealed() throws {
    let (key, payload) = (Array("counters".utf8), Array("one".utf8))
    var entry = payload
    entry.append(littleEndian: Sealed.checksum(payload.bytes, key: key.bytes))
    #expect(try Sealed.payloadBytes(entry.bytes, key: key.bytes, path: "") == 3)
    #expect(throws: StoreError.self) { try Sealed.payloadBytes(entry.bytes, key: Array("keys".utf8).bytes, path: "") }
    for place in entry.indices {
      var damaged = entry
      damaged[place] ^= 1
      #expect(throws: StoreError.self) { try Sealed.payloadBytes(damaged.bytes, key: key.bytes, path: "") }
    }
    #expect(throws: StoreError.self) { try Sealed.payloadBytes([1, 2].bytes, key: key.bytes, path: "") }
  }
}
