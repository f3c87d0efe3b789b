// Appending, rolling over, reading and truncating, without faults.

import KVLog
import Synchronization
import TestSupport
import Testing

@Suite struct ReplicationLogTests {
  /// A log of several segments, with what was written to it.
  private func filled(
    _ configuration: LogConfiguration, _ random: inout SeededGenerator, blocks count: Int = 120
  ) throws -> (log: ReplicationLog, blocks: [[UInt8]], ends: [LogPosition]) {
    let log = try ReplicationLog.create(configuration)
    var blocks: [[UInt8]] = []
    var ends = [log.end]
    for _ in 0..<count {
      try log.write {
        $0.addRandom(&random)
        blocks.append($0.recordBytes)
      }
      ends.append(log.end)
    }
    return (log, blocks, ends)
  }

  @Test("What was appended comes back, from files and from memory alike", arguments: Seeds.all)
  func roundTrip(seed: UInt64) throws {
    let scratch = try Scratch()
    defer { withExtendedLifetime(scratch) {} }
    let directory = scratch.path("log")
    for configuration in [smallLog(SimulatedFileSystem()), smallLog(PosixFileSystem(), directory: directory)] {
      var random = SeededGenerator(seed: seed)
      let (log, blocks, ends) = try filled(configuration, &random)
      #expect(try log.segments.count > 3)
      let (reopened, replayed) = try ReplicationLog.reopen(configuration)
      #expect(replayed == blocks)
      #expect(reopened.end == ends.last)
      #expect(try reopened.segments.map(\.firstVersion) == log.segments.map(\.firstVersion))

      let place = Int.random(in: 0...blocks.count, using: &random)
      #expect(try ReplicationLog.reopen(configuration, after: ends[place]).blocks == Array(blocks[place...]))

      let verification = try LogVerification.run(configuration)
      #expect(verification.blocks == blocks.count && verification.commits == Int(log.end.version))
      #expect(try verification.end == log.end && verification.segments == log.segments.count)
      #expect(verification.unfinishedBytes == 0)
    }
  }

