// What the tests of the log share: seeds, random blocks, and small configurations.

import KVLog
import TestSupport

enum Seeds {
  /// A few that never change, and one that is new in every run; a failing test names the seed it ran with.
  static let all = SeededGenerator.seeds(5, fresh: 1)
  /// For long runs.
  static let few = SeededGenerator.seeds(1, fresh: 1)
}

let fixedIdentity = Identity("000102030405060708090a0b0c0d0e0f") ?? .zero
let otherIdentity = Identity("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff") ?? .zero

func smallLog(_ files: any LogFileSystem, directory: String = "log") -> LogConfiguration {
  var configuration = LogConfiguration(directory: directory, identity: fixedIdentity, fileSystem: files)
  configuration.segmentBytes = 16 << 10
  configuration.smallestPrewriteBytes = 4 << 10
  configuration.largestPrewriteBytes = 8 << 10
  return configuration
}

extension [UInt8] {
  /// Lends the bytes.
  func lend<R, E>(_ body: (RawSpan) throws(E) -> R) throws(E) -> R {
    try unsafe body(span.bytes)
  }
}

extension BlockBuilder {
  mutating func append(key: [UInt8], value: [UInt8]) {
    unsafe append(key: key.span.bytes, value: value.span.bytes)
  }

  mutating func appendDeletion(key: [UInt8]) { unsafe appendDeletion(key: key.span.bytes) }

  mutating func append(_ kind: RecordKind, payload: [UInt8]) { unsafe append(kind, payload: payload.span.bytes) }
}

extension BlockBuilder {
  /// A builder that continues the log.
  init(after position: LogPosition, of identity: Identity = fixedIdentity) {
    self.init()
    reset(after: position.version, digest: position.digest, origin: identity)
  }

  /// Adds a commit with one change.
  mutating func put(_ key: String, _ value: [UInt8], time: UInt64 = 1) {
    _ = beginCommit(time: HybridTime(rawValue: time))
    append(key: Array(key.utf8), value: value)
    endCommit()
  }

  /// Adds one to five random records.
  mutating func addRandom(_ random: inout SeededGenerator, largestValue: Int = 600) {
    for _ in 0..<Int.random(in: 1...5, using: &random) {
      switch Int.random(in: 0..<10, using: &random) {
      case 0:
        append(.acknowledgement, payload: random.bytes(Int.random(in: 0...40, using: &random)))
      case 1:
        var elsewhere = BlockBuilder(after: .start(of: otherIdentity), of: otherIdentity)
        elsewhere.addRandomCommit(&random, largestValue: largestValue)
        elsewhere.withRecords { bytes in
          _ = appendCommit(core: bytes.extracting(24..<bytes.byteCount), serverVersion: 7)
        }
      default:
        addRandomCommit(&random, largestValue: largestValue)
      }
    }
  }

  mutating func addRandomCommit(_ random: inout SeededGenerator, largestValue: Int) {
    _ = beginCommit(time: HybridTime(rawValue: random.next()))
    for _ in 0..<Int.random(in: 0...4, using: &random) {
      let key = random.bytes(Int.random(in: 1...20, using: &random))
      if Int.random(in: 0..<4, using: &random) == 0 {
        appendDeletion(key: key)
      } else {
        append(key: key, value: random.bytes(Int.random(in: 0...largestValue, using: &random)))
      }
    }
    endCommit()
  }

  var recordBytes: [UInt8] {
    withRecords { bytes in
      var copy: [UInt8] = []
      copy.append(bytes)
      return copy
    }
  }
}

extension Block {
  var recordBytes: [UInt8] { Array(bytes[records]) }
}

extension LogReader {
  mutating func all() throws(LogError) -> [Block] {
    var blocks: [Block] = []
    while let block = try next() { blocks.append(block) }
    return blocks
  }
}

extension ReplicationLog {
  /// Appends what `fill` puts into a block, and synchronises.
  @discardableResult
  func write(_ fill: (inout BlockBuilder) -> Void) throws -> LogPosition {
    var builder = BlockBuilder(after: end, of: configuration.identity)
    fill(&builder)
    let end = try append(&builder)
    try synchronize()
    return end
  }

  /// Opens and gives the records of the blocks that were replayed.
  static func reopen(
    _ configuration: LogConfiguration, after position: LogPosition = .start(of: fixedIdentity)
  ) throws -> (log: ReplicationLog, blocks: [[UInt8]]) {
    var blocks: [[UInt8]] = []
    let log = try open(configuration, after: position) { blocks.append($0.recordBytes) }
    return (log, blocks)
  }
}
