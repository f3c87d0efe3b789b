// The newest commits by key, in small LMDB scratch files called generations, which all processes share.
//
// Invariants
// - One generation is live and takes writes; sealed ones, oldest first, wait for the folder. Those with a certificate
//   survive the end of all processes, if they go on where the index ends.
// - Which there are is said by the shared memory; this process opens and closes its own handles after it.
// - A snapshot's readers are taken newest first, and count only if no generation has come or gone meanwhile: then no
//   commit of a generation sealed after its reader was taken can have reached the index that it sees.
// - A generation's file loses its name only after the shared memory has stopped naming it, and numbers are never used
//   again: who finds a file under a number that is still named after opening it has found the right one.

import Foundation
import KVLog
import LMDB
import Synchronization

final class Tail: Sendable {
  private struct Contents {
    /// What `open` reflects.
    var known: SharedMemory.Generations
    var open: [UInt32: Generation]
  }

  let memory: SharedMemory
  /// What the names of the files begin with.
  private let prefix: String
  /// The directory that holds nothing else; nil when the files have no names once they are open.
  private let directory: String?
  private let largestBytes: Int
  /// The index's: what is folded goes there as it is.
  private let home: Identity
  private let contents: Mutex<Contents>

  /// The tail of the first process to open the store, and the state that it stands for: that of the index, or of the
  /// last of the generations that go on from there and are known to be durable. Whatever else lies in `directory` is
  /// removed: the log says it all.
  static func recovered(
    _ directory: String, after state: StoreState, home: Identity, largestBytes: Int
  ) throws -> (Tail, StoreState) {
    let chain = Certificate.chain(in: directory, prefix: prefix(directory), after: state)
    if let last = chain.last, let tail = try? Tail(directory, keeping: chain, home, largestBytes) {
      return (tail, last.after)
    }
    return (try Tail(directory, keeping: [], home, largestBytes), state)
  }

  private init(_ directory: String, keeping kept: [Certificate], _ home: Identity, _ largestBytes: Int) throws {
    self.home = home
    self.largestBytes = largestBytes
    self.directory = directory
    prefix = Tail.prefix(directory)
    let names = Set(kept.map { Tail.path("generation", $0.number) })
    if names.isEmpty {
      try? FileManager.default.removeItem(atPath: directory)
    } else {
      for name in try FileManager.default.contentsOfDirectory(atPath: directory)
      where !names.contains(name) && !names.contains(where: { Certificate.path(ofGenerationAt: $0) == name }) {
        try FileManager.default.removeItem(atPath: "\(directory)/\(name)")
      }
    }
    // What could not be removed must not be taken for something of ours.
    guard unsafe mkdir(directory, 0o750) == 0 || (errno == EEXIST && !names.isEmpty) else {
      let number = errno
      throw StoreError(
        StoreError.Code(errno: number), "cannot create the tail: \(describe(errno: number)).", path: directory)
    }
    let live = kept.last.map { $0.number + 1 } ?? 1
    memory = try SharedMemory(creating: Tail.memoryPath(directory), oldest: kept.first?.number ?? live, live: live)
    var sealed: [UInt32: Generation] = [:]
    for certificate in kept {
      memory.setCapacity(certificate.capacity, of: certificate.number)
      let generation = try Generation(
        joining: certificate.number, path: Tail.path(prefix, certificate.number), home: home, memory, verified: true)
      guard try Index.state(generation.source()) == certificate.after else {
        throw StoreError(.corrupt, "the generation is not what its certificate says.", path: directory)
      }
      generation.markFilled()
      sealed[certificate.number] = generation
    }
    var contents = try Tail.first(prefix, memory, home, largestBytes)
    contents.open.merge(sealed) { live, _ in live }
    self.contents = Mutex(contents)
  }

