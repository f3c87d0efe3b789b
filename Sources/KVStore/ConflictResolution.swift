// Decides the contests of a feed by the program's policy, and records each with what it leads to.
//
// Invariants
// - A resolution is a commit, and a decision is a record: replaying them needs no policy.
// - What is left to the program leads to nothing: the remote change stands in the row, the local one is void and kept in
//   the journal, until the program decides.

import KVLog

extension WriteGroup {
  /// Decides each contest, records it, then what it leads to.
  func resolve(_ contests: inout [Contest], _ policy: ConflictPolicy) throws {
    var mergedRoom = StoreLimits.mergedBytes
    let bases = try mergeBases(of: contests.filter { !$0.isEqual && policy.effective(for: $0.key).wantsBase })
    let now = now()
    for index in contests.indices {
      decide(&contests[index], policy, bases, &mergedRoom)
      try append(ConflictRecord(contests[index], ordinal: UInt32(index), found: now))
    }
    // What stands of the local side keeps the time of its writing; that of one local commit stays one commit.
    let local = contests.filter { if case .local = $0.resolution { true } else { false } }
      .sorted { $0.local.version < $1.local.version }
    var succession = SuccessionRecord([])
    for group in local.chunked(by: { $0.local.version }) {
      beginCommit(time: group.first?.local.time, flags: .resolution)
      for contest in group { try put(contest.local.isTombstone ? nil : contest.localValue, for: contest.key) }
      let version = endCommit()
      if let first = group.first { succession.steps.append(.init(version: first.local.version, successor: version)) }
    }
    for contest in contests {
      guard case .merged(let value) = contest.resolution else { continue }
      if byteCountOfOpenCommit == nil { beginCommit(time: nil, flags: .resolution) }
      try put(value, for: contest.key)
      succession.steps.append(.init(version: contest.local.version, successor: state.version + 1))
      if let bytes = byteCountOfOpenCommit, bytes > LogLimits.maximumCommitBytes / 2 { endCommit() }
    }
    if byteCountOfOpenCommit != nil { endCommit() }
    try append(succession)
  }

  private func put(_ value: [UInt8]?, for key: [UInt8]) throws {
    if let value { try put(key: key.bytes, value: value.bytes) } else { try delete(key: key.bytes) }
  }

  private func decide(
    _ contest: inout Contest, _ policy: ConflictPolicy, _ bases: [[UInt8]: MergeBase], _ mergedRoom: inout Int
  ) {
    let localIsLater = contest.localIsLater(of: state.incarnation)
    let policy = policy.effective(for: contest.key)
    if contest.writer == .earlier {
      contest.outcome = .identical
      contest.resolution = .local
      return
    }
    if contest.isEqual {
      contest.outcome = .identical
      // The later of two equal writes has its say against a third: its time must reach the others.
      if case .lastWriterWins = policy, contest.local.time > contest.remote.time { contest.resolution = .local }
      return
    }
    switch policy {
    case .lastWriterWins, .perPrefix: contest.outcome = localIsLater ? .localWon : .remoteWon
    case .localWins: contest.outcome = .localWon
    case .remoteWins: contest.outcome = .remoteWon
    case .manual: contest.outcome = .unresolved
    case .merge(let merge), .mergeWithBase(let merge):
      do {
        let merged = try merge(MergeInput(contest, base: bases[contest.key] ?? .unknown))
        let bytes = contest.key.count + (merged?.count ?? 0)
        // A value that no store can hold must not keep everything behind it from coming in.
        guard merged?.count ?? 0 <= LogLimits.maximumValueBytes, bytes <= mergedRoom else { return }
        mergedRoom -= bytes
        contest.outcome = .merged
        contest.resolution = .merged(merged)
      } catch {
        contest.outcome = localIsLater ? .localWon : .remoteWon
      }
    }
    if contest.outcome == .localWon { contest.resolution = .local }
  }
}

extension Array {
  /// Neighbours with the same key, together.
  fileprivate func chunked<Key: Equatable>(by key: (Element) -> Key) -> [ArraySlice<Element>] {
    var chunks: [ArraySlice<Element>] = []
    var start = startIndex
    while start < endIndex {
      let first = key(self[start])
      let end = self[start...].firstIndex { key($0) != first } ?? endIndex
      chunks.append(self[start..<end])
      start = end
    }
    return chunks
  }
}
