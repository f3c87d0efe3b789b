// Damaged, missing and foreign files: refused with the place, never read as something else.

import TestSupport
import Testing

@testable import KVLog

@Suite struct DamageTests {
  private struct Sample {
    let files = SimulatedFileSystem()
    var configuration: LogConfiguration
    var blocks: [[UInt8]] = []
    var places: [(file: String, offset: UInt64, firstVersion: Version)] = []
    var end: LogPosition

    init(seed: UInt64, blocks count: Int, segmentBytes: Int = 4 << 10) throws {
      configuration = smallLog(files)
      configuration.segmentBytes = segmentBytes
      configuration.smallestPrewriteBytes = 1 << 10
      configuration.largestPrewriteBytes = 1 << 10
      var random = SeededGenerator(seed: seed)
      let log = try ReplicationLog.create(configuration)
      for _ in 0..<count {
        try log.write { $0.addRandom(&random, largestValue: 200) }
      }
      end = log.end
      var reader = try LogReader(configuration)
      for block in try reader.all() {
        blocks.append(block.recordBytes)
        places.append((block.file, block.offset, block.firstVersion))
      }
    }

    func with(_ files: SimulatedFileSystem) -> LogConfiguration {
      var copy = configuration
      copy.fileSystem = files
      return copy
    }
  }

  private func kind(_ error: any Error) -> LogError.Kind? { (error as? LogError)?.kind }

  private func isCorrupt(_ error: any Error) -> Bool {
    guard case .corrupt = kind(error) else { return false }
    return true
  }

  @Test("A flipped bit anywhere is refused, or changes nothing that is read", arguments: Seeds.few)
  func flipAnywhere(seed: UInt64) throws {
    let sample = try Sample(seed: seed, blocks: 20)
    var random = SeededGenerator(seed: seed)
    #expect(sample.files.paths.count > 2)
    let last = try #require(sample.places.last)
    var refused = 0
    for path in sample.files.paths {
      let content = try #require(sample.files[path])
      for offset in content.indices {
        let files = sample.files.copy()
        files[path]?[offset] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        let configuration = sample.with(files)
        do throws(LogError) {
          let verification = try LogVerification.run(configuration)
          var blocks: [[UInt8]] = []
          var reader = try LogReader(configuration)
          while let block = try reader.next() { blocks.append(block.recordBytes) }
          if blocks != sample.blocks {
            // Nothing vouches for the last block: it looks like one that was never finished.
            #expect(path == last.file && offset >= Int(last.offset), "\(path) \(offset)")
            #expect(blocks == sample.blocks.dropLast(), "\(path) \(offset)")
            #expect(verification.unfinishedBytes > 0)
          }
        } catch {
          #expect(!error.file.isEmpty)
          refused += 1
        }
      }
    }
    #expect(refused > 1000)
  }

  @Test(
    "A damaged block that was durable is refused with file, offset and version, and nothing is cut",
    arguments: Seeds.all)
  func refusesDamage(seed: UInt64) throws {
    let sample = try Sample(seed: seed, blocks: 24)
    var random = SeededGenerator(seed: seed)
    for (index, place) in sample.places.dropLast().enumerated() {
      let files = sample.files.copy()
      let next = sample.places[index + 1]
      let end = next.file == place.file ? Int(next.offset) : files[place.file]?.count ?? 0
      let configuration = sample.with(files)
      if Bool.random(using: &random) {
        files[place.file]?[Int.random(in: Int(place.offset)..<end, using: &random)] ^= 0x40
      } else {
        files[place.file]?.replaceSubrange(
          Int(place.offset)..<end, with: [UInt8](repeating: 0, count: end - Int(place.offset)))
      }
      let before = files.paths.map { files[$0] }
      for attempt in 0..<3 {
        do {
          switch attempt {
          case 0: _ = try ReplicationLog.reopen(configuration)
          case 1: _ = try LogVerification.run(configuration)
          default:
            var reader = try LogReader(configuration)
            while try reader.next(through: sample.end) != nil {}
          }
          Issue.record("block \(index) is damaged and was accepted, attempt \(attempt)")
        } catch let error as LogError {
          #expect(isCorrupt(error))
          #expect(error.file == place.file)
          #expect(error.offset == place.offset)
          #expect(error.version == place.firstVersion)
          #expect(error.description.contains("\(place.file), offset \(place.offset), version \(place.firstVersion)"))
        }
      }
      #expect(files.paths.map { files[$0] } == before, "damage was refused, and yet a file was changed")
    }
  }