  @Test("A reader begins at any version, and at any position", arguments: Seeds.all)
  func readFromAnywhere(seed: UInt64) throws {
    let configuration = smallLog(SimulatedFileSystem())
    var random = SeededGenerator(seed: seed)
    let (log, blocks, ends) = try filled(configuration, &random)
    for version in 0...log.end.version {
      var reader = try LogReader(configuration, after: version)
      let rest = try reader.all().map(\.recordBytes)
      let before = ends.firstIndex { $0.version > version }.map { $0 - 1 } ?? blocks.count
      #expect(rest == Array(blocks[before...]))
      #expect(reader.position == log.end)
    }
    for (index, end) in ends.enumerated() {
      var reader = try LogReader(configuration, from: end)
      #expect(try reader.all().map(\.recordBytes) == Array(blocks[index...]))
    }
    #expect { try LogReader(configuration, after: log.end.version + 1) } throws: {
      ($0 as? LogError)?.kind == .beyondEnd(last: log.end.version)
    }
  }

  @Test("A reader stops at a limit", arguments: Seeds.all)
  func limit(seed: UInt64) throws {
    let configuration = smallLog(SimulatedFileSystem())
    var random = SeededGenerator(seed: seed)
    let (_, blocks, ends) = try filled(configuration, &random, blocks: 60)
    for limit in ends.indices {
      var reader = try LogReader(configuration)
      var count = 0
      while let block = try reader.next(through: ends[limit]) {
        try #require(block.recordBytes == blocks[count])
        count += 1
      }
      #expect(count == limit)
      #expect(try reader.all().count == blocks.count - limit)
    }
  }

  @Test("The digest at a version is the same in the log, in a reader and in what is read again")
  func digests() throws {
    let configuration = smallLog(SimulatedFileSystem())
    var random = SeededGenerator(seed: 4)
    let (log, _, ends) = try filled(configuration, &random)
    for end in ends {
      #expect(try LogReader.digest(at: end.version, configuration) == end.digest)
    }
    let middle = try #require(log.segments.dropFirst(2).first?.firstVersion)
    try log.truncate(before: middle)
    #expect(try LogReader.digest(at: middle - 1, configuration) == ends.last { $0.version == middle - 1 }?.digest)
    #expect(throws: LogError.self) { try LogReader.digest(at: middle - 2, configuration) }
    #expect(throws: LogError.self) { try LogReader.digest(at: log.end.version + 1, configuration) }
    #expect(throws: LogError.self) { try LogReader.digest(at: .max, configuration) }
  }

  @Test("A reader beside a writer sees each block once it is there, across segments", arguments: Seeds.all)
  func tail(seed: UInt64) throws {
    let configuration = smallLog(SimulatedFileSystem())
    var random = SeededGenerator(seed: seed)
    let log = try ReplicationLog.create(configuration)
    var readers = [try LogReader(configuration)]
    var seen: [[[UInt8]]] = [[]]
    var missed = [0]
    var written: [[UInt8]] = []
    for step in 0..<150 {
      for _ in 0..<Int.random(in: 0...3, using: &random) {
        try log.write {
          $0.addRandom(&random)
          written.append($0.recordBytes)
        }
      }
      if step % 30 == 7 {
        readers.append(try LogReader(configuration, from: log.end))
        seen.append([])
        missed.append(written.count)
      }
      for index in readers.indices where Bool.random(using: &random) {
        while let block = try readers[index].next() { seen[index].append(block.recordBytes) }
        #expect(seen[index] == Array(written[missed[index]...]))
        #expect(readers[index].position == log.end)
      }
    }
    #expect(try log.segments.count > 3)
  }

  @Test("Truncation removes whole segments below a version, and readers of older versions are told")
  func truncation() throws {
    let configuration = smallLog(SimulatedFileSystem())
    var random = SeededGenerator(seed: 5)
    let (log, blocks, ends) = try filled(configuration, &random)
    let segments = try log.segments
    let third = segments[2].firstVersion
    var behind = try LogReader(configuration)
    _ = try behind.next()

    #expect(try log.truncate(before: segments[1].firstVersion - 1) == 0)
    #expect(try log.firstVersion == 1)
    #expect(try log.truncate(before: third + 1) == 2)
    #expect(try log.firstVersion == third)
    #expect(try log.segments == Array(segments[2...]))

    #expect { try LogReader(configuration, after: third - 2) } throws: {
      ($0 as? LogError)?.kind == .expired(first: third)
    }
    #expect { try LogReader(configuration, from: ends[0]) } throws: {
      ($0 as? LogError)?.kind == .expired(first: third)
    }
    #expect { try ReplicationLog.reopen(configuration) } throws: {
      ($0 as? LogError)?.kind == .expired(first: third)
    }
    // Its segment is open and stays readable; the one after it is gone.
    #expect { while try behind.next() != nil {} } throws: { ($0 as? LogError)?.kind == .expired(first: third) }
    #expect(behind.position.version == segments[1].firstVersion - 1)

    var reader = try LogReader(configuration, after: third - 1)
    let rest = try reader.all().map(\.recordBytes)
    #expect(rest == Array(blocks.suffix(rest.count)))
    #expect(try log.truncate(before: .max) == segments.count - 3)
    #expect(try log.segments.count == 1)
    try log.write { $0.put("on it goes", []) }
    #expect(try LogVerification.run(configuration).end == log.end)
  }

  @Test("A segment that is truncated between the look at the directory and the look at the file has expired, no more")
  func truncationBesideReader() throws {
    let files = LateList()
    let configuration = smallLog(files)
    var random = SeededGenerator(seed: 5)
    let (log, _, _) = try filled(configuration, &random)
    let segments = try log.segments
    let third = segments[2].firstVersion
    var behind = try LogReader(configuration)
    while behind.position.version < segments[1].firstVersion - 1 { _ = try behind.next() }
    let before = try files.list(configuration.directory)
    #expect(try log.truncate(before: third) == 2)
    files.show(before)
    #expect { try behind.next() } throws: { ($0 as? LogError)?.kind == .expired(first: third) }
    files.show(before)
    #expect { try LogReader(configuration, from: behind.position) } throws: {
      ($0 as? LogError)?.kind == .expired(first: third)
    }
    files.show(before)
    #expect { try LogReader(configuration, after: 0) } throws: { ($0 as? LogError)?.kind == .expired(first: third) }
    files.show(before)
    #expect(try SegmentDirectory.segments(configuration).map(\.firstVersion) == segments[2...].map(\.firstVersion))
  }

  @Test("A commit larger than a segment gets one of its own")
  func largeCommit() throws {
    let configuration = smallLog(SimulatedFileSystem())
    let log = try ReplicationLog.create(configuration)
    var random = SeededGenerator(seed: 6)
    let large = random.bytes(300_000)
    try log.write { $0.put("small", [1]) }
    try log.write { $0.put("large", large) }
    try log.write { $0.put("small", [2]) }
    #expect(try log.segments.map(\.firstVersion) == [1, 2, 3])
    #expect(try log.segments[1].bytes < 310_000)
    let (reopened, blocks) = try ReplicationLog.reopen(configuration)
    #expect(blocks.count == 3 && blocks[1].count > 300_000)
    #expect(reopened.end == log.end)
    var reader = try LogReader(configuration, after: 1)
    #expect(try reader.all().map(\.recordBytes) == Array(blocks[1...]))
  }

  @Test("Blocks without commits neither get versions nor segments of their own")
  func noCommits() throws {
    let configuration = smallLog(SimulatedFileSystem())
    let log = try ReplicationLog.create(configuration)
    let payload = [UInt8](repeating: 7, count: 5000)
    for _ in 0..<8 { try log.write { $0.append(.cursor, payload: payload) } }
    #expect(try log.segments.count == 1 && log.end.version == 0)
    try log.write { $0.put("a", []) }
    for _ in 0..<8 { try log.write { $0.append(.cursor, payload: payload) } }
    #expect(try log.segments.map(\.firstVersion) == [1, 2])
    let (reopened, blocks) = try ReplicationLog.reopen(configuration)
    #expect(blocks.count == 17 && reopened.end == log.end)
    #expect(try LogReader.digest(at: 1, configuration) == log.end.digest)
  }

  @Test("Opening reads of earlier segments no more than their headers")
  func opensWithoutReading() throws {
    let files = SimulatedFileSystem()
    let configuration = smallLog(files)
    var random = SeededGenerator(seed: 7)
    let (log, _, ends) = try filled(configuration, &random)
    let newest = log.end.segment
    let position = try #require(ends.first { $0.segment == newest })
    files.forgetReads()
    _ = try ReplicationLog.reopen(configuration, after: position)
    for (path, bytes) in files.reads where !path.contains("\(newest).kvlog") {
      #expect(bytes == 128, "\(path)")
    }
  }

  @Test("A commit into space written ahead takes one synchronisation of data, and growing is rare")
  func synchronisations() throws {
    let files = SimulatedFileSystem()
    var configuration = smallLog(files)
    configuration.segmentBytes = 64 << 20
    configuration.smallestPrewriteBytes = 64 << 10
    configuration.largestPrewriteBytes = 4 << 20
    let log = try ReplicationLog.create(configuration)
    let full = files.fullSynchronizations
    var sizes: Set<UInt64> = []
    for _ in 0..<1500 {
      try log.write { $0.put("key", [UInt8](repeating: 1, count: 1000)) }
      sizes.formUnion(try log.segments.map(\.bytes))
    }
    #expect(files.dataSynchronizations == 1500)
    #expect(files.fullSynchronizations - full == 5)
    #expect(sizes.sorted() == [64, 128, 256, 512, 1024, 2048].map { $0 << 10 })
    try log.close()
    #expect(files.used == Int(log.end.offset))
  }

  @Test("A log is not begun where there is one, and not opened where there is none")
  func presence() throws {
    let configuration = smallLog(SimulatedFileSystem())
    #expect(throws: LogError.self) { try ReplicationLog.reopen(configuration) }
    #expect(throws: LogError.self) { try LogReader(configuration) }
    #expect(throws: LogError.self) { try LogVerification.run(configuration) }
    _ = try ReplicationLog.create(configuration)
    #expect(throws: LogError.self) { try ReplicationLog.create(configuration) }
  }

  @Test("Reading and truncating go on while another thread appends")
  func threads() async throws {
    let scratch = try Scratch()
    defer { withExtendedLifetime(scratch) {} }
    let directory = scratch.path("log")
    let configuration = smallLog(PosixFileSystem(), directory: directory)
    let log = try ReplicationLog.create(configuration)
    let last: Version = 1500
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask {
        var builder = BlockBuilder()
        while log.end.version < last {
          builder.reset(after: log.end.version, digest: log.end.digest, origin: fixedIdentity)
          builder.put("key \(log.end.version)", [UInt8](repeating: 3, count: 200))
          try log.append(&builder)
        }
        try log.synchronize()
      }
      group.addTask {
        var reader = try LogReader(configuration)
        var version: Version = 0
        while version < last {
          while let block = try reader.next() {
            #expect(block.firstVersion == version + 1)
            version = block.lastVersion
            try log.truncate(before: version)
          }
          await Task.yield()
        }
        #expect(reader.position == log.end)
      }
      try await group.waitForAll()
    }
    #expect(try log.firstVersion > 1)
  }
}

/// Files whose directory is shown once as it was a moment ago.
private final class LateList: LogFileSystem {
  private let files = SimulatedFileSystem()
  private let names = Mutex<[String]?>(nil)

  func show(_ names: [String]) { self.names.withLock { $0 = names } }

  func list(_ directory: String) throws(SystemError) -> [String] {
    if let names = names.withLock({ $0.take() }) { return names }
    return try files.list(directory)
  }

  func open(_ path: String, _ mode: LogFileMode) throws(SystemError) -> any LogFile { try files.open(path, mode) }
  func rename(_ path: String, to target: String) throws(SystemError) { try files.rename(path, to: target) }
  func unlink(_ path: String) throws(SystemError) { try files.unlink(path) }
  func synchronizeDirectory(_ path: String) throws(SystemError) { try files.synchronizeDirectory(path) }
  func makeDirectory(_ path: String) throws(SystemError) { try files.makeDirectory(path) }
}
