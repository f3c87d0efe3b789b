// The changes of a run of commits, copied out of the log together.
//
// Invariants
// - Entries are in the order of the log, and each belongs to one of `commits`; their bytes lie in `bytes`, key then value.
// - `version` is that of a whole commit: everything through it that the reader asked for has been handed out, in this
//   batch or before.

public import KVLog

/// Changes that were read together, in the order of the log: those of one commit or of several, always whole.
///
/// Elements are made when they are asked for. A batch takes up to 1 MiB besides its last commit, which may have 64 MiB.
public struct ChangeBatch: Sendable {
  /// The version to go on after: everything up to and including it has been handed out. Pass it to
  /// ``Store/changes(after:prefix:delivery:)`` and nothing is lost and nothing comes twice.
  public internal(set) var version: Version
  /// Bytes of log that were read for it.
  var logBytes = 0

  private struct Commit {
    var header: CommitHeader
    var state = StoreChange.State.acknowledged
  }

  private struct Entry {
    /// Of the key, in `bytes`; the value follows it.
    var offset: UInt32
    var valueBytes: UInt32
    var commit: UInt32
    var keyBytes: UInt16
    var isDeletion: Bool
    var isSuperseded = false

    var key: Range<Int> { Int(offset)..<Int(offset) + Int(keyBytes) }
    var value: Range<Int> { key.upperBound..<key.upperBound + Int(valueBytes) }
    var byteCount: Int { Int(keyBytes) + Int(valueBytes) }
  }

  private let state: StoreState
  private var commits: [Commit] = []
  private var entries: [Entry] = []
  private var bytes: [UInt8] = []
  /// Elements that met a change of the other side; hardly ever any.
  private var conflicted: Set<Int> = []

  /// An empty batch of the log of a store in this state.
  init(after version: Version, state: StoreState) {
    self.version = version
    self.state = state
  }
}

// MARK: - What a reader sees

extension ChangeBatch: RandomAccessCollection {
  /// 0.
  public var startIndex: Int { 0 }
  /// The number of changes.
  public var endIndex: Int { entries.count }

  /// The change at `position`, copied.
  public subscript(position: Int) -> StoreChange {
    let entry = entries[position]
    let commit = commits[Int(entry.commit)]
    return StoreChange(
      version: commit.header.version, key: Array(bytes[entry.key]),
      value: entry.isDeletion ? nil : Array(bytes[entry.value]),
      kind: StoreChange.Kind(of: commit.header, in: state),
      state: conflicted.contains(position) ? .conflicted : commit.state,
      serverVersion: ServerVersion.told(commit.header.serverVersion), time: commit.header.time,
      origin: commit.header.origin)
  }
}

// MARK: - Building

extension ChangeBatch {
  var byteCount: Int { bytes.count }

  mutating func append(_ commit: CommitHeader) {
    commits.append(Commit(header: commit))
  }

  /// Adds a change of the commit appended last; its key and value lie in `log`, one after the other.
  mutating func append(key: Range<Int>, value: Range<Int>, isDeletion: Bool, in log: RawSpan) {
    // A commit is added to a batch that has little yet, so all of its bytes are within four gigabytes.
    entries.append(
      Entry(
        offset: UInt32(bytes.count), valueBytes: UInt32(value.count), commit: UInt32(commits.count - 1),
        keyBytes: UInt16(key.count), isDeletion: isDeletion))
    bytes.append(log.extracting(key.lowerBound..<value.upperBound))
  }

  func hasKey(_ key: RawSpan, at position: Int) -> Bool {
    bytes.bytes.extracting(entries[position].key).isEqual(to: key)
  }

  /// Takes an element out at the next `removeSuperseded`; gives its bytes.
  mutating func supersede(_ position: Int) -> Int {
    entries[position].isSuperseded = true
    return entries[position].byteCount
  }

  /// The batch without what is superseded; `moved` is told the key and the new place of each element that stays.
  func withoutSuperseded(_ moved: (_ key: RawSpan, Int) -> Void) -> ChangeBatch {
    var kept = ChangeBatch(after: version, state: state)
    kept.logBytes = logBytes
    var last: UInt32?
    for entry in entries where !entry.isSuperseded {
      if entry.commit != last { kept.commits.append(commits[Int(entry.commit)]) }
      last = entry.commit
      moved(bytes.bytes.extracting(entry.key), kept.entries.count)
      kept.append(key: entry.key, value: entry.value, isDeletion: entry.isDeletion, in: bytes.bytes)
    }
    return kept
  }
}

// MARK: - States

extension ChangeBatch {
  /// The versions of its commits; those of an empty batch are nobody's.
  var versions: ClosedRange<Version> {
    (commits.first?.header.version ?? version)...(commits.last?.header.version ?? version)
  }

  /// Sets the state of each commit; returns whether some are open.
  mutating func decide(_ state: (CommitHeader) -> StoreChange.State, isOpen: (CommitHeader) -> Bool) -> Bool {
    var someAreOpen = false
    for index in commits.indices {
      commits[index].state = state(commits[index].header)
      someAreOpen = someAreOpen || isOpen(commits[index].header)
    }
    return someAreOpen
  }

  /// Marks the changes for which `isConflicted` returns true.
  mutating func markConflicted(_ isConflicted: (CommitHeader, _ key: [UInt8]) throws -> Bool) rethrows {
    for (index, entry) in entries.enumerated() {
      if try isConflicted(commits[Int(entry.commit)].header, Array(bytes[entry.key])) { conflicted.insert(index) }
    }
  }
}