  @Test("A block that vouches for the damaged one is found wherever it lies")
  func distantWitness() throws {
    let files = SimulatedFileSystem()
    var configuration = smallLog(files)
    configuration.segmentBytes = 64 << 20
    let log = try ReplicationLog.create(configuration)
    var random = SeededGenerator(seed: 1)
    for size in [100, 700_001, 260_000, 100] { try log.write { $0.put("key", random.bytes(size)) } }
    let path = try #require(files.paths.first)
    files[path]?[300] ^= 1
    files[path]?[400_000] ^= 1
    #expect { try ReplicationLog.reopen(configuration) } throws: { isCorrupt($0) }
  }

  @Test("A file that is missing in the middle, or at either end of what is asked for, is noticed")
  func missingFile() throws {
    let sample = try Sample(seed: 1, blocks: 40)
    let paths = sample.files.paths
    #expect(paths.count > 3)
    let middle = sample.files.copy()
    middle[paths[1]] = nil
    #expect { try ReplicationLog.reopen(sample.with(middle)) } throws: { isCorrupt($0) }
    #expect { try ReplicationLog.reopen(sample.with(middle), after: sample.end) } throws: { isCorrupt($0) }
    #expect { try LogVerification.run(sample.with(middle)) } throws: { isCorrupt($0) }
    var reader = try LogReader(sample.with(middle))
    #expect { while try reader.next() != nil {} } throws: { isCorrupt($0) }

    let newest = sample.files.copy()
    newest[paths[paths.count - 1]] = nil
    #expect { try ReplicationLog.reopen(sample.with(newest), after: sample.end) } throws: { isCorrupt($0) }
    let short = sample.files.copy()
    short[paths[paths.count - 1]]?.removeLast(short[paths[paths.count - 1]]!.count - Int(sample.end.offset) + 8)
    #expect { try ReplicationLog.reopen(sample.with(short), after: sample.end) } throws: { isCorrupt($0) }
  }

  @Test("An empty newest file counts as not there; the log goes on", arguments: [0, 60, 4096])
  func hollowFile(size: Int) throws {
    let sample = try Sample(seed: 2, blocks: 30)
    let files = sample.files.copy()
    let configuration = sample.with(files)
    let hollow = "log/00000000000000009999.kvlog"
    files[hollow] = [UInt8](repeating: 0, count: size)
    files["log/00000000000000009999.kvlog.new"] = [1, 2, 3]
    var reader = try LogReader(configuration)
    #expect(try reader.all().count == 30)
    #expect(try LogVerification.run(configuration).blocks == 30)
    let (log, blocks) = try ReplicationLog.reopen(configuration)
    #expect(blocks == sample.blocks)
    #expect(files[hollow] == nil && files[hollow + ".new"] == nil)
    try log.write { $0.put("more", []) }
    #expect(try LogVerification.run(configuration).blocks == 31)
  }

  @Test("A file that is no segment, a newer format and another store's segment are told apart")
  func foreignFiles() throws {
    let sample = try Sample(seed: 3, blocks: 3)
    let path = try #require(sample.files.paths.first)

    let foreign = sample.files.copy()
    foreign[path]?.replaceSubrange(0..<8, with: Array("SQLite f".utf8))
    #expect { try ReplicationLog.reopen(sample.with(foreign)) } throws: { kind($0) == .foreign }

    let newer = sample.files.copy()
    newer[path]?[8] = 2
    #expect { try ReplicationLog.reopen(sample.with(newer)) } throws: {
      kind($0) == .newerFormat(found: 2, supported: 1)
    }

    var other = sample.with(sample.files.copy())
    other.identity = otherIdentity
    let expected = LogError.Kind.wrongStore(found: fixedIdentity, expected: otherIdentity)
    #expect { try ReplicationLog.reopen(other) } throws: { kind($0) == expected }
    #expect { try LogReader(other) } throws: { kind($0) == expected }

