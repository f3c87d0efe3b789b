// Taking the last block back: what happens when the log has room for a group and the tail has none.

import KVLog
import TestSupport
import Testing

@Suite struct RetractTests {
  /// Appends `count` random blocks and synchronises them; gives their records.
  private func fill(_ log: ReplicationLog, _ count: Int, _ random: inout SeededGenerator) throws -> [[UInt8]] {
    try (0..<count).map { _ in
      var builder = BlockBuilder(after: log.end)
      builder.addRandom(&random)
      try log.append(&builder)
      try log.synchronize()
      return builder.recordBytes
    }
  }

  @Test(
    "A block that was taken back was never there, in whatever segment it lay, and the log goes on", arguments: Seeds.all
  )
  func takenBack(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let files = SimulatedFileSystem()
    let configuration = smallLog(files)
    let log = try ReplicationLog.create(configuration)
    var written = try fill(log, 3, &random)
    var segments = 0
    for _ in 0..<40 {
      let before = log.end
      var builder = BlockBuilder(after: before)
      builder.addRandom(&random, largestValue: 5_000)
      try log.append(&builder)
      if random.chance(50) { try log.synchronize() }
      if log.end.segment != before.segment { segments += 1 }
      try log.retract()
      #expect(log.end.version == before.version && log.end.digest == before.digest)
      #expect(log.synchronizedThrough == log.end.offset)
      files.restart(.lost, &random)
      #expect(try LogVerification.run(configuration).end == log.end)
      written += try fill(log, random.below(3), &random)
    }
    #expect(segments > 0, "no block that was taken back had begun a segment")
    files.restart(.lost, &random)
    #expect(try ReplicationLog.reopen(configuration).blocks == written)
  }

  @Test("A power cut while a block is taken back leaves it whole or not at all, and afterwards it never comes back")
  func powerCut() throws {
    var random = SeededGenerator()
    var survived = 0
    var cuts = 0
    for isSynchronized in [false, true] {
      for mode in SimulatedFileSystem.Mode.allCases {
        for operation in 0..<12 {
          let files = SimulatedFileSystem()
          let configuration = smallLog(files)
          let log = try ReplicationLog.create(configuration)
          let durable = try fill(log, 4, &random)
          var builder = BlockBuilder(after: log.end)
          builder.put("taken back", random.bytes(2_000))
          try log.append(&builder)
          if isSynchronized { try log.synchronize() }
          let refused = builder.recordBytes
          files.cutPower(after: operation)
          var isTakenBack = false
          var next: [[UInt8]] = []
          do {
            try log.retract()
            isTakenBack = true
            // Of the same size, so that what is left of one could pass for a part of the other.
            builder.reset(after: log.end.version, digest: log.end.digest, origin: fixedIdentity)
            builder.put("another", random.bytes(2_003))
            next = [builder.recordBytes]
            try log.append(&builder)
            try log.synchronize()
          } catch { #expect(files.isOff) }
          if files.isOff { cuts += 1 }
          files.restart(mode, &random)
          let (again, blocks) = try ReplicationLog.reopen(configuration)
          let end = Array(blocks.dropFirst(4))
          #expect(Array(blocks.prefix(4)) == durable, "operation \(operation)")
          if isTakenBack { #expect(end.isEmpty || end == next) } else { #expect(end.isEmpty || end == [refused]) }
          if end == [refused] { survived += 1 }
          let last = try fill(again, 1, &random)
          files.restart(.lost, &random)
          #expect(try ReplicationLog.reopen(configuration).blocks == blocks + last)
        }
      }
    }
    #expect(survived > 0 && cuts > 10)
  }

  @Test("A block that lies where one was taken back is synchronised, though that one was being synchronised just then")
  func duringSynchronization() throws {
    let files = SimulatedFileSystem()
    let configuration = smallLog(files)
    let log = try ReplicationLog.create(configuration)
    try log.write { $0.put("durable", [1]) }
    var builder = BlockBuilder(after: log.end)
    builder.put("taken back", [UInt8](repeating: 2, count: 1_000))
    try log.append(&builder)
    files.duringNextSynchronization {
      do {
        try log.retract()
        var builder = BlockBuilder(after: log.end)
        builder.put("in its place", [3])
        try log.append(&builder)
      } catch { Issue.record(error) }
    }
    _ = try log.synchronizeAside()
    try log.synchronize()
    var random = SeededGenerator(seed: 1)
    files.restart(.lost, &random)
    #expect(try ReplicationLog.reopen(configuration).blocks.count == 2)
  }
}
