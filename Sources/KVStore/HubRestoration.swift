// The hub's side after it was restored to an older state: a replica turns out to know more than the hub does.
//
// The space takes a new epoch, so that the versions that it gives from now on are never taken for those it has lost. What was
// lost comes back from the replicas: their own commits as pushes, those of others as they had pulled them. Of each author the
// hub knows how far it has the commits, so whoever brings them, each is taken once. If the author was restored as well and has
// written other commits under the same versions since, those stay, and what is brought back comes as its bringer's.
//
// Invariants
// - What was written without knowing of a lost commit is not overwritten by it: such a commit is declined whole, and so are
//   the later ones of the same author that come with it. The replica that brought them offers what is current in them.
// - What was never lost is neither taken nor declined. Of what the hub has a part of, the whole is declined.
// - Lost commits are taken in the order in which they were written: a later one may overwrite an earlier one.

package import KVLog

extension Store {
  /// Begins a new epoch, if `epoch` is still the present one: of its history, only that through `version` is common with
  /// what somebody knows of it. Durable when it returns.
  package func beginEpoch(after epoch: Identity, through version: Version) async throws {
    try await perform { try $0.beginEpoch(.random(), after: epoch, through: version) }
  }

  /// The epochs before the present one, each with the version through which its history is surely this one.
  package func formerEpochs() -> [Position] {
    state.lineage.map { Position(identity: $0.incarnation, version: $0.through, digest: .zero) }
  }

  /// Takes back commits that the hub has lost, exactly once, durably when it returns. Throws ``AdmissionError`` or
  /// ``StoreError``.
  package func restore(_ restoration: Restoration) async throws -> RestorationOutcome {
    try await perform { try $0.restore(restoration) }
  }
}

extension WriteGroup {
  func beginEpoch(_ next: Identity, after epoch: Identity, through version: Version) throws {
    guard state.incarnation == epoch else { return }
    try append(IncarnationRecord(incarnation: next, through: version))
  }

  func restore(_ restoration: Restoration) throws -> RestorationOutcome {
    try marks.with(log, after: max(restoration.cursor, log.floor()), through: published.position) {
      try restore(restoration, &$0)
    }
  }

  private func restore(
    _ restoration: Restoration, _ marks: inout CommitMarks.Contents
  ) throws -> RestorationOutcome {
    var outcome = RestorationOutcome(through: restoration.segment.through, declined: [], head: 0)
    var authors: [Identity: ReplicaProgress] = [:]
    var declined: Set<Identity> = []
    do {
      try restoration.segment.forEachForeign { commit, bytes in
        let author = commit.header.origin
        var progress = try authors[author] ?? self.progress(of: author) ?? ReplicaProgress(of: author)
        let mark = commit.mark(in: bytes)
        if commit.header.originVersion <= progress.lastApplied {
          let count = marks.changeCount(of: mark)
          if count != nil, commit.header.originVersion == progress.lastApplied {
            marks.matched[author] = progress.lastApplied
          }
          if let count = try count ?? neverLost(commit, mark, in: bytes, seen: restoration.cursor) {
            if count < commit.header.changeCount { outcome.declined.append(commit.header.version) }
            return
          }
        }
        // Under the author's name the hub has other commits: the author was restored as well, and wrote on.
        let isOfTheAuthor =
          commit.header.originVersion > progress.lastApplied
          && (!marks.authors.contains(author) || marks.matched[author] == progress.lastApplied)
        let isWelcome =
          try isOfTheAuthor && !declined.contains(author) && !restoration.declined.contains(commit.header.version)
          && mayRestore(commit, in: bytes, beyond: restoration.cursor)
        guard isWelcome else {
          declined.insert(author)
          marks.matched[author] = nil
          outcome.declined.append(commit.header.version)
          return
        }
        if try !addsNothing(commit, in: bytes) {
          // Its author's copy brings it without: nobody pushes it, so everybody is fed it.
          let former = commit.header.serverVersion
          try admit(commit, in: bytes, serverVersion: former > 0 ? former : ServerVersion.forgotten)
        }
        progress.lastApplied = commit.header.originVersion
        marks.matched[author] = progress.lastApplied
        progress.digest = mark
        progress.digestKind = .commit
        authors[author] = progress
      }
    } catch let error as LogFormatError {
      throw AdmissionError.malformed("\(error)")
    }
    for progress in authors.values { try append(progress) }
    outcome.head = state.version
    return outcome
  }