    let renamed = sample.files.copy()
    renamed["log/00000000000000000002.kvlog"] = renamed[path]
    renamed[path] = nil
    #expect { try ReplicationLog.reopen(sample.with(renamed)) } throws: { $0 is LogError }
    let stray = sample.files.copy()
    stray["log/lost+found"] = []
    stray["log/1.kvlog"] = [1]
    #expect(try ReplicationLog.reopen(sample.with(stray)).blocks == sample.blocks)
  }

  @Test("A block at another place than where it was written is not read there")
  func movedBlock() throws {
    let files = SimulatedFileSystem()
    let configuration = smallLog(files)
    let log = try ReplicationLog.create(configuration)
    // Two blocks of one size, without commits and before the same synchronisation: only their places differ.
    var builder = BlockBuilder(after: log.end)
    builder.append(.cursor, payload: [1])
    let middle = Int(try log.append(&builder).offset)
    builder.reset(after: log.end.version, digest: log.end.digest, origin: fixedIdentity)
    builder.append(.cursor, payload: [2])
    try log.append(&builder)
    try log.synchronize()
    try log.write { $0.append(.cursor, payload: [3]) }
    let path = try #require(files.paths.first)
    let content = try #require(files[path])
    files[path]?.replaceSubrange(128..<middle, with: content[middle..<2 * middle - 128])
    #expect { try ReplicationLog.reopen(configuration) } throws: { isCorrupt($0) }
  }

  @Test(
    "A block that checks and tells false versions or a false digest, or whose commits do: refused at opening and verifying",
    arguments: ["last version", "digest", "version of a commit"])
  func falseBlock(what: String) throws {
    let files = SimulatedFileSystem()
    let configuration = smallLog(files)
    let log = try ReplicationLog.create(configuration)
    try log.write { block in
      for key in ["a", "b"] {
        _ = block.beginCommit(time: HybridTime(milliseconds: 1))
        block.append(key: Array(key.utf8), value: [1])
        block.endCommit()
      }
    }
    let end = Int(log.end.offset)
    try log.close()
    let path = try #require(files.paths.first)
    var bytes = try #require(files[path])
    #expect(try ReplicationLog.reopen(configuration).blocks.count == 1)
    switch what {
    case "last version": bytes[128 + 16] += 1
    case "digest": bytes[128 + 48] ^= 1
    default: bytes[128 + BlockHeader.byteCount + 8] += 2
    }
    let block = Array(bytes[128..<end])
    let place = BlockHeader.place(identity: configuration.identity, segment: 1, offset: 128)
    let sum = unsafe BlockHeader.checksum(of: block.span.bytes, place: place)
    bytes.replaceSubrange(
      128 + BlockHeader.checksumOffset..<128 + BlockHeader.checksumOffset + 8,
      with: (0..<8).map { UInt8(truncatingIfNeeded: sum >> (8 * $0)) })
    files[path] = bytes
    #expect { try ReplicationLog.reopen(configuration) } throws: { isCorrupt($0) }
    #expect { try LogVerification.run(configuration) } throws: { isCorrupt($0) }
    // Nor does a reader that goes on get past it.
    var reader = try LogReader(configuration)
    for _ in 0..<2 { #expect { try reader.next() } throws: { isCorrupt($0) } }
  }

  @Test("A position that is none of this log's is refused")
  func wrongPosition() throws {
    let sample = try Sample(seed: 4, blocks: 30)
    var random = SeededGenerator(seed: 4)
    for _ in 0..<200 {
      var position = sample.end
      switch Int.random(in: 0..<6, using: &random) {
      case 4: position = LogPosition(segment: 1, offset: .max - 7, version: .max, digest: .zero)
      case 5: position.version = .max
      case 0: position.offset = UInt64.random(in: 0..<sample.end.offset, using: &random)
      case 1: position.segment = UInt64.random(in: 0..<sample.end.segment, using: &random)
      case 2: position.offset = sample.end.offset + 8 * UInt64.random(in: 1...100_000, using: &random)
      default: position = LogPosition(segment: 1, offset: 128, version: 5, digest: sample.end.digest)
      }
      #expect(throws: LogError.self) {
        var reader = try LogReader(sample.configuration, from: position)
        while try reader.next(through: sample.end) != nil {}
        // Beyond the end nothing is read: only what was asked for there can tell.
        if !position.precedes(sample.end), position != sample.end { throw LogFixtureError.nothingRead }
      }
    }
  }

  private enum LogFixtureError: Error { case nothingRead }
}
