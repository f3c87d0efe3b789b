// A replica as the hub sees it: it makes commits and cuts pushes out of them.

package import KVHub
package import KVLog
package import KVProtocol

package struct TestReplica: Sendable {
  package let identity: Identity
  package private(set) var version: Version = 0
  /// The log: the record of each version, and the digest after it.
  private var records: [(bytes: [UInt8], changes: Int)] = []
  package private(set) var digests: [Digest]

  /// Its first commit is of the time after this.
  private let start: UInt64

  /// A store with another history, of another time, under the name of `other`.
  package init(copying other: TestReplica) {
    identity = other.identity
    start = other.start + 1_000
    digests = [.origin(of: identity)]
  }

  package init() {
    identity = .random()
    start = 0
    digests = [.origin(of: identity)]
  }

  /// Commits puts, and deletions where the value is `nil`.
  package mutating func commit(_ changes: [(key: String, value: String?)]) {
    version += 1
    var core: [UInt8] = []
    core.append(identity)
    core.append(littleEndian: version)
    core.append(littleEndian: HybridTime(rawValue: start + version).rawValue)
    core.append(littleEndian: UInt32(0))
    core.append(littleEndian: UInt32(changes.count))
    for change in changes {
      core.append(change.value == nil ? 1 : 0)
      core.append(littleEndian: UInt16(change.key.utf8.count))
      core.append(littleEndian: UInt32(change.value?.utf8.count ?? 0))
      core.append(contentsOf: change.key.utf8)
      core.append(contentsOf: (change.value ?? "").utf8)
    }
    var record: [UInt8] = []
    record.append(littleEndian: UInt32(16 + core.count))
    record.append(littleEndian: UInt32(RecordKind.commit.rawValue))
    record.append(littleEndian: version)
    record.append(littleEndian: Version(0))
    record.append(contentsOf: core)
    records.append((record, changes.count))
    digests.append(unsafe digests[Int(version) - 1].chained(version: version, core: core.span.bytes))
  }

  package mutating func put(_ key: String, _ value: String) { commit([(key, value)]) }

  /// `former`: the version that a hub which was put back had once given the first of them.
  package func segment(after: Version, through: Version, former: Version = 0) -> CommitSegment {
    let run = records[Int(after)..<Int(through)]
    var segment = CommitSegment(
      after: after, through: through, digest: digests[Int(through)], records: [], changeCount: 0)
    for (index, record) in run.enumerated() {
      var version: [UInt8] = []
      version.append(littleEndian: former > 0 ? former + Version(index) : 0)
      // Behind the record's header and its version.
      segment.records += record.bytes[..<16] + version + record.bytes[24...]
      segment.changeCount += record.changes
    }
    return segment
  }

  package func push(after: Version, through: Version? = nil, cursor: Version = 0) -> PushSegment {
    PushSegment(
      segment: segment(after: after, through: through ?? version), cursor: cursor, localChanges: 0, localBytes: 0)
  }

  package func hello(
    _ mode: SessionMode, space: String = "notes", cursor: Position? = nil, shipped: Version = 0
  ) -> Hello {
    Hello(
      mode: mode, replica: identity, space: space, cursor: cursor,
      lastVersion: version, shipped: Position(identity: identity, version: shipped, digest: digests[Int(shipped)]))
  }
}

extension HubSpace {
  /// Of all keys.
  package func feed(after version: Version, excluding replica: Identity, maximumBytes: Int) throws -> CommitSegment? {
    try feed(FeedRequest(after: version, excluding: replica), maximumBytes: maximumBytes)
  }

  package func admit(_ push: PushSegment, from replica: TestReplica, confirmed: Version = 0) async throws
    -> Acknowledgement
  {
    try await admit(push, from: replica.identity, confirmed: confirmed)
  }
}

extension CommitSegment {
  /// Versions and changes in it, in words: `"2:a=1 b-"`.
  package var contents: [String] {
    get throws {
      let bytes = unsafe self.records.span.bytes
      var records = RecordCursor(over: bytes)
      var contents: [String] = []
      while let record = try records.next(in: bytes) {
        let commit = try CommitView(payload: record.payload, in: bytes)
        var changes: [String] = []
        var cursor = ChangeCursor(commit)
        while let change = try cursor.next(in: bytes) {
          let key = String(decoding: self.records[change.key], as: UTF8.self)
          let value = String(decoding: self.records[change.value], as: UTF8.self)
          changes.append(change.isDeletion ? "\(key)-" : "\(key)=\(value)")
        }
        contents.append("\(commit.header.version):\(changes.joined(separator: " "))")
      }
      return contents
    }
  }
}