  /// How many changes the hub has of a commit that is among what it had all the time, nil: it is not. Who goes on under another
  /// name brings back all that the hub had confirmed under the former one.
  ///
  /// All its rows are as the commit left them, or were overwritten by what the bringer, who has everything through `cursor`, has
  /// seen. Of rows that were offered again the author may have had no deletions any more.
  private func neverLost(
    _ commit: CommitView, _ mark: Digest, in bytes: RawSpan, seen cursor: Version
  ) throws -> Int? {
    let header = commit.header
    var isHere = true
    var isFound = false
    var (isOfferedAgain, isGone) = (false, false)
    var changes = ChangeCursor(commit)
    while let change = try changes.next(in: bytes) {
      guard isHere else { continue }
      if let row = try row(of: bytes.extracting(change.key)) {
        let isOfCommit = row.origin == header.origin && row.time == header.time
        if isOfCommit, try row.version > log.floor() {
          if let count = try changeCount(of: mark, at: row.version) { return count }
          isOfferedAgain = true
        }
        // What the hub had given a later version than the row's came after it.
        isHere = isOfCommit || row.version <= cursor && row.version > header.serverVersion && row.time > header.time
        isFound = true
      } else {
        // A tombstone may be gone.
        isHere = change.isDeletion
        isGone = true
      }
    }
    return isHere && isFound && !(isOfferedAgain && isGone) ? header.changeCount : nil
  }

  /// If it is the commit of this version in the log.
  private func changeCount(of mark: Digest, at version: Version) throws -> Int? {
    guard version <= published.version else { return nil }
    var count: Int?
    try log.withStream(after: version - 1, through: published.position) { stream in
      _ = try stream.next(through: published.position) { entry, bytes in
        if entry.view.mark(in: bytes) == mark { count = entry.header.changeCount }
        return true
      }
    }
    return count
  }

  /// Whether nobody has written a key of the commit since the hub was restored, but to bring back something older; nor later than the
  /// commit, before that: what was brought in place of it, when the hub was restored once before, may be there already.
  private func mayRestore(_ commit: CommitView, in bytes: RawSpan, beyond cursor: Version) throws -> Bool {
    let epochBegan = state.lineage.last?.until ?? 0
    var changes = ChangeCursor(commit)
    var mayRestore = true
    while let change = try changes.next(in: bytes) {
      guard mayRestore else { continue }
      let row = try row(of: bytes.extracting(change.key))
      guard let row, row.origin != commit.header.origin else { continue }
      // Former versions may be of different epochs, which have no order: the times say whether they go together.
      let isOlder =
        row.version > epochBegan && row.serverVersion > 0 && row.serverVersion < commit.header.serverVersion
      mayRestore = row.time < commit.header.time && (row.version <= cursor || isOlder)
    }
    return mayRestore
  }
}

extension CommitSegment {
  /// The commits in it, each checked to be one that travels, in the order of their versions.
  func forEachForeign(_ body: (CommitView, _ bytes: RawSpan) throws -> Void) throws {
    let bytes = self.records.bytes
    var records = RecordCursor(over: bytes)
    var last = after
    while let record = try records.next(in: bytes) {
      guard record.kind == .commit else { throw LogFormatError(.unknownKind, at: record.record.lowerBound) }
      let commit = try CommitView(payload: record.payload, in: bytes)
      try commit.checkTravelling(at: record.record.lowerBound)
      let header = commit.header
      guard header.version > last, header.version <= through else {
        throw LogFormatError(.badVersion, at: record.record.lowerBound)
      }
      last = header.version
      try body(commit, bytes)
    }
  }
}
