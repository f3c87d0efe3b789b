// What a commit is carried on by: the one that offers it again when the hub found it stale, when it was parked, or when a
// restored hub had lost it; and the one that holds what stood of it in a conflict, by the policy or by the program's
// decision. Who waits for the hub's decision on a commit waits for these too.
//
// Invariants
// - A successor is a later local commit, in the block of the record that names it; or the commit itself, when it was parked
//   and nothing was made of it.
// - An entry stays as long as the log has the successor, hence at least until that is decided.
//
// grammar (all integers little-endian)
//   succession = *(version u64 | successor u64)
//
// In the table `state`: "successor/" + version u64 + successor u64, both big-endian, so that LMDB orders them → nothing.

import KVLog
import LMDB

struct SuccessionRecord {
  struct Step: Equatable {
    var version: Version
    var successor: Version
  }

  var steps: [Step]

  init(_ steps: [Step]) { self.steps = steps }

  func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(steps.count * 16)
    for step in steps {
      bytes.append(littleEndian: step.version)
      bytes.append(littleEndian: step.successor)
    }
    return bytes
  }

  init(decoding span: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    steps = []
    while reader.remaining(in: span) > 0 {
      steps.append(
        Step(
          version: try reader.read(UInt64.self, from: span), successor: try reader.read(UInt64.self, from: span)))
    }
  }
}

extension SuccessionRecord.Step {
  static let prefix = [UInt8]("successor/".utf8)

  /// Under which it stands in the table `state`.
  var key: [UInt8] { Self.prefix(of: version) + Self.bigEndian(successor) }

  /// What the keys of a commit's successors begin with.
  static func prefix(of version: Version) -> [UInt8] { prefix + bigEndian(version) }

  init?(key: RawSpan) {
    let start = Self.prefix.count
    guard key.byteCount == start + 16, key.copied().starts(with: Self.prefix) else { return nil }
    version = Version(bigEndian: key.load(UInt64.self, at: start))
    successor = Version(bigEndian: key.load(UInt64.self, at: start + 8))
  }

  private static func bigEndian(_ version: Version) -> [UInt8] {
    stride(from: 56, through: 0, by: -8).map { UInt8(truncatingIfNeeded: version >> UInt64($0)) }
  }
}

extension LogApplier {
  func apply(_ succession: SuccessionRecord, to writer: inout LMDBWriter, state: inout StoreState) throws(LMDBError) {
    for step in succession.steps { try writer.putSealed(tables.state, key: step.key.bytes, RawSpan()) }
    state.succeeded(succession)
  }
}

extension Snapshot {
  /// The commits that carry on what `version` began, oldest first.
  func successors(of version: Version) throws -> [Version] {
    let cursors = try sources.map { try $0.reader.cursor($0.tables.state) }
    let range = KeyRange(prefix: SuccessionRecord.Step.prefix(of: version))
    var cursor = try MergeCursor(cursors, .sealed, range: range, isReversed: false)
    var successors: [Version] = []
    while try cursor.advance() {
      try cursor.withEntry { key, entry in
        _ = try Sealed.payloadBytes(entry, key: key, path: path)
        if let step = SuccessionRecord.Step(key: key) { successors.append(step.successor) }
      }
    }
    return successors
  }
}

extension StoreCore {
  /// What became of a commit that the hub has decided, as of one moment.
  func fate(of version: Version) throws -> (parked: ParkedCommit?, successors: [Version]) {
    do {
      let snapshot = try snapshot()
      let parked = try snapshot.withEntry(\.parked, ParkedRecord.identifier(version)) {
        ParkedCommit(try ParkedHead(decoding: $0))
      }
      return (parked, try snapshot.successors(of: version))
    } catch {
      throw StoreError.published(error, path: path)
    }
  }
}

extension GroupWriter {
  /// Notes that what is open or was just ended as `successor` carries the commit on.
  func append(successor: Version, of version: Version) throws {
    try append(SuccessionRecord([.init(version: version, successor: successor)]))
  }
}

extension Index {
  /// Removes up to `StoreLimits.sweepRows` entries whose successor is older than `version`; returns false when none are
  /// left before the first that is not.
  func sweepSuccessions(before version: Version) throws -> Bool {
    var writer = try environment.beginWrite()
    var keys: [[UInt8]] = []
    do {
      let cursor = try writer.cursor(tables.state)
      let prefix = SuccessionRecord.Step.prefix
      var more = try cursor.seek(atOrAfter: prefix.bytes)
      while more, keys.count < StoreLimits.sweepRows {
        cursor.withKey { key in
          let step = SuccessionRecord.Step(key: key)
          more = step.map { $0.successor < version } ?? false
          if more { keys.append(key.copied()) }
        }
        if more { more = try cursor.next() }
      }
    }
    guard !keys.isEmpty else {
      writer.abort()
      return false
    }
    for key in keys { try writer.delete(tables.state, key: key.bytes) }
    try writer.commit()
    return keys.count == StoreLimits.sweepRows
  }
}
