// What a store knows about itself besides its rows: counters, cursors and the place in the log they belong to.
//
// Invariants
// - The state is a pure function of the log: replaying the log over the state of an earlier position gives it again.
// - pending = local − acknowledged, cumulative on both sides, hence exact and O(1).
// - With nothing pending, everything up to `version` is acknowledged.

package import KVLog

package struct StoreState: Sendable, Equatable {
  /// Whom the store used to be, for its commits: a replica of which a copy went on as well, or the epoch of a hub that
  /// was restored.
  package struct Former: Sendable, Equatable {
    package var incarnation: Identity
    /// Its history through this version is surely ours: of a replica its own version that the hub had confirmed, of a
    /// hub its version.
    package var through: Version
    /// This store's version when the next incarnation began.
    package var until: Version
  }

  /// Where in the log this state holds; its version and digest are those of the last commit.
  package var position: LogPosition

  /// Under whose name the store writes commits. A hub's is the epoch of its space.
  package var incarnation: Identity
  /// The incarnations before that one, the oldest first.
  package var lineage: [Former] = []

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

  /// The hub's space: its first epoch, which stays its name for ever. Zero: never synchronised.
  var hubSpace: Identity = .zero
  /// The pull cursor: the hub's epoch (zero: never synchronised), version and digest.
  var hubEpoch: Identity = .zero
  var cursor: Version = 0
  var cursorDigest: Digest = .zero
  var hubPositions = HubPositions()
  /// The hub's version by which it has what this store was last told to be decided, or has brought it back.
  var decidedBy: Version = 0
  var coverageMarks = CoverageMarks()
  /// What the hub promised, and since when that counts.
  var contact = HubContact()
  /// The server version of the last of the hub's commits that is recorded here whole; the cursor may have yet to pass
  /// it. Of the one after it, how many changes are recorded already.
  var received: Version = 0
  var receivedPart: UInt64 = 0
  /// Re-offered commits are pushed only when the cursor has reached this.
  var holdUntil: Version = 0
  var subscription = Subscription()
  /// Re-offered commits are pushed only when everything that is wanted was loaded.
  var isHeldForLoad = false
  /// The last commit that carries on what an earlier one began; 0: there never was one.
  var lastSuccessor: Version = 0

  /// A hub that was restored is brought what others wrote and this log has in (restoredThrough, restoreThrough], of its own
  /// versions. Equal: nothing is to be brought back.
  var restoredThrough: Version = 0
  var restoreThrough: Version = 0
  /// The hub's version by which it has what was brought back last; 0: nothing was.
  var restoredBy: Version = 0
  /// The versions of a hub in rows and commits up to this version of the store are those of a space that it has left.
  var formerThrough: Version = 0
  /// Not all that came from there, or went there, has been offered to the present space yet.
  var isAdopting = false
  /// The lowest cursor that a restored hub ever made this store go back to.
  var lowestRollback = Version.max
  /// Of the hub's versions from the cursor through this one, those are fed too that are this store's: what it is fed again
  /// lies in the rows over what it wrote after that, which has to come over it again.
  var ownThrough: Version = 0

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
    incarnation = identity
    shippedDigest = position.digest
  }

  var version: Version { position.version }
  var pendingChanges: Int { Int(localChanges - acknowledgedChanges) }
  var pendingBytes: Int { Int(localBytes - acknowledgedBytes) }
  /// Whether this store made the commit. What an original wrote after a copy of it began a life of its own has the name
  /// that the copy once had, and comes to it from the hub.
  package func isLocal(_ commit: CommitHeader) -> Bool {
    commit.serverVersion == 0
      && (commit.origin == incarnation
        || !lineage.isEmpty && lineage.contains { $0.incarnation == commit.origin })
  }
  /// Whether the row is a change of this store that the hub has not decided.
  func isPending(_ row: Row) -> Bool { row.serverVersion == 0 && row.version > acknowledged && hasPending }
  var hasPending: Bool { localChanges != acknowledgedChanges }
  /// Whether every row is pending: all commits are this incarnation's, and the hub has decided none.
  var hasNothingButPending: Bool {
    hasPending && acknowledged == 0 && cursor == 0 && received == 0 && soleAuthor == incarnation && soleAuthorSince == 0
  }
  /// The hub cannot have decided more than there is.
  var isConsistent: Bool { acknowledgedChanges <= localChanges && acknowledgedBytes <= localBytes }

  // MARK: What each kind of record does to the state

  /// A commit of `changes` changes with `bytes` key and value bytes.
  mutating func committed(_ header: CommitHeader, bytes: Int, digest: Digest) {
    position.version = header.version
    position.digest = digest
    if header.serverVersion == 0, header.origin == incarnation {
      localChanges += UInt64(header.changeCount)
      localBytes += UInt64(bytes)
    } else if !hasPending {
      acknowledged = header.version
    }
    if header.flags.contains(.partial) {
      receivedPart += UInt64(header.changeCount)
    } else if header.serverVersion > 0, !header.flags.contains(.rows) {
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
    decidedBy = record.head
    // What is fed again of its own must not come to stand over what it has pushed meanwhile: that is fed as well.
    if ownThrough > cursor { ownThrough = max(ownThrough, record.head) }
    noteCoverage()
    holdUntil = max(holdUntil, record.holdUntil)
    if record.holdUntil > 0, !subscription.missing.isEmpty { isHeldForLoad = true }
  }

  mutating func subscribed(_ record: SubscriptionRecord) {
    // With a snapshot the cursor passes what was recorded in part.
    if subscription.coverage.isEmpty { receivedPart = 0 }
    subscription = record.subscription
    if subscription.missing.isEmpty { isHeldForLoad = false }
  }

  mutating func advanced(_ record: CursorRecord) {
    hubEpoch = record.position.identity
    cursor = record.position.version
    cursorDigest = record.position.digest
    guard cursor > 0 else { return }
    hubPositions.add(cursor, cursorDigest)
    noteCoverage()
  }

  /// Of what is here the hub had all by the cursor, unless it decided some of it later.
  private mutating func noteCoverage() {
    guard cursor > 0, decidedBy <= cursor, received <= cursor, receivedPart == 0 else { return }
    coverageMarks.add(hub: cursor, local: acknowledged)
  }

  /// The store goes on under another name, of which the hub has nothing yet. What is pending stays pending.
  mutating func began(_ record: IncarnationRecord) {
    lineage.append(Former(incarnation: incarnation, through: record.through, until: version))
    incarnation = record.incarnation
    shipped = 0
    shippedDigest = .origin(of: incarnation)
  }

  /// What is known of the hub, and where both have the same history: the space and its epoch are new here, or the hub has
  /// gone back to an older state, and so does the store.
  mutating func rolledBack(_ record: RollbackRecord) {
    if hubSpace != record.space, hubSpace != .zero {
      subscription.forget()
      contact = HubContact()
    }
    contact.backedUp = 0
    // A backup of an epoch covers what the space had when the epoch began; what is brought back to it comes later.
    if record.loss != .none { decidedBy = .max }
    hubSpace = record.space
    hubEpoch = record.cursor.identity
    cursor = record.cursor.version
    cursorDigest = record.cursor.digest
    hubPositions.drop(from: cursor + 1)
    coverageMarks.drop(after: cursor)
    subscription.wentBack(to: cursor)
    // The version that re-offers wait for may be one that the hub has lost, and never comes.
    if record.loss != .none || cursor < received || record.shipped < shipped { holdUntil = 0 }
    if cursor < received {
      received = cursor
      receivedPart = 0
    }
    shipped = record.shipped
    shippedDigest = record.shippedDigest
    acknowledged = record.acknowledged
    acknowledgedChanges -= min(record.changes, acknowledgedChanges)
    acknowledgedBytes -= min(record.bytes, acknowledgedBytes)
    switch record.loss {
    case .none: break
    case .confirmed:
      // What is void is told by the rows from now on. Nothing is to be brought back, but what was before.
      if !isRestoring { restoredThrough = version }
      restoreThrough = version
    case .history, .historyInPart:
      if record.loss == .historyInPart { subscription.lapse(from: cursor) }
      ownThrough = record.ownThrough
      lowestRollback = min(lowestRollback, cursor)
      restoredThrough = 0
      restoreThrough = version
      restoredBy = 0
    }
  }

  /// The store is bound to another space, of which it has nothing yet. Nothing is pushed before it has what is there.
  mutating func adopting(_ record: AdoptionRecord) {
    hubSpace = record.space
    hubEpoch = record.head.identity
    cursor = 0
    cursorDigest = .origin(of: hubEpoch)
    hubPositions = HubPositions()
    decidedBy = 0
    coverageMarks = CoverageMarks()
    contact = HubContact()
    subscription.forget()
    received = 0
    receivedPart = 0
    // The cursor passes the head with the first page of what is there: all pages are waited for.
    holdUntil = 0
    isHeldForLoad = record.head.version > 0
    restoredThrough = 0
    restoreThrough = 0
    restoredBy = 0
    lowestRollback = .max
    ownThrough = 0
    formerThrough = version
    isAdopting = true
  }

  mutating func restored(_ record: RestoredRecord) {
    restoredThrough = min(record.through, restoreThrough)
    restoredBy = max(restoredBy, record.head)
  }

  /// Under which name that the store no longer has the hub had confirmed the commit; nil: it had not, or is not this store's. What is
  /// pending when a store takes another name is pushed under that.
  func formerName(of commit: CommitHeader) -> Identity? {
    guard commit.serverVersion == 0, let first = lineage.firstIndex(where: { $0.incarnation == commit.origin }) else {
      return nil
    }
    return lineage[first...].first { commit.originVersion <= $0.through }?.incarnation
  }

  /// Whether there is something to be brought back to a hub that was restored.
  var isRestoring: Bool { restoredThrough < restoreThrough }

  /// The first version that the log must not lose: what is pending, and what a restored hub has yet to be brought.
  var neededFrom: Version { (isRestoring ? min(acknowledged, restoredThrough) : acknowledged) + 1 }

  /// A backup of the hub has all that this store has up to this version of its own.
  var backedUpThrough: Version { min(coverageMarks.local(at: contact.backedUp), acknowledged) }

  mutating func noted(_ contact: HubContact) {
    self.contact = contact
    coverageMarks.covered(by: contact.backedUp)
  }

  mutating func succeeded(_ record: SuccessionRecord) {
    for step in record.steps { lastSuccessor = max(lastSuccessor, step.successor) }
  }

  /// What a backup's state becomes for the store that the backup becomes. The pull cursor stays valid.
  mutating func adopted(by identity: Identity) {
    began(IncarnationRecord(incarnation: identity, through: version))
    acknowledgedChanges = localChanges
    acknowledgedBytes = localBytes
    acknowledged = version
  }

  // MARK: Bytes
  // grammar (little-endian; identities and digests are 16 bytes in the order in which they are printed)
  //   state = segment u64 | offset u64 | version u64 | digest 16 |                  the position, as `LogPosition` has it
  //           localChanges u64 | localBytes u64 | acknowledgedChanges u64 | acknowledgedBytes u64 | acknowledged u64 |
  //           shipped u64 | shippedDigest 16 | hubEpoch 16 | cursor u64 | cursorDigest 16 | received u64 |
  //           receivedPart u64 | holdUntil u64 | voidThrough u64 | conflicts u64 | unresolvedConflicts u64 |
  //           parkedCommits u64 | parkedBytes u64 | journal entries u64 | journal bytes u64 |
  //           journal floor (version u64 | ordinal u64) | journal since u64 |
  //           lastTime u64 | soleAuthor 16 | soleAuthorSince u64 | restoredThrough u64 | restoreThrough u64 |
  //           restoredBy u64 | lowestRollback u64 |
  //           incarnation 16 | former u16 | *(incarnation 16 | through u64 | until u64) |
  //           as `HubPositions` has them |
  //           hubSpace 16 | lastSuccessor u64 | formerThrough u64 | isAdopting u64 | ownThrough u64 | decidedBy u64 |
  //           as `HubContact` has it | as `CoverageMarks` has them | isHeldForLoad u8 |
  //           as `Subscription` has it

  func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(320)
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
    bytes.append(littleEndian: restoredThrough)
    bytes.append(littleEndian: restoreThrough)
    bytes.append(littleEndian: restoredBy)
    bytes.append(littleEndian: lowestRollback)
    bytes.append(incarnation)
    bytes.append(littleEndian: UInt16(clamping: lineage.count))
    for former in lineage.suffix(Int(UInt16.max)) {
      bytes.append(former.incarnation)
      bytes.append(littleEndian: former.through)
      bytes.append(littleEndian: former.until)
    }
    hubPositions.encode(to: &bytes)
    bytes.append(hubSpace)
    for field in [lastSuccessor, formerThrough, isAdopting ? 1 : 0, ownThrough, decidedBy] {
      bytes.append(littleEndian: field)
    }
    contact.encode(to: &bytes)
    coverageMarks.encode(to: &bytes)
    bytes.append(isHeldForLoad ? 1 : 0)
    subscription.encode(to: &bytes)
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
    restoredThrough = try reader.read(UInt64.self, from: bytes)
    restoreThrough = try reader.read(UInt64.self, from: bytes)
    restoredBy = try reader.read(UInt64.self, from: bytes)
    lowestRollback = try reader.read(UInt64.self, from: bytes)
    incarnation = try reader.identity(from: bytes)
    for _ in 0..<(try reader.read(UInt16.self, from: bytes)) {
      lineage.append(
        Former(
          incarnation: try reader.identity(from: bytes), through: try reader.read(UInt64.self, from: bytes),
          until: try reader.read(UInt64.self, from: bytes)))
    }
    hubPositions = try HubPositions(from: &reader, in: bytes)
    hubSpace = try reader.identity(from: bytes)
    lastSuccessor = try reader.read(UInt64.self, from: bytes)
    formerThrough = try reader.read(UInt64.self, from: bytes)
    isAdopting = try reader.read(UInt64.self, from: bytes) != 0
    ownThrough = try reader.read(UInt64.self, from: bytes)
    decidedBy = try reader.read(UInt64.self, from: bytes)
    contact = try HubContact(&reader, from: bytes)
    coverageMarks = try CoverageMarks(from: &reader, in: bytes)
    isHeldForLoad = try reader.read(UInt8.self, from: bytes) == 1
    subscription = try Subscription(from: &reader, in: bytes)
    guard isConsistent else { throw LogFormatError(.badValue, at: 0) }
  }
}
