// A view of a store's durable contents that changes nothing: the index as of one moment, and a private tail replayed
// from the log behind it.
//
// Invariants
// - Works beside a writer, and after one that crashed: it takes no lock and trusts only the index and the log.
// - The index's reader is held open for as long as the view lives; a later index would be ahead of the private tail.
// - What it shows is durable: the log that it replayed is synchronised first.

import Foundation
import KVLog
import LMDB

final class ReadOnlyStore: @unchecked Sendable {
  // Sound to send: everything is constant once it is made, and of that only the sources, which are LMDB's readers, bear one
  // thread at a time. `read` is all that uses them, under `lock`; a read may contain another, as each walks cursors of its
  // own. So the lock is recursive, which `Mutex` is not.
  private let lock = NSRecursiveLock()
  private let sources: [Source]
  private let start: StoreState
  private let path: String
  let state: StoreState
  let index: Index
  /// What the processes share that have the store open; nil when there were none at the time.
  let memory: SharedMemory?
  let ownProcess = getpid()
  /// Kept for its readers; its files have no names any more.
  private let tail: Tail?

  init(
    _ directory: StoreDirectory, identity: Identity, configuration: LogConfiguration, _ sizes: Index.Sizes
  ) throws {
    path = directory.path
    index = try Index(path: directory.index, readOnly: true, identity: identity, sizes)
    memory = try? SharedMemory(joining: Tail.memoryPath(directory.tail))
    var attempts = 0
    while true {
      do {
        (sources, start, state, tail) = try ReadOnlyStore.view(directory, index, identity, configuration)
        return
      } catch let error as LogError where error.isTruncation && attempts < 10 {
        // The writer folded and truncated between our look at the index and at the log: look again.
        attempts += 1
      }
    }
  }

  private static func view(
    _ directory: StoreDirectory, _ index: Index, _ identity: Identity, _ configuration: LogConfiguration
  ) throws -> ([Source], start: StoreState, StoreState, Tail?) {
    let source = try index.source()
    let start = try Index.state(source) ?? StoreState(start: identity)
    var reader = try LogReader(configuration, from: start.position)
    var recovery: Recovery?
    do {
      while let block = try nextBlock(&reader) {
        if recovery == nil {
          let tail = try Tail(unnamedIn: scratch, home: index.tables.home)
          recovery = Recovery(tail: tail, state: start)
        }
        try recovery?.apply(block)
      }
      try recovery?.finish()
    } catch let error where StoreError.isFull(error) {
      throw StoreError(
        .full,
        "no space for reading what the store's writer left unfolded (\(error)). Free some space there, or set TMPDIR.",
        path: scratch)
    }
    var sources = try recovery?.tail.withSources(live: true, index: nil) ?? []
    sources.append(source)
    if recovery != nil { try reader.synchronize() }
    return (sources, start, recovery?.state ?? start, recovery?.tail)
  }

  /// The next block; nil at the end of the log, which is an error when something lies behind it that had been durable.
  private static func nextBlock(_ reader: inout LogReader) throws -> Block? {
    if let block = try reader.next() { return block }
    do throws(LogError) {
      try reader.refuseDamage()
      return nil
    } catch {
      // Not damage, if the writer has finished the block between the two looks.
      if let block = try reader.next() { return block }
      throw error
    }
  }

  /// Where the private tail's files lie, without names.
  private static var scratch: String {
    let path = NSTemporaryDirectory()
    return path.hasSuffix("/") && path.count > 1 ? String(path.dropLast()) : path
  }

  /// Calls of different threads are one at a time: they share one set of LMDB readers.
  func read<Result>(_ body: (Snapshot) throws -> Result) throws -> Result {
    lock.lock()
    defer { lock.unlock() }
    return try body(Snapshot(sources: sources, start: start, path: path))
  }
}

extension LogError {
  /// Whether a segment has gone that was there a moment ago.
  var isTruncation: Bool {
    switch kind {
    case .expired, .system(ENOENT): true
    default: false
    }
  }
}
