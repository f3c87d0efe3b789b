// The value that both sides of a conflict started from: what the key had here before the pending local change.
//
// It is not kept for this: a look-up with every write would cost more than all conflicts do. It is found where it still
// is: in the newest part of the log, read once for all conflicts of a group, or else in a source below the one that has
// the pending row, if the log that was read shows that nothing came between.
//
// Invariants
// - A base is the newest change of the key, before the pending ones, that the hub had too. What cannot be shown to be that
//   is unknown.
// - At most `StoreLimits.baseLogBytes` of log are read, at least the newest segment; at most `StoreLimits.mergedBytes` of
//   values are held.

import KVLog
import LMDB

enum MergeBase {
  case unknown
  /// The key had no value.
  case absent
  case value([UInt8])

  init(_ isDeletion: Bool, _ value: RawSpan) { self = isDeletion ? .absent : .value(value.copied()) }
}

extension GroupWriter {
  /// What is known of the bases of the contests, by key.
  func mergeBases(of contests: [Contest]) throws -> [[UInt8]: MergeBase] {
    guard !contests.isEmpty else { return [:] }
    let keys = Set(contests.map(\.key))
    let limit = core.publication.state.position
    let start = try startOfBases()
    var bases = try basesInLog(of: keys, after: start, through: limit)
    let sources = try core.sources(live: true)
    for key in keys where bases[key] == nil { bases[key] = try baseBelow(key, in: sources, readFrom: start) }
    return bases
  }

  /// The version after which the log is read.
  private func startOfBases() throws -> Version {
    var start: Version?
    var bytes = 0
    for segment in try SegmentDirectory.segments(core.log.configuration).reversed() {
      bytes += Int(clamping: segment.bytes)
      if start != nil, bytes > StoreLimits.baseLogBytes { break }
      start = segment.firstVersion - 1
    }
    return start ?? 0
  }

  private func basesInLog(
    of keys: Set<[UInt8]>, after start: Version, through limit: LogPosition
  ) throws -> [[UInt8]: MergeBase] {
    let hashes = Set(keys.map { checksum64($0.bytes) })
    var bases: [[UInt8]: MergeBase] = [:]
    var room = StoreLimits.mergedBytes
    var stream = try CommitStream(core.log.configuration, after: start, through: limit)
    try stream.pass(through: limit) { entry, bytes in
      guard !isPending(entry.header.serverVersion, entry.header.version) else { return true }
      var changes = ChangeCursor(entry.view)
      while let change = try changes.next(in: bytes) {
        let span = bytes.extracting(change.key)
        guard hashes.contains(checksum64(span)) else { continue }
        let key = span.copied()
        guard keys.contains(key) else { continue }
        if case .value(let former)? = bases[key] { room += former.count }
        room -= change.value.count
        if try room < 0 || isParked(entry.header.serverVersion, entry.header.version) {
          room += change.value.count
          bases[key] = .unknown
        } else {
          bases[key] = MergeBase(change.isDeletion, bytes.extracting(change.value))
        }
      }
      return true
    }
    return bases
  }

  /// Of a key that no change of the log after `start` gave a base. `sources` are as published: the group's own writes, the
  /// remote change among them, come after.
  private func baseBelow(_ key: [UInt8], in sources: [Source], readFrom start: Version) throws -> MergeBase {
    for (index, source) in sources.enumerated() {
      let found = try source.reader.get(source.tables.rows, key: key.bytes) { bytes -> MergeBase? in
        let row = try Row(bytes, key: key.bytes, home: source.tables.home)
        if isPending(row.serverVersion, row.version) { return nil }
        if try isParked(row.serverVersion, row.version) { return .unknown }
        return MergeBase(row.isTombstone, try Row.value(bytes, key: key.bytes))
      }
      guard let found else {
        try source.checkAbsence(ofRow: key.bytes)
        continue
      }
      if let base = found { return base }
      // The pending row may hide one of the same source. What the log read reaches back to, the next source ends with.
      guard index + 1 < sources.count, let before = try Index.state(sources[index + 1]), before.version >= start
      else { return start == 0 ? .absent : .unknown }
    }
    return .absent
  }

  private func isPending(_ serverVersion: Version, _ version: Version) -> Bool {
    serverVersion == 0 && version > state.acknowledged
  }

  /// Nobody but this store has what the hub refused.
  private func isParked(_ serverVersion: Version, _ version: Version) throws -> Bool {
    try serverVersion == 0 && isParked(version)
  }
}
