// What a store knows about itself besides its rows: counters, cursors and the place in the log they belong to.
//
// Invariants
// - The state is a pure function of the log: replaying the log over the state of an earlier position gives it again.
// - pending = local − acknowledged, cumulative on both sides, hence exact and O(1).
// - With nothing pending, everything up to `version` is acknowledged.

package import KVLog

package struct StoreState: Sendable, Equatable {
  /// Where in the log this state holds; its version and digest are those of the last commit.
  package var position: LogPosition

  /// Local changes and their key and value bytes, ever.
  var localChanges: UInt64 = 0
  var localBytes: UInt64 = 0
  /// The part of them that the hub has decided.
  var acknowledgedChanges: UInt64 = 0
  var acknowledgedBytes: UInt64 = 0
  /// The local version up to which the hub has decided every local commit.
  var acknowledged: Version = 0
  /// The last version that the hub itself confirmed, and this log's digest there.
  var shipped: Version = 0
  var shippedDigest: Digest = .zero

  /// The pull cursor: the hub's epoch (zero: never synchronised), version and digest.
  var hubEpoch: Identity = .zero
  var cursor: Version = 0
  var cursorDigest: Digest = .zero
  /// The server version of the last of the hub's commits that is recorded here whole; the cursor may have yet to pass
  /// it. Of the one after it, how many changes are recorded already.
  var received: Version = 0
  var receivedPart: UInt64 = 0
  /// Re-offered commits are pushed only when the cursor has reached this.
  var holdUntil: Version = 0

  /// No local change of a version beyond this is void.
  var voidThrough: Version = 0
  var conflicts: UInt64 = 0
  var unresolvedConflicts: UInt64 = 0
  /// Commits that the hub refused and nobody has decided about, and their key and value bytes.
  var parkedCommits: UInt64 = 0
  var parkedBytes: UInt64 = 0
  var journal = JournalState()
  var lastTime = HybridTime(rawValue: 0)

  /// Every commit after `soleAuthorSince` was written by `soleAuthor`: a push of the same replica whose cursor has
  /// reached that version cannot be stale, and needs no look-up.
  var soleAuthor: Identity = .zero
  var soleAuthorSince: Version = 0

  init(start identity: Identity) {
    position = .start(of: identity)
    shippedDigest = position.digest
  }

  var version: Version { position.version }
  var pendingChanges: Int { Int(localChanges - acknowledgedChanges) }
  var pendingBytes: Int { Int(localBytes - acknowledgedBytes) }
  var hasPending: Bool { localChanges != acknowledgedChanges }
  /// The hub cannot have decided more than there is.
  var isConsistent: Bool { acknowledgedChanges <= localChanges && acknowledgedBytes <= localBytes }

  // MARK: What each kind of record does to the state

  /// A commit of `changes` changes with `bytes` key and value bytes.
  mutating func committed(_ header: CommitHeader, bytes: Int, digest: Digest, identity: Identity) {
    position.version = header.version
    position.digest = digest
    if header.origin == identity {
      localChanges += UInt64(header.changeCount)
      localBytes += UInt64(bytes)
    } else if !hasPending {
      acknowledged = header.version
    }
    if header.flags.contains(.partial) {
      receivedPart += UInt64(header.changeCount)
    } else if header.serverVersion > 0 {
      received = header.serverVersion
      receivedPart = 0
    }
    if header.origin != soleAuthor {
      soleAuthor = header.origin
      soleAuthorSince = header.version - 1
    }
    lastTime = max(lastTime, header.time)
  }

  mutating func acknowledged(_ record: AcknowledgementRecord) {
    shipped = record.through
    shippedDigest = record.digest
    acknowledgedChanges += record.changes
    acknowledgedBytes += record.bytes
    acknowledged = hasPending ? max(acknowledged, record.through) : version
    hubEpoch = record.epoch
    holdUntil = max(holdUntil, record.holdUntil)
  }

  mutating func advanced(_ record: CursorRecord) {
    hubEpoch = record.position.identity
    cursor = record.position.version
    cursorDigest = record.position.digest
  }

  /// What a backup's state becomes for the store that the backup becomes. The pull cursor stays valid.
  mutating func adopted(by identity: Identity) {
    acknowledgedChanges = localChanges
    acknowledgedBytes = localBytes
    acknowledged = version
    // The hub has nothing of the new store yet.
    shipped = 0
    shippedDigest = .origin(of: identity)
  }

  // MARK: Bytes
  // grammar (little-endian; identities and digests are 16 bytes in the order in which they are printed)
  //   state = segment u64 | offset u64 | version u64 | digest 16 |                  the position, as `LogPosition` has it
  //           localChanges u64 | localBytes u64 | acknowledgedChanges u64 | acknowledgedBytes u64 | acknowledged u64 |
  //           shipped u64 | shippedDigest 16 | hubEpoch 16 | cursor u64 | cursorDigest 16 | received u64 |
  //           receivedPart u64 | holdUntil u64 | voidThrough u64 | conflicts u64 | unresolvedConflicts u64 |
  //           parkedCommits u64 | parkedBytes u64 | journal entries u64 | journal bytes u64 |
  //           journal floor (version u64 | ordinal u64) | journal since u64 |
  //           lastTime u64 | soleAuthor 16 | soleAuthorSince u64

  func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(256)
    position.encode(to: &bytes)
    for field in [localChanges, localBytes, acknowledgedChanges, acknowledgedBytes, acknowledged, shipped] {
      bytes.append(littleEndian: field)
    }
    bytes.append(shippedDigest)
    bytes.append(hubEpoch)
    bytes.append(littleEndian: cursor)
    bytes.append(cursorDigest)
    for field in [received, receivedPart, holdUntil, voidThrough, conflicts, unresolvedConflicts] {
      bytes.append(littleEndian: field)
    }
    for field in [parkedCommits, parkedBytes, journal.entries, journal.bytes, journal.floor.version] {
      bytes.append(littleEndian: field)
    }
    for field in [UInt64(journal.floor.ordinal), journal.since.rawValue, lastTime.rawValue] {
      bytes.append(littleEndian: field)
    }
    bytes.append(soleAuthor)
    bytes.append(littleEndian: soleAuthorSince)
    return bytes
  }

  init(decoding bytes: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    position = try LogPosition(from: &reader, in: bytes)
    localChanges = try reader.read(UInt64.self, from: bytes)
    localBytes = try reader.read(UInt64.self, from: bytes)
    acknowledgedChanges = try reader.read(UInt64.self, from: bytes)
    acknowledgedBytes = try reader.read(UInt64.self, from: bytes)
    acknowledged = try reader.read(UInt64.self, from: bytes)
    shipped = try reader.read(UInt64.self, from: bytes)
    shippedDigest = try reader.digest(from: bytes)
    hubEpoch = try reader.identity(from: bytes)
    cursor = try reader.read(UInt64.self, from: bytes)
    cursorDigest = try reader.digest(from: bytes)
    received = try reader.read(UInt64.self, from: bytes)
    receivedPart = try reader.read(UInt64.self, from: bytes)
    holdUntil = try reader.read(UInt64.self, from: bytes)
    voidThrough = try reader.read(UInt64.self, from: bytes)
    conflicts = try reader.read(UInt64.self, from: bytes)
    unresolvedConflicts = try reader.read(UInt64.self, from: bytes)
    parkedCommits = try reader.read(UInt64.self, from: bytes)
    parkedBytes = try reader.read(UInt64.self, from: bytes)
    journal.entries = try reader.read(UInt64.self, from: bytes)
    journal.bytes = try reader.read(UInt64.self, from: bytes)
    let version = try reader.read(UInt64.self, from: bytes)
    guard let ordinal = UInt32(exactly: try reader.read(UInt64.self, from: bytes)) else {
      throw LogFormatError(.badValue, at: reader.offset - 8)
    }
    journal.floor = Conflict.ID(version: version, ordinal: ordinal)
    journal.since = HybridTime(rawValue: try reader.read(UInt64.self, from: bytes))
    lastTime = HybridTime(rawValue: try reader.read(UInt64.self, from: bytes))
    soleAuthor = try reader.identity(from: bytes)
    soleAuthorSince = try reader.read(UInt64.self, from: bytes)
    guard isConsistent else { throw LogFormatError(.badValue, at: 0) }
  }
}