  /// The tail that the first process made.
  init(joining directory: String, home: Identity, largestBytes: Int) throws {
    self.home = home
    self.largestBytes = largestBytes
    self.directory = directory
    prefix = Tail.prefix(directory)
    memory = try SharedMemory(joining: Tail.memoryPath(directory))
    contents = Mutex(Contents(known: memory.generations, open: [:]))
    try contents.withLock { try refresh(&$0, isNew: true) }
  }

  /// An empty tail whose files go with the process, however it ends: they lose their names as soon as they are open.
  init(unnamedIn temporaryDirectory: String, home: Identity) throws {
    self.home = home
    directory = nil
    largestBytes = StoreLimits.largestGenerationBytes
    prefix = "\(temporaryDirectory)/kvsync-view-\(getpid())-\(UInt64.random(in: 0...UInt64.max))"
    memory = try SharedMemory()
    let first = try Tail.first(prefix, memory, home, largestBytes)
    first.open[first.known.live]?.removeFiles()
    contents = Mutex(first)
  }

  private static func prefix(_ directory: String) -> String { "\(directory)/generation" }
  static let sharedName = "shared"
  static func memoryPath(_ directory: String) -> String { "\(directory)/\(sharedName)" }

  static func path(_ prefix: String, _ number: UInt32) -> String { "\(prefix)-\(number).mdb" }

  /// Of which generation this is the file with `suffix`.
  static func number(ofFile name: String, suffix: String) -> UInt32? {
    let number = name.split(separator: "-").dropFirst().first?.split(separator: ".").first.flatMap { UInt32($0) }
    return number.flatMap { path("generation", $0) + suffix == name ? $0 : nil }
  }

  private static func first(
    _ prefix: String, _ memory: SharedMemory, _ home: Identity, _ largestBytes: Int
  ) throws -> Contents {
    let known = memory.generations
    let live = try Generation(
      creating: known.live, path: path(prefix, known.live),
      capacity: min(StoreLimits.smallestGenerationBytes, largestBytes), home: home, memory)
    return Contents(known: known, open: [known.live: live])
  }

  // MARK: Following the other processes

  /// Opens what has come and lets go of what has gone.
  func refresh() throws { try contents.withLock { try refresh(&$0) } }

  private func refresh(_ contents: inout Contents, isNew: Bool = false) throws {
    var present = memory.generations
    if !isNew, present == contents.known { return }
    while true {
      do {
        for number in present.numbers where contents.open[number] == nil {
          contents.open[number] = try Generation(
            joining: number, path: Tail.path(prefix, number), home: home, memory)
        }
        if memory.generations == present { break }
      } catch {
        // A generation that is gone by now could not be opened, or was made anew by opening it.
        if memory.generations == present { throw error }
      }
      let before = present.oldest
      present = memory.generations
      for number in before..<max(before, present.oldest) { Generation.remove(Tail.path(prefix, number)) }
    }
    contents.open = contents.open.filter { present.numbers.contains($0.key) }
    contents.known = present
  }

  /// The live generation.
  func live() throws -> Generation {
    try contents.withLock { contents in
      try refresh(&contents)
      return try generation(contents.known.live, contents)
    }
  }

  /// The generations to fold next, oldest first: the sealed ones; the live one too (if wanted), for when nothing is
  /// written any more.
  func oldestFirst(live: Bool) throws -> [Generation] {
    try contents.withLock { contents in
      try refresh(&contents)
      let numbers = live ? contents.known.numbers.upperBound + 1 : contents.known.numbers.upperBound
      return try (contents.known.oldest..<numbers).map { try generation($0, contents) }
    }
  }

  var sealedCount: Int { memory.generations.sealedCount }

  /// Whether the live generation may be sealed, and wait for the folder with the others.
  var maySeal: Bool {
    let generations = memory.generations
    return generations.sealedCount == 0
      || generations.sealedCount < StoreLimits.smallSealedGenerations
        && bytes(of: generations.oldest..<generations.live + 1) <= StoreLimits.sealedGenerations * largestBytes
  }

