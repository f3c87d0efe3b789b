// Full disks and failing disks.

import KVLog
import TestSupport
import Testing

@Suite struct FaultTests {
  @Test("A full disk appends nothing and leaves the log usable, whenever it strikes", arguments: Seeds.all)
  func fullDisk(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let files = SimulatedFileSystem()
    let configuration = smallLog(files)
    var log = try ReplicationLog.create(configuration)
    var written: [[UInt8]] = []
    var refusals = 0
    var builder = BlockBuilder()
    for step in 0..<200 {
      files.setCapacity(step % 3 == 0 ? .max : files.used + Int.random(in: 0...9000, using: &random))
      let end = log.end
      builder.reset(after: end.version, digest: end.digest, origin: fixedIdentity)
      builder.addRandom(&random, largestValue: 3000)
      do {
        try log.append(&builder)
        try log.synchronize()
        written.append(builder.recordBytes)
      } catch {
        #expect(error.kind == .full)
        #expect(log.end == end || log.end.version == end.version && log.end.digest == end.digest)
        refusals += 1
        if Bool.random(using: &random) {
          // The same block again, once there is room.
          files.setCapacity(.max)
          if log.end == end {
            try log.append(&builder)
            try log.synchronize()
            written.append(builder.recordBytes)
          }
        }
      }
      guard step % 20 == 19 else { continue }
      files.restart(.lost, &random)
      let reopened = try ReplicationLog.reopen(configuration)
      #expect(reopened.blocks == written)
      log = reopened.log
    }
    #expect(refusals > 10)
  }

  @Test("A disk with room for the block but not for the step ahead takes the block")
  func nearlyFull() throws {
    let files = SimulatedFileSystem()
    var configuration = smallLog(files)
    configuration.segmentBytes = 1 << 20
    configuration.smallestPrewriteBytes = 64 << 10
    configuration.largestPrewriteBytes = 64 << 10
    let log = try ReplicationLog.create(configuration)
    files.setCapacity(files.used + 8 << 10)
    try log.write { $0.put("key", [UInt8](repeating: 1, count: 66 << 10)) }
    #expect { try log.write { $0.put("key", [UInt8](repeating: 1, count: 20 << 10)) } } throws: {
      ($0 as? LogError)?.kind == .full
    }
    try log.write { $0.put("key", [1]) }
  }

  @Test("After a failed synchronisation the log refuses everything until it is opened again")
  func failedSynchronization() throws {
    let files = SimulatedFileSystem()
    let configuration = smallLog(files)
    let log = try ReplicationLog.create(configuration)
    try log.write { $0.put("a", []) }
    files.failSynchronizations(1)
    let attempts = files.dataSynchronizations
    #expect { try log.write { $0.put("b", []) } } throws: { ($0 as? LogError)?.kind == .system(5) }
    #expect { try log.synchronize() } throws: { ($0 as? LogError)?.kind == .poisoned }
    #expect { try log.write { $0.put("c", []) } } throws: { ($0 as? LogError)?.kind == .poisoned }
    #expect(files.dataSynchronizations == attempts + 1, "a failed synchronisation was tried again")
    let reopened = try ReplicationLog.reopen(configuration)
    try reopened.log.write { $0.put("d", []) }
    #expect(try LogVerification.run(configuration).end == reopened.log.end)
  }

  @Test("After a failed write the log refuses everything until it is opened again, which cuts what was half written")
  func failedWrite() throws {
    let files = SimulatedFileSystem()
    let configuration = smallLog(files)
    let log = try ReplicationLog.create(configuration)
    try log.write { $0.put("a", []) }
    files.failWrites(1)
    #expect { try log.write { $0.put("b", [UInt8](repeating: 1, count: 500)) } } throws: {
      ($0 as? LogError)?.kind == .system(5)
    }
    #expect { try log.write { $0.put("c", []) } } throws: { ($0 as? LogError)?.kind == .poisoned }
    let reopened = try ReplicationLog.reopen(configuration)
    #expect(reopened.blocks.count == 1)
    try reopened.log.write { $0.put("d", []) }
    #expect(try ReplicationLog.reopen(configuration).blocks.count == 2)
  }

  @Test("A failure while a segment is sealed or begun loses nothing", arguments: 0..<12)
  func failureWhileRolling(operation: Int) throws {
    let files = SimulatedFileSystem()
    let configuration = smallLog(files)
    let log = try ReplicationLog.create(configuration)
    try log.write { $0.put("a", [UInt8](repeating: 1, count: 12_000)) }
    files.cutPower(after: operation)
    let isAppended = (try? log.write { $0.put("b", [UInt8](repeating: 2, count: 8000)) }) != nil
    var random = SeededGenerator(seed: UInt64(operation))
    files.restart(.mixed, &random)
    let blocks = try ReplicationLog.reopen(configuration).blocks
    #expect(blocks.count == 2 || blocks.count == 1 && !isAppended)
  }
}
