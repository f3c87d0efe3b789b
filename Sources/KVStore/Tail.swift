// The newest commits by key, in small LMDB scratch files called generations.
//
// Invariants
// - One generation is live and takes writes; sealed ones, oldest first, wait for the folder and never change.
// - A generation is scratch: it survives no reopening, and its file is preallocated, so that a full disk is an error
//   and never a SIGBUS.
// - The list changes only under `contents`; a snapshot takes its readers under the same lock, so that no commit of a
//   generation sealed after it can have reached the index it sees.

import Foundation
import KVLog
import LMDB
import Synchronization

final class Generation: Sendable {
  let environment: LMDBEnvironment
  let tables: Tables
  let capacity: Int
  /// False until the first commit: readers skip an empty generation.
  private let filled = Atomic<Bool>(false)

  /// Creates the file; throws `LMDBError` when there is no space for all of it.
  init(path: String, capacity: Int) throws {
    var options = LMDBEnvironment.Options(mapSizeBytes: capacity)
    options.withoutSync = true
    options.writeMap = true
    options.preallocate = true
    self.capacity = capacity
    environment = try LMDBEnvironment(path: path, options: options)
    tables = Tables(try environment.openTables(Tables.names, create: true))
  }

  var isEmpty: Bool { !filled.load(ordering: .acquiring) }

  func markFilled() { filled.store(true, ordering: .releasing) }

  var isNearlyFull: Bool {
    environment.statistics.usedBytes * 100 > capacity * StoreLimits.generationFillPercent
  }

  func source() throws(LMDBError) -> Source {
    Source(reader: try environment.reader(), tables: tables)
  }

  func removeFiles() {
    unsafe unlink(environment.path)
    unsafe unlink(environment.path + "-lock")
  }
}

final class Tail: Sendable {
  private struct Contents {
    var live: Generation
    /// Oldest first.
    var sealed: [Generation] = []
    var serial = 1
  }

  /// What the names of the files begin with.
  private let prefix: String
  /// The directory that holds nothing else; nil when the files have no names once they are open.
  private let directory: String?
  private let contents: Mutex<Contents>

  /// An empty tail. What an earlier process left in `directory` is removed: the log says it all.
  init(directory: String) throws {
    self.directory = directory
    prefix = "\(directory)/generation"
    try? FileManager.default.removeItem(atPath: directory)
    guard unsafe mkdir(directory, 0o750) == 0 else {
      let number = errno
      throw StoreError(
        StoreError.Code(errno: number), "cannot create the tail: \(describe(errno: number)).", path: directory)
    }
    let live = try Self.generation(prefix, 1, StoreLimits.smallestGenerationBytes, isNamed: true)
    contents = Mutex(Contents(live: live))
  }

  /// An empty tail whose files go with the process, however it ends: they lose their names as soon as they are open.
  init(unnamedIn temporaryDirectory: String) throws {
    directory = nil
    prefix = "\(temporaryDirectory)/kvsync-view-\(getpid())-\(UInt64.random(in: 0...UInt64.max))"
    let live = try Self.generation(prefix, 1, StoreLimits.smallestGenerationBytes, isNamed: false)
    contents = Mutex(Contents(live: live))
  }

  private static func generation(
    _ prefix: String, _ serial: Int, _ capacity: Int, isNamed: Bool
  ) throws -> Generation {
    let generation = try Generation(path: "\(prefix)-\(serial).mdb", capacity: capacity)
    if !isNamed { generation.removeFiles() }
    return generation
  }

  var live: Generation { contents.withLock { $0.live } }
  var sealedCount: Int { contents.withLock { $0.sealed.count } }
  var oldestSealed: Generation? { contents.withLock { $0.sealed.first } }
  /// The sealed generations and the live one, for when nothing is written any more.
  var oldestFirst: [Generation] { contents.withLock { $0.sealed + [$0.live] } }

  /// Readers of the live generation (if wanted), the sealed ones and the index (if given), newest first.
  func withSources(live: Bool, index: Index?) throws(LMDBError) -> [Source] {
    try contents.withLock { contents throws(LMDBError) in
      var sources: [Source] = []
      sources.reserveCapacity(contents.sealed.count + 2)
      if live, !contents.live.isEmpty { sources.append(try contents.live.source()) }
      for generation in contents.sealed.reversed() { sources.append(try generation.source()) }
      if let index { sources.append(try index.source()) }
      return sources
    }
  }

  /// Seals the live generation and opens the next one, with room for about `bytes` of log. A live generation that
  /// took nothing, so that a single group was too much for it, is replaced by one twice as large instead.
  func roll(room bytes: Int) throws {
    let (serial, previous) = contents.withLock { ($0.serial + 1, $0.live) }
    let least = max(previous.isEmpty ? previous.capacity * 2 : 0, Tail.capacity(for: bytes))
    let wanted = min(previous.capacity * StoreLimits.generationGrowth, StoreLimits.largestGenerationBytes)
    let next = try create(serial, capacity: max(least, wanted), atLeast: least)
    contents.withLock { contents in
      if previous.isEmpty { previous.removeFiles() } else { contents.sealed.append(previous) }
      contents.live = next
      contents.serial = serial
    }
  }

  /// On a disk that is nearly full a generation is as small as it can be.
  private func create(_ serial: Int, capacity: Int, atLeast least: Int) throws -> Generation {
    var capacity = capacity
    while true {
      do {
        return try Self.generation(prefix, serial, capacity, isNamed: directory != nil)
      } catch let error as LMDBError where error.isFull && capacity > least {
        capacity = max(least, capacity / StoreLimits.generationGrowth)
      }
    }
  }

  /// A map size that takes a group of `bytes` of log in all likelihood; a wrong guess is made good by a larger
  /// generation. Rows in random order leave pages half empty, those of a third of a page two thirds.
  static func capacity(for bytes: Int) -> Int {
    let page = 64 << 10
    return ((bytes * 3 + StoreLimits.smallestGenerationBytes) / page + 1) * page
  }

  /// Removes the oldest sealed generation after it was folded.
  func retire(_ generation: Generation) {
    contents.withLock { contents in
      precondition(contents.sealed.first === generation, "generations are folded oldest first")
      contents.sealed.removeFirst()
    }
    generation.removeFiles()
  }

  var diskBytes: Int {
    contents.withLock { contents in contents.sealed.reduce(contents.live.capacity) { $0 + $1.capacity } }
  }

  func removeFiles() {
    guard let directory else { return }
    contents.withLock { contents in
      contents.live.removeFiles()
      contents.sealed.forEach { $0.removeFiles() }
    }
    unsafe rmdir(directory)
  }
}