  /// Whether less than half of what may wait for the folder does so.
  var mayWaitForMore: Bool {
    let generations = memory.generations
    return share(of: generations.oldest..<generations.live) < 0.5
  }

  /// Of the sealed generations the oldest ones that a fold takes: half of what may wait, so that there is as much room
  /// for what comes meanwhile.
  func folding(_ sealed: [Generation]) -> [Generation] {
    let oldest = memory.generations.oldest
    let count = sealed.indices.prefix { share(of: oldest..<oldest + UInt32($0) + 1) <= Pace.largestFold }.count
    return Array(sealed.prefix(max(1, count)))
  }

  /// Whether writers are further ahead of the fold under way than it allows, given `bytes` of log that the tail lacks.
  func isAheadOfFold(_ bytes: Int) throws -> Bool {
    let fold = memory.fold
    guard fold.generations > 0 else { return false }
    let generations = memory.generations
    let folding = generations.oldest..<min(generations.oldest + UInt32(fold.generations), generations.live)
    let unsealed = try live().environment.statistics.usedBytes + bytes
    return Pace(folding: share(of: folding), done: fold.done)
      .isExceeded(by: share(of: generations.oldest..<generations.live, and: unsealed))
  }

  /// How much of what may wait for the folder these generations, and `bytes`, are; 1: all of it.
  private func share(of generations: Range<UInt32>, and bytes: Int = 0) -> Double {
    max(
      Double(generations.count) / Double(StoreLimits.smallSealedGenerations),
      Double(self.bytes(of: generations) + bytes) / Double(StoreLimits.sealedGenerations * largestBytes))
  }

  private func bytes(of generations: Range<UInt32>) -> Int {
    generations.reduce(0) { $0 + memory.capacity(of: $1) }
  }

  private func generation(_ number: UInt32, _ contents: Contents) throws -> Generation {
    guard let generation = contents.open[number] else {
      throw StoreError(.corrupt, "generation \(number) of the tail is missing. Close the store and open it again.")
    }
    return generation
  }

  /// Readers of the live generation (if wanted), the sealed ones and the index (if given), newest first.
  func withSources(live: Bool, index: Index?) throws -> [Source] {
    try contents.withLock { contents in
      while true {
        try refresh(&contents)
        var sources: [Source] = []
        sources.reserveCapacity(contents.known.sealedCount + 2)
        for number in contents.known.numbers.reversed() where live || number != contents.known.live {
          let generation = try generation(number, contents)
          if !generation.isEmpty { sources.append(try generation.source()) }
        }
        if let index { sources.append(try index.source()) }
        if memory.generations == contents.known { return sources }
      }
    }
  }

  /// The state as the tail and the index have it; nil when nothing was ever written.
  func state(_ index: Index) throws -> StoreState? {
    for source in try withSources(live: true, index: index) {
      if let state = try Index.state(source) { return state }
    }
    return nil
  }

  // MARK: Changing the list

  /// Seals the live generation and opens the next one, with room for about `bytes` of log; under the writer's lock. A
  /// live generation that took nothing, so that a single group was too much for it, is followed by one twice as large.
  /// `isPressed`: the disk is full, and a generation as small as the reserve is better than none.
  func roll(room bytes: Int, isPressed: Bool = false) throws {
    let previous = try live()
    if isPressed {
      let capacity = Tail.capacity(for: bytes, atLeast: StoreLimits.reservedGenerationBytes)
      return try enter(create(previous.number + 1, capacity: capacity, atLeast: capacity, leaving: 0), after: previous)
    }
    let room = bytes == 0 ? min(StoreLimits.smallestGenerationBytes, largestBytes) : Tail.capacity(for: bytes)
    let least = max(previous.isEmpty ? previous.capacity * 2 : 0, room)
    let wanted = min(previous.capacity * StoreLimits.generationGrowth, largestBytes)
    try enter(
      create(previous.number + 1, capacity: max(least, wanted), atLeast: least, leaving: diskBytes), after: previous)
  }

