// One small LMDB scratch file of the tail, open in this process.
//
// Invariants
// - The live generation takes writes; a sealed one never changes.
// - A generation is scratch, unless it has a certificate (see `Certificate`), and its file is preallocated, so that a full
//   disk is an error and never a SIGBUS.

import Foundation
import KVLog
import LMDB
import Synchronization

final class Generation: Sendable {
  let environment: LMDBEnvironment
  let tables: Tables
  let number: UInt32
  let capacity: Int
  private let memory: SharedMemory
  private struct Filter {
    var made: KeyFilter?
    var isTried = false
  }
  /// Made once the generation is sealed.
  private let filter = Mutex(Filter())

  /// Creates the file; throws `LMDBError` when there is no space for all of it.
  init(creating number: UInt32, path: String, capacity: Int, home: Identity, _ memory: SharedMemory) throws {
    // What a process left that died before it could announce its generation.
    Generation.remove(path)
    var options = Generation.options(capacity)
    options.preallocate = true
    environment = try LMDBEnvironment(path: path, options: options)
    tables = Tables(try environment.openTables(Tables.names, create: true), home: home)
    memory.setCapacity(capacity, of: number)
    self.number = number
    self.capacity = capacity
    self.memory = memory
  }

  /// Opens what another process has made; `verified`: after a look at the structure of all of it.
  init(joining number: UInt32, path: String, home: Identity, _ memory: SharedMemory, verified: Bool = false) throws {
    capacity = memory.capacity(of: number)
    var options = Generation.options(capacity)
    options.mustExist = true
    if verified { options.verifiedBytes = 2 * capacity }
    environment = try LMDBEnvironment(path: path, options: options)
    tables = Tables(try environment.openTables(Tables.names, create: false), home: home)
    self.number = number
    self.memory = memory
  }

  private static func options(_ capacity: Int) -> LMDBEnvironment.Options {
    var options = LMDBEnvironment.Options(mapSizeBytes: capacity)
    options.withoutSync = true
    options.writeMap = true
    return options
  }

  /// Until the first commit: readers leave an empty generation out.
  var isEmpty: Bool { !memory.isFilled(number) }

  func markFilled() { memory.markFilled(number) }

  var isNearlyFull: Bool {
    environment.statistics.usedBytes * 100 > capacity * StoreLimits.generationFillPercent
  }

  var freeBytes: Int { capacity - environment.statistics.usedBytes }

  func source() throws(LMDBError) -> Source {
    Source(reader: try environment.reader(), tables: tables, filter: filter.withLock { $0.made })
  }

  /// Has the snapshots from now on pass over this generation for keys that it does not have; it must be sealed. A damaged
  /// one is left to the reads that meet the damage.
  func makeFilter() throws(LMDBError) {
    guard !isEmpty, filter.withLock({ !$0.isTried }) else { return }
    let source = try source()
    let made = try? KeyFilter(source)
    filter.withLock { $0 = Filter(made: made, isTried: true) }
  }

  func removeFiles() { Generation.remove(environment.path) }

  static func remove(_ path: String) {
    Certificate.remove(ofGenerationAt: path)
    unsafe unlink(path)
    unsafe unlink(path + "-lock")
  }
}
