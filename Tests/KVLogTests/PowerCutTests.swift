// The log after a loss of power at any moment.

import KVLog
import TestSupport
import Testing

@Suite struct PowerCutTests {
  /// What must come back: everything appended, in order, and how much of it had been synchronised.
  private struct Oracle {
    var isCreated = false
    var blocks: [[UInt8]] = []
    /// `ends[i]` is the position after `i` blocks.
    var ends: [LogPosition] = [.start(of: fixedIdentity)]
    var durable = 0
    /// A position that is known to be durable, as an index would keep it, in blocks.
    var index = 0
    /// How often the next segment was prepared.
    var prepared = 0
  }

  /// Appends, synchronises, truncates and reopens at random, until it is through or the power goes.
  private func work(
    _ configuration: LogConfiguration, _ oracle: inout Oracle, _ random: inout SeededGenerator, steps: Int
  ) throws {
    var log = try ReplicationLog.create(configuration)
    oracle.isCreated = true
    for step in 0..<steps {
      switch Int.random(in: 0..<16, using: &random) {
      case 0..<8:
        if random.chance(50), log.beginPreparingSegment() {
          oracle.prepared += 1
          log.prepareSegment(1, UInt64(step), leaving: 0) { true }
        }
        var builder = BlockBuilder(after: log.end)
        builder.addRandom(&random, largestValue: Int.random(in: 0..<20, using: &random) == 0 ? 9000 : 700)
        oracle.blocks.append(builder.recordBytes)
        // The block may survive even if the power goes during the append.
        var end = log.end
        end.version = builder.lastVersion
        end.digest = builder.digest
        oracle.ends.append(end)
        oracle.ends[oracle.ends.count - 1] = try log.append(&builder)
      case 8..<12:
        try log.synchronize()
        oracle.durable = oracle.blocks.count
      case 12:
        oracle.index = Int.random(in: oracle.index...oracle.durable, using: &random)
      case 13:
        try log.truncate(before: oracle.ends[oracle.index].version)
      default:
        if Bool.random(using: &random) {
          try log.close()
          oracle.durable = oracle.blocks.count
        }
        log = try ReplicationLog.open(configuration, after: oracle.ends[oracle.index]) { _ in }
        oracle.durable = oracle.blocks.count
      }
    }
  }

  /// Opens and compares. The number of blocks that came back.
  private func check(_ configuration: LogConfiguration, _ oracle: Oracle) throws -> Int {
    let (log, blocks) = try ReplicationLog.reopen(configuration, after: oracle.ends[oracle.index])
    let count = oracle.index + blocks.count
    try #require(count >= oracle.durable, "a synchronised block is gone")
    try #require(count <= oracle.blocks.count, "a block came back that was never appended")
    try #require(blocks == Array(oracle.blocks[oracle.index..<count]), "a block came back changed")
    try #require(log.end.version == oracle.ends[count].version)
    try #require(log.end.digest == oracle.ends[count].digest, "the digest does not follow from the commits")
    let verification = try LogVerification.run(configuration)
    try #require(verification.end == log.end)
    try #require(verification.unfinishedBytes == 0)
    return count
  }

  @Test(
    "After a power cut at any operation every synchronised block is there, and nothing is torn", arguments: Seeds.all)
  func cutAnywhere(seed: UInt64) throws {
    let files = SimulatedFileSystem()
    var whole = Oracle()
    var random = SeededGenerator(seed: seed)
    try work(smallLog(files), &whole, &random, steps: 60)
    let operations = files.operations
    #expect(operations > 100)
    #expect(whole.prepared > 0)

    var survivedUnsynchronised = 0
    for operation in 0..<operations {
      let files = SimulatedFileSystem()
      let configuration = smallLog(files)
      var oracle = Oracle()
      var random = SeededGenerator(seed: seed)
      files.cutPower(after: operation)
      do {
        try work(configuration, &oracle, &random, steps: 60)
        Issue.record("operation \(operation) of \(operations) did not happen")
      } catch is LogError {
        try #require(files.isOff)
      }
      var chance = SeededGenerator(seed: seed ^ UInt64(operation) << 32)
      files.restart(SimulatedFileSystem.Mode.allCases.randomElement(using: &chance) ?? .mixed, &chance)
      if !oracle.isCreated, !files.paths.contains(where: { $0.hasSuffix(".kvlog") }) {
        _ = try ReplicationLog.create(configuration)
        continue
      }

      // The power goes again, while the log is being opened.
      files.cutPower(after: Int.random(in: 0..<8, using: &chance))
      _ = try? ReplicationLog.reopen(configuration, after: oracle.ends[oracle.index])
      files.restart(SimulatedFileSystem.Mode.allCases.randomElement(using: &chance) ?? .mixed, &chance)

      let count = try check(configuration, oracle)
      if count > oracle.durable { survivedUnsynchronised += 1 }

      // What came back is durable now, and the log goes on from there.
      oracle.blocks.removeLast(oracle.blocks.count - count)
      oracle.ends.removeLast(oracle.ends.count - count - 1)
      oracle.durable = count
      files.restart(.lost, &chance)
      let (log, _) = try ReplicationLog.reopen(configuration, after: oracle.ends[oracle.index])
      oracle.ends[count] = log.end
      var builder = BlockBuilder(after: log.end)
      builder.addRandom(&chance)
      oracle.blocks.append(builder.recordBytes)
      oracle.ends.append(try log.append(&builder))
      try log.synchronize()
      oracle.durable += 1
      files.restart(.mixed, &chance)
      _ = try check(configuration, oracle)
    }
    // Otherwise the simulation only ever loses or keeps everything, and shows nothing about torn ends.
    #expect(survivedUnsynchronised > 0)
  }

  @Test("A block that the kernel shows but never wrote is durable once the log has been opened")
  func failedSynchronizationThenPowerCut() throws {
    let files = SimulatedFileSystem()
    let configuration = smallLog(files)
    var log = try ReplicationLog.create(configuration)
    try log.write { $0.put("a", [1]) }
    files.failSynchronizations(1)
    #expect(throws: LogError.self) { try log.write { $0.put("b", [2]) } }

    let reopened = try ReplicationLog.reopen(configuration)
    log = reopened.log
    #expect(reopened.blocks.count == 2)
    var random = SeededGenerator(seed: 1)
    files.restart(.lost, &random)
    #expect(try ReplicationLog.reopen(configuration).blocks.count == 2)
    try #require(log.end.version == 2)
  }

  @Test("An unfinished block at the end is cut, also when a whole one lies behind it", arguments: [false, true])
  func tornTail(hasFollower: Bool) throws {
    let files = SimulatedFileSystem()
    let configuration = smallLog(files)
    let log = try ReplicationLog.create(configuration)
    try log.write { $0.put("kept", [1]) }
    let torn = log.end
    for index in 0...(hasFollower ? 1 : 0) {
      var builder = BlockBuilder(after: log.end)
      builder.put("unsynchronised \(index)", [UInt8](repeating: 9, count: 300))
      try log.append(&builder)
    }
    let path = configuration.directory + "/00000000000000000001.kvlog"
    files[path]?[Int(torn.offset) + 100] ^= 1
    #expect(try LogVerification.run(configuration).unfinishedBytes > 0)

    let (reopened, blocks) = try ReplicationLog.reopen(configuration)
    #expect(blocks.count == 1)
    #expect(reopened.end == torn)
    // The same bytes again would bring the follower back, had it not been cut.
    try reopened.write { $0.put("unsynchronised 0", [UInt8](repeating: 9, count: 300)) }
    #expect(try ReplicationLog.reopen(configuration).blocks.count == 2)
  }
}
