// Finds the read that keeps disk space from being used again.

import KVLog
import LMDB

/// A read that goes on while the store changes.
public struct OldestReader: Sendable, Equatable {
  /// The process that reads.
  public var process: Int32
  /// For how long it has held something back, in seconds: its snapshot is at least that old.
  public var seconds: Double
  /// Bytes of the index's file that could be used again if it ended.
  public var heldBytes: Int

  /// nil: no reader is older than the index's last commits that `memory` remembers.
  fileprivate init?(_ index: Index, _ memory: SharedMemory, except own: Int32? = nil) throws(LMDBError) {
    let environment = index.environment
    let readers = try environment.openReaders().filter { $0.process != own }
    guard let oldest = readers.min(by: { $0.transaction < $1.transaction }),
      let since = memory.timeOfFold(after: oldest.transaction)
    else { return nil }
    process = oldest.process
    seconds = Double(max(monotonicMilliseconds(), since) - since) / 1000
    heldBytes = try environment.pagesFreed(after: oldest.transaction) * environment.statistics.pageSize
  }
}

extension StoreCore {
  func oldestReader() throws -> OldestReader? {
    idleSnapshots.expire()
    _ = try index.environment.checkReaders()
    return try OldestReader(index, memory)
  }
}

extension Store {
  /// The processes that have a reader in the index or in a generation of the tail, dead ones included.
  package func readingProcesses() throws -> Set<Int32> {
    let core = try core()
    let environments = [core.index.environment] + (try core.tail.oldestFirst(live: true).map(\.environment))
    return Set(try environments.flatMap { try $0.openReaders().map(\.process) })
  }
}

extension ReadOnlyStore {
  /// Of other processes; nil also when none of them has the store open for writing.
  func oldestReader() throws -> OldestReader? {
    guard let memory else { return nil }
    return try OldestReader(index, memory, except: ownProcess)
  }
}