  /// As `roll(room:)`, for rows that take `bytes` of a tree filled in ascending order.
  func roll(filling bytes: Int) throws {
    let previous = try live()
    let page = 64 << 10
    let capacity = (bytes + bytes / 8 + StoreLimits.smallestGenerationBytes) / page * page
    try enter(create(previous.number + 1, capacity: capacity, atLeast: capacity, leaving: diskBytes), after: previous)
  }

  private func enter(_ next: Generation, after previous: Generation) throws {
    try contents.withLock { contents in
      contents.open[next.number] = next
      memory.addGeneration(after: previous.number)
      try refresh(&contents)
    }
  }

  /// On a disk that is nearly full a generation is as small as it can be. Beside itself it leaves room for folding it, and
  /// `bytes` for folding the others.
  private func create(
    _ number: UInt32, capacity: Int, atLeast least: Int, leaving bytes: Int
  ) throws -> Generation {
    guard memory.generations.sealedCount + 2 < SharedMemory.maximumGenerations else {
      throw StoreError(.full, "the tail has too many generations. Close the store and open it again.")
    }
    var capacity = capacity
    let free = bytes > 0 ? PosixFileSystem().freeBytes(directory ?? prefix) ?? .max : .max
    while UInt64(2 * capacity + bytes) > free {
      guard capacity > least else {
        throw StoreError(
          .full, "no space left on the device for more changes. Free some space; nothing was lost.", path: prefix)
      }
      capacity = max(least, capacity / StoreLimits.generationGrowth)
    }
    while true {
      do {
        let generation = try Generation(
          creating: number, path: Tail.path(prefix, number), capacity: capacity, home: home, memory)
        if directory == nil { generation.removeFiles() }
        return generation
      } catch let error as LMDBError where error.isFull && capacity > least {
        capacity = max(least, capacity / StoreLimits.generationGrowth)
      }
    }
  }

  /// A map size that takes a group of `bytes` of log in all likelihood; a wrong guess is made good by a larger
  /// generation. Rows in random order leave pages half empty, those of a third of a page two thirds.
  static func capacity(for bytes: Int, atLeast least: Int = StoreLimits.smallestGenerationBytes) -> Int {
    let page = 64 << 10
    return ((bytes * 3 + least) / page + 1) * page
  }

  /// Spares reads the search in sealed generations that do not have their key.
  func makeFilters() throws {
    for generation in try oldestFirst(live: false) { try generation.makeFilter() }
  }

  /// Makes sealed generations durable that are not, under the folding lock: the next process to open the store need not
  /// replay the log for them, whatever ends this one. They come oldest first, `state` is the index's; some may be in it.
  func certify(_ generations: some Sequence<Generation>, after state: StoreState) throws {
    guard directory != nil else { return }
    var before = state
    for generation in generations where !generation.isEmpty {
      guard let after = try Index.state(generation.source()) else { return }
      guard before.position.precedes(after.position) else { continue }
      let path = generation.environment.path
      if unsafe access(Certificate.path(ofGenerationAt: path), F_OK) != 0 {
        try generation.environment.synchronize()
        try Certificate(number: generation.number, capacity: generation.capacity, before: before, after: after)
          .write(forGenerationAt: path)
      }
      before = after
    }
  }

  /// From now on only the log counts: a generation turned out to be damaged.
  func revokeCertificates() {
    for number in memory.generations.numbers { Certificate.remove(ofGenerationAt: Tail.path(prefix, number)) }
  }

  /// Removes the oldest sealed generations after they were folded; under the folding lock.
  func retire(_ generations: [Generation]) throws {
    for generation in generations {
      memory.retire(generation.number)
      generation.removeFiles()
    }
    try refresh()
  }

  var diskBytes: Int {
    memory.generations.numbers.reduce(0) { $0 + memory.capacity(of: $1) }
  }

  /// When the last process closes the store.
  func removeFiles() {
    guard let directory else { return }
    try? FileManager.default.removeItem(atPath: directory)
  }
}
